package app

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"os/signal"
	"sync"
	"syscall"
	"time"

	"usher/internal/config"
	"usher/internal/demo"
)

// demoDrain bounds how long the demo's clients may take to leave, and its backends to end.
const demoDrain = 2 * time.Second

// Demo runs small HTTP backends, a service before them, some clients, and a live view. It ends with a signal or with
// ctx. The options of cfg's one service hold; its addresses are replaced.
func Demo(ctx context.Context, cfg *config.Config, env Env) error {
	defer ignorePipe()()
	screen := isTerminal(env.Stdout) && os.Getenv("TERM") != "dumb"
	// A demo without a viewer has no purpose: a pipe whose reader has closed ends it.
	ctx, unseen := context.WithCancel(ctx)
	defer unseen()
	out := newAsyncWriter(env.Stdout, nil, func(error) { unseen() })
	defer out.close()
	stop := watchSignals(ctx, false, signal.Ignored(syscall.SIGHUP))
	defer stop.release()

	backends, err := demo.Start([]int{9001, 9002, 9003}) // or on others, if these are taken
	if err != nil {
		return err
	}
	defer func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), demoDrain)
		defer cancel()
		backends.Close(ctx)
	}()

	var run *running
	rows := func() []demo.Row { return run.demoRows() }
	view := demo.NewView(out, screen, rows)
	if os.Getenv("NO_COLOR") != "" {
		view.NoColour()
	}
	if screen && isTerminal(env.Stderr) {
		env.Stderr = view // the log must not write into the live lines
		cfg.Process.LogFormat = "console"
	}
	cfg.Process.DrainTimeout = demoDrain
	log, logOut := openLog(cfg.Process, env.Stderr)
	defer logOut.close()
	run, err = startDemo(cfg, backends.Addrs(), log, stop, env)
	if err != nil {
		if stop.drain.Err() != nil {
			return nil
		}
		return err
	}
	address := run.control.Services()[0].Listen[0]
	fmt.Fprintf(out, demoText, len(backends.Addrs()), address, cfg.Services[0].Scheduler)

	// The view outlives the clients and the service, so that its last frame shows how it ended.
	var watching sync.WaitGroup
	viewing, blind := context.WithCancel(context.WithoutCancel(ctx))
	watching.Go(func() { view.Run(viewing) })
	demo.Traffic(stop.drain, address)
	run.terminal = screen
	run.end(stop.cut)
	blind()
	watching.Wait()
	return nil
}

const demoText = `%d backends behind http://%s, scheduler %s. Try, again and again:

  curl http://%[2]s

or open it in a browser. A few clients are connected already. Ctrl-C ends it.

`

// startDemo starts the one service of cfg on the demo's usual port, or on one that the kernel chooses.
func startDemo(cfg *config.Config, backends []netip.AddrPort, log *logger, stop *stopper, env Env) (*running, error) {
	s := cfg.Services[0]
	s.Backends = nil
	for _, b := range backends {
		s.Backends = append(s.Backends, config.Backend{Weight: 1, Addr: tcpAddr(b)})
	}
	start := func(port uint16) (*running, error) {
		s := s.Clone()
		s.Listeners = []config.Addr{tcpAddr(netip.AddrPortFrom(netip.MustParseAddr("127.0.0.1"), port))}
		run := newRunning(Start{Services: []*config.Service{s}}, settings{process: cfg.Process}, log, stop, env)
		return run, run.start(stop.drain)
	}
	run, err := start(8080)
	if errors.Is(err, syscall.EADDRINUSE) || errors.Is(err, syscall.EACCES) {
		run, err = start(0)
	}
	return run, err
}

func tcpAddr(at netip.AddrPort) config.Addr {
	return config.Addr{Network: config.TCP, IP: at.Addr(), Port: at.Port(), Ports: 1}
}

// demoRows is what the view shows now.
func (r *running) demoRows() []demo.Row {
	backends := r.control.Services()[0].Backends
	rows := make([]demo.Row, len(backends))
	for i, b := range backends {
		rows[i] = demo.Row{Name: fmt.Sprintf("backend-%d", i+1), Address: b.Address, Status: b.Status, Active: b.Active, Total: b.Total}
	}
	return rows
}
