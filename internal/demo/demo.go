package demo

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"usher/internal/api"
	"usher/internal/config"
	"usher/internal/figures"
	"usher/internal/terminal"
)

// endMost bounds how long backends may take to end, and the child to notice that its
// clients have gone.
const endMost = 2 * time.Second

// Options are what a demo begins with.
type Options struct {
	Service    *config.Service // its options; its addresses are replaced
	Flags      []string        // of the child, beyond those of the demo
	Executable string          // the path of usher
	Command    string          // what the user types for usher
	Out        io.Writer       // never waits
	Log        io.Writer       // of the child
	Screen     *os.File        // the terminal behind Out, on which lines can be live; nil: there is none
	LogsToView bool            // Log is the same terminal
	Cut        context.Context // its end kills the child
}

// Run runs the demo until ctx ends, a key ends it, or the child has ended.
func Run(ctx context.Context, o Options) error {
	backends, err := Start([]int{9001, 9002, 9003, 9004}) // or on others, if these are taken
	if err != nil {
		return err
	}
	defer func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), endMost)
		defer cancel()
		backends.Close(ctx)
	}()
	// A demo that is killed leaves a file there, where the system removes it at the user's logout.
	base := api.Folder()
	if api.MakeFolder(base) != nil {
		base = "" // the folder for temporary files
	}
	folder, err := os.MkdirTemp(base, "demo-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(folder)
	d := &run{Options: o, backends: backends, plan: &plan{path: filepath.Join(folder, "usher.yaml"), service: o.Service, size: len(backends) - 1}}
	d.view = NewView(o.Out, d.size(), &d.look, func(ctx context.Context) Frame { return d.watcher.look(ctx) })
	if d.child, err = d.start(ctx, folder); err != nil {
		if ctx.Err() != nil {
			return nil // ended before the start was done
		}
		return fmt.Errorf("the demo cannot start its usher: %w", err)
	}
	defer d.child.End(o.Cut)
	return d.serve(ctx)
}

// run is a demo that runs.
type run struct {
	Options
	backends Backends
	plan     *plan
	child    *Child
	look     Look
	view     *View
	watcher  watcher
	operator operator
}

// size returns how the view gets to know the size of the screen; nil: there is none.
func (d *run) size() func() (width, height int) {
	if d.Screen == nil {
		return nil
	}
	d.look.HasColour, d.look.IsUTF8 = terminal.HasColour(d.Screen), terminal.IsUTF8()
	return func() (width, height int) { return terminal.Size(d.Screen) }
}

// place is where a child listens.
type place struct {
	port uint16
	name string // of its control socket; empty: it has a path of its own
}

// start starts the child on the usual port and under the usual name, or where these are
// taken on a port that the kernel chooses and under a name that nobody else has.
func (d *run) start(ctx context.Context, folder string) (*Child, error) {
	usual, other := place{8080, "demo"}, place{0, fmt.Sprintf("demo-%d", os.Getpid())}
	if filepath.Dir(folder) != api.Folder() {
		usual.name, other.name = "", ""
	}
	if ln, err := listen(int(usual.port)); err == nil {
		if ln.Addr().String() != local(int(usual.port)) {
			usual.port = 0
		}
		ln.Close()
	}
	running, err := api.Instances(ctx)
	for _, i := range running {
		if err == nil && i.Name == usual.name {
			usual.name = other.name
		}
	}
	child, err := d.startAt(ctx, folder, usual)
	if err != nil && usual != other && ctx.Err() == nil {
		child, err = d.startAt(ctx, folder, other)
	}
	return child, err
}

func (d *run) startAt(ctx context.Context, folder string, at place) (*Child, error) {
	listener, err := config.ParseListener(local(int(at.port)))
	if err != nil {
		return nil, err
	}
	d.plan.service.Listeners = []config.Addr{listener}
	if err := d.plan.write(d.backends.Addrs()); err != nil {
		return nil, err
	}
	words := []string{"serve", "--config=" + d.plan.path, "--admin=127.0.0.1:0"}
	socket := filepath.Join(folder, "usher"+api.Extension)
	if at.name == "" {
		words = append(words, "--control="+socket)
	} else {
		words = append(words, "--name="+at.name)
		socket = filepath.Join(api.Folder(), at.name+api.Extension)
	}
	log := d.Log
	if d.LogsToView {
		log = d.view
	}
	return startChild(ctx, d.Executable, append(words, d.Flags...), socket, log)
}

// serve does what a demo does around a child that serves.
func (d *run) serve(ctx context.Context) error {
	process, err := d.child.Process(ctx)
	services, err2 := d.child.Services(ctx)
	if err = errors.Join(err, err2); err != nil {
		return err
	}
	address := services.Services[0].Listen[0]
	load, kept := NewLoad(address), NewKept(address, d.backends)
	d.watcher = watcher{child: d.child, backends: d.backends, load: load, kept: kept}
	d.operator = operator{
		usher: d.child, pid: d.child.PID, plan: d.plan, backends: d.backends, load: load, kept: kept,
		back: make(map[int]time.Time),
		tell: func(line string) { fmt.Fprintln(d.view, line) },
	}
	canUpgrade := process.Engine == "epoll"
	keys := d.openKeys(canUpgrade)
	defer keys.close()
	d.introduce(process, services.Services[0], keys.isOpen(), canUpgrade)

	ctx, quit := context.WithCancel(ctx)
	defer quit()
	var clients, operating, viewing sync.WaitGroup
	begin := func(group *sync.WaitGroup, f func()) { group.Go(func() { keys.guard(f) }) }
	begin(&clients, func() { load.Run(ctx) })
	begin(&clients, func() { kept.Run(ctx) })
	begin(&operating, func() { d.operator.run(ctx, keys.pressed) })
	begin(&operating, func() { keys.run(ctx, quit, script(d.plan.size, canUpgrade)) })
	begin(&viewing, func() { d.view.Run(ctx) })
	select {
	case <-ctx.Done():
	case <-d.child.Done():
	}
	quit()
	clients.Wait()
	operating.Wait()
	viewing.Wait()
	keys.close()
	return d.conclude()
}

// conclude shows how it has ended.
func (d *run) conclude() error {
	ctx, cancel := context.WithTimeout(d.Cut, endMost)
	defer cancel()
	for p, err := d.child.Process(ctx); err == nil && p.Flows > 0; p, err = d.child.Process(ctx) {
		wait(ctx, startLook)
	}
	d.watcher.hasEnded = true
	d.view.Show(ctx)
	d.view.End()
	fmt.Fprintln(d.Out, d.summary())
	select {
	case <-d.child.Done():
		if err := d.child.Exit(); err != nil {
			return fmt.Errorf("the usher of the demo has ended by itself: %w", err)
		}
		fmt.Fprintln(d.Out, "The usher was stopped from elsewhere, and the demo ends with it.")
	default:
	}
	return nil
}

// summary is what the demo says last, in lines that 80 columns hold.
func (d *run) summary() string {
	f, done := &d.watcher.frame, d.operator.done
	text := fmt.Sprintf("%d requests, failed clients: %d.", f.Load.Answered, f.failed())
	if done.upgrades+done.reloads == 0 {
		return text
	}
	through := fmt.Sprintf("%s and %s", figures.Count(done.upgrades, "upgrade"), figures.Count(done.reloads, "reload"))
	if done.lost > 0 {
		return fmt.Sprintf("%s\n%s lost through %s.", text, figures.Count(done.lost, "connection"), through)
	}
	return fmt.Sprintf("%s\nEvery connection was kept through %s.", text, through)
}

// What the keys do.
const (
	keyKill    = "  1 2 3   kill a backend, as kill -9 does; again, or 10s later, it comes back\n"
	keyReload  = "  r       reload the config file, with one backend more, or with one less\n"
	keyUpgrade = "  u       upgrade: a new program in the same process, every connection stays\n"
	keyQuit    = "  q       quit\n"
)

// introduce says what runs, and what to try. With the live lines it is one screen.
func (d *run) introduce(p api.Process, s api.Service, hasKeys, canUpgrade bool) {
	var b strings.Builder
	fmt.Fprintf(&b, "%s run behind http://%s, scheduler %s; usher is pid %d.\n"+
		"Open it in a browser, or try in another terminal:\n\n", figures.Count(len(s.Backends), "backend"), s.Listen[0], s.Scheduler, p.PID)
	fmt.Fprintf(&b, "  curl http://%s\n  %s ls%s      (or top, flows, events)\n", s.Listen[0], d.Command, d.which(p))
	upgrade := ""
	if hasKeys {
		if canUpgrade {
			upgrade = keyUpgrade
		}
		b.WriteString("\nKeys\n" + keyKill + keyReload + upgrade + keyQuit)
	} else {
		if canUpgrade {
			upgrade = ", usher is upgraded"
		}
		fmt.Fprintf(&b, "\nEvery 5s a backend is killed, it comes back, the config file is reloaded%s.\nCtrl-C ends it.\n", upgrade)
	}
	fmt.Fprintf(&b, "\nWatch usher in a browser: http://%s/\n\n", p.Admin)
	_, _ = io.WriteString(d.Out, b.String())
}

// which is what commands need to find this usher.
func (d *run) which(p api.Process) string {
	if filepath.Dir(d.child.Path()) != api.Folder() {
		return " --control " + d.child.Path()
	}
	if running, err := api.Instances(context.Background()); err == nil && len(running) == 1 {
		return ""
	}
	return " --name " + p.Name
}
