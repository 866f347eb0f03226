package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"hash/maphash"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"usher/internal/api"
)

// upgradesWanted is how many upgrades TestUpgrades makes, unless USHER_TEST_UPGRADES says otherwise.
const upgradesWanted = 10

// Flows that are open during the upgrades.
const (
	idleFlows   = 600
	askingFlows = 280
	halfClosed  = 100
	streams     = 20
)

// TestUpgrades upgrades a running usher again and again under load, and also with binaries that fail in the dry run, die in
// it, or cannot go on once they have taken over. No flow is lost or changed, and nothing is left behind.
func TestUpgrades(t *testing.T) {
	if testing.Short() {
		t.Skip("it builds programs")
	}
	n := upgradesWanted
	if word := os.Getenv("USHER_TEST_UPGRADES"); word != "" {
		n, _ = strconv.Atoi(word)
	}
	u := startUpgraded(t)
	l := &load{t: t, tcp: u.tcp, late: u.late, udp: u.udp, stop: make(chan struct{})}
	before, pid := u.look(), u.cmd.Process.Pid
	l.open()
	done := 0
	for i := range n {
		name := []string{"usher", "usher", "fails", "usher", "dies", "usher", "broken", "usher", "usher", "panics"}[i%10]
		out, err := u.run("upgrade", "--binary", filepath.Join(u.folder, name))
		want := map[string]string{
			"usher": "upgraded: pid " + strconv.Itoa(pid), "fails": "cannot go on from here: the test says so",
			"dies": "cannot go on from here: signal: killed", "broken": "the old one did: the test says so", "panics": "the old one did: panic: the test says so (usher/internal/app.(*running).restoreSafely, successor.go:",
		}[name]
		if (err == nil) != (name == "usher") || !strings.Contains(out, want) {
			t.Fatalf("upgrade %d, to %s: %v, %s\n%s", i, name, err, out, u.log())
		}
		if err == nil {
			done++
		}
	}
	l.close()
	u.check(before, pid, done)
	u.end()
}

// upgraded is a running usher.
type upgraded struct {
	t              *testing.T
	folder         string
	cmd            *exec.Cmd
	logFile        string
	tcp, late, udp string
}

func startUpgraded(t *testing.T) *upgraded {
	u := &upgraded{t: t, folder: t.TempDir()}
	runtime, err := os.MkdirTemp("", "usher")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(runtime) })
	u.build("usher")
	bad := u.build("bad", "-overlay", u.overlay())
	for _, name := range []string{"fails", "dies", "broken", "panics"} {
		if err := os.Link(bad, filepath.Join(u.folder, name)); err != nil {
			t.Fatal(err)
		}
	}
	u.logFile = filepath.Join(u.folder, "log")
	log, err := os.Create(u.logFile)
	if err != nil {
		t.Fatal(err)
	}
	defer log.Close()
	u.cmd = exec.Command(filepath.Join(u.folder, "usher"), "--name", "up", "--workers", "2",
		"-l", "tcp=127.0.0.1:0", "-b", "tcp="+echoBackend(t, false), "-l", "late=127.0.0.1:0", "-b", "late="+echoBackend(t, true),
		"-l", "udp=udp://127.0.0.1:0", "-b", "udp="+udpBackend(t), "--health", "exec:sleep 2,interval=10s,timeout=10s")
	u.cmd.Env = append(os.Environ(), "XDG_RUNTIME_DIR="+runtime)
	u.cmd.Stderr = log
	if err := u.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = u.cmd.Process.Kill()
		_ = u.cmd.Wait()
	})
	var services []api.Service
	if !eventually(func() bool {
		out, err := u.run("ls", "-o", "json")
		var all api.Services
		if err == nil && json.Unmarshal([]byte(out), &all) == nil {
			services = all.Services
		}
		return len(services) == 3 && strings.Contains(u.log(), `"serving"`)
	}) {
		t.Fatal(u.log())
	}
	u.tcp, u.late, u.udp = services[0].Listen[0], services[1].Listen[0], strings.TrimPrefix(services[2].Listen[0], "udp://")
	return u
}

// build builds usher and returns the path.
func (u *upgraded) build(name string, flags ...string) string {
	u.t.Helper()
	path := filepath.Join(u.folder, name)
	cmd := exec.Command("go", slices.Concat([]string{"build", "-o", path}, flags, []string{"."})...)
	if out, err := cmd.CombinedOutput(); err != nil {
		u.t.Fatalf("%v:\n%s", err, out)
	}
	return path
}

// overlay replaces a source of usher by one that goes wrong as the name of the program says.
func (u *upgraded) overlay() string {
	u.t.Helper()
	source, err := filepath.Abs("internal/app/successor.go")
	if err != nil {
		u.t.Fatal(err)
	}
	text, err := os.ReadFile(source)
	if err != nil {
		u.t.Fatal(err)
	}
	for at, inserted := range map[string]string{
		"func answer(start *upgrade.Start, env Env) error {\n": `
	switch path, _ := os.Executable(); filepath.Base(path) {
	case "fails":
		return errors.New("the test says so")
	case "dies":
		_ = syscall.Kill(os.Getpid(), syscall.SIGKILL)
	}
`,
		"	r.control, err = control.Restore(r.controlOptions(), st.Control)\n": `
	switch path, _ := os.Executable(); filepath.Base(path) {
	case "broken":
		return l, errors.New("the test says so")
	case "panics":
		panic("the test says so")
	}
`,
		"import (\n": "\t\"errors\"\n",
	} {
		if bytes.Count(text, []byte(at)) != 1 {
			u.t.Fatalf("%s has %q not once", source, at)
		}
		text = bytes.Replace(text, []byte(at), []byte(at+inserted), 1)
	}
	with := filepath.Join(u.folder, "successor.go")
	overlay, err := json.Marshal(map[string]any{"Replace": map[string]string{source: with}})
	if err == nil {
		err = os.WriteFile(with, text, 0o600)
	}
	path := filepath.Join(u.folder, "overlay.json")
	if err == nil {
		err = os.WriteFile(path, overlay, 0o600)
	}
	if err != nil {
		u.t.Fatal(err)
	}
	return path
}

// run runs a command against the running usher.
func (u *upgraded) run(words ...string) (string, error) {
	cmd := exec.Command(filepath.Join(u.folder, "usher"), words...)
	cmd.Env = u.cmd.Env
	out, err := cmd.CombinedOutput()
	return string(out), err
}

func (u *upgraded) log() string {
	text, err := os.ReadFile(u.logFile)
	if err != nil {
		u.t.Error(err)
	}
	return string(text)
}

// leftovers are what might be left behind. Pipes are not among them: loops keep some, and programs of checks have some.
type leftovers struct {
	files, threads int
	limit          string
}

func (u *upgraded) look() (l leftovers) {
	u.t.Helper()
	proc := fmt.Sprintf("/proc/%d/", u.cmd.Process.Pid)
	files, err := os.ReadDir(proc + "fd")
	if err != nil {
		u.t.Fatal(err)
	}
	for _, f := range files {
		if to, err := os.Readlink(proc + "fd/" + f.Name()); err == nil && !strings.HasPrefix(to, "pipe:") {
			l.files++
		}
	}
	threads, err := os.ReadDir(proc + "task")
	if err != nil {
		u.t.Fatal(err)
	}
	limits, err := os.ReadFile(proc + "limits")
	if err != nil {
		u.t.Fatal(err)
	}
	for line := range strings.Lines(string(limits)) {
		if strings.HasPrefix(line, "Max open files") {
			l.limit = line
		}
	}
	l.threads = len(threads)
	return l
}

// zombies returns the children that have ended and that nobody has waited for.
func (u *upgraded) zombies() (pids []string) {
	tasks, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/children", u.cmd.Process.Pid))
	for _, file := range tasks {
		text, _ := os.ReadFile(file)
		for _, pid := range strings.Fields(string(text)) {
			if stat, err := os.ReadFile("/proc/" + pid + "/stat"); err == nil && strings.Contains(string(stat), ") Z ") {
				pids = append(pids, pid)
			}
		}
	}
	return pids
}

// Of a process at rest: a check or the connection of a command may be under way; threads stay once there was use for them.
const (
	slackFiles   = 3
	slackThreads = 20
)

// check compares the process with what it was. All flows have ended.
func (u *upgraded) check(before leftovers, pid, done int) {
	u.t.Helper()
	if out, err := u.run("ls", "-o", "wide"); err != nil || !strings.Contains(out, fmt.Sprintf("pid %d,", pid)) || !strings.Contains(out, fmt.Sprintf("upgrades %d", done)) {
		u.t.Errorf("%v, %s", err, out)
	}
	var now leftovers
	if !eventually(func() bool {
		now = u.look()
		return now.files <= before.files+slackFiles && now.threads <= before.threads+slackThreads && now.limit == before.limit
	}) {
		u.t.Errorf("before: %+v\nafter:  %+v", before, now)
	}
	// A program that has just ended is one until its check has reaped it.
	left := u.zombies()
	if len(left) > 0 && !eventually(func() bool {
		left = slices.DeleteFunc(u.zombies(), func(pid string) bool { return !slices.Contains(left, pid) })
		return len(left) == 0
	}) {
		u.t.Errorf("nobody waits for the processes %v", left)
	}
	if text := u.log(); strings.Contains(text, `"level":"warn"`) || strings.Contains(text, "backend down") {
		u.t.Errorf("logged\n%s", text)
	}
}

// end stops it.
func (u *upgraded) end() {
	u.t.Helper()
	if out, err := u.run("stop", "--now"); err != nil {
		u.t.Errorf("%v, %s", err, out)
	}
	if err := u.cmd.Wait(); err != nil {
		u.t.Errorf("%v\n%s", err, u.log())
	}
}

// echoBackend echoes. A late one echoes nothing before the client's FIN, and then a byte now and then.
func echoBackend(t *testing.T, isLate bool) string {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var serving sync.WaitGroup
	serving.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			serving.Go(func() {
				defer c.Close()
				if !isLate {
					_, _ = io.Copy(struct{ io.Writer }{c}, struct{ io.Reader }{c})
					return
				}
				text, err := io.ReadAll(c)
				for i := 0; err == nil && i < len(text); i++ {
					time.Sleep(20 * time.Millisecond)
					_, err = c.Write(text[i : i+1])
				}
			})
		}
	})
	t.Cleanup(func() { l.Close() })
	return l.Addr().String()
}

func udpBackend(t *testing.T) string {
	c, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	go func() {
		buffer := make([]byte, 2048)
		for {
			n, from, err := c.ReadFrom(buffer)
			if err != nil {
				return
			}
			_, _ = c.WriteTo(buffer[:n], from)
		}
	}()
	return c.LocalAddr().String()
}

// load is what flows while usher is upgraded. Every byte is compared.
type load struct {
	t              *testing.T
	tcp, late, udp string
	stop           chan struct{}
	running        sync.WaitGroup
	idle           []net.Conn
	rounds, bytes  atomic.Int64
	short, packets atomic.Int64
}

func (l *load) dial(address string) net.Conn {
	c, err := net.Dial("tcp", address)
	if err != nil {
		l.t.Error(err)
		return nil
	}
	return c
}

// open returns when all flows are there.
func (l *load) open() {
	for range idleFlows {
		c := l.dial(l.tcp)
		l.echo(c, "idle")
		l.idle = append(l.idle, c)
	}
	for range askingFlows {
		c := l.dial(l.tcp)
		l.echo(c, "asking")
		l.repeat(c, 100*time.Millisecond, func() bool { return l.echo(c, fmt.Sprint("asking ", rand.Int64())) && l.rounds.Add(1) > 0 })
	}
	for range halfClosed {
		c := l.dial(l.late)
		l.running.Go(func() { l.halfClose(c) })
	}
	for range streams {
		c := l.dial(l.tcp)
		l.echo(c, "stream")
		l.running.Go(func() { l.stream(c) })
	}
	for range 2 {
		l.repeat(nil, 5*time.Millisecond, func() bool {
			c := l.dial(l.tcp)
			if c == nil {
				return false
			}
			defer c.Close()
			return l.echo(c, "short") && l.short.Add(1) > 0
		})
	}
	c, err := net.Dial("udp", l.udp)
	if err != nil {
		l.t.Fatal(err)
	}
	l.repeat(c, 5*time.Millisecond, func() bool { return l.echo(c, fmt.Sprint("packet ", rand.Int64())) && l.packets.Add(1) > 0 })
}

// repeat repeats something until the end, or until it fails.
func (l *load) repeat(c io.Closer, pause time.Duration, do func() bool) {
	l.running.Go(func() {
		if c != nil {
			defer c.Close()
		}
		for {
			select {
			case <-l.stop:
				return
			case <-time.After(pause):
			}
			if !do() {
				return
			}
		}
	})
}

// echo sends a text and reads it again.
func (l *load) echo(c net.Conn, text string) bool {
	if c == nil {
		return false
	}
	_ = c.SetDeadline(time.Now().Add(patience))
	got := make([]byte, len(text))
	_, err := io.WriteString(c, text)
	if err == nil {
		_, err = io.ReadFull(c, got)
	}
	if err != nil || string(got) != text {
		l.t.Errorf("%s: got %q, %v", text, got, err)
		return false
	}
	return true
}

// halfClose sends a text and a FIN, and reads the text byte by byte; again and again, so that some are always half-closed.
func (l *load) halfClose(c net.Conn) {
	for {
		text := strings.Repeat("0123456789", 5+rand.IntN(5))
		_ = c.SetDeadline(time.Now().Add(patience))
		_, err := io.WriteString(c, text)
		if err == nil {
			err = c.(*net.TCPConn).CloseWrite()
		}
		var got []byte
		if err == nil {
			got, err = io.ReadAll(c)
		}
		c.Close()
		if err != nil || string(got) != text {
			l.t.Errorf("half-closed: got %d bytes of %d, %v", len(got), len(text), err)
			return
		}
		select {
		case <-l.stop:
			return
		default:
		}
		if c = l.dial(l.late); c == nil {
			return
		}
	}
}

// stream sends as much as it may, in bursts, and compares what comes back.
func (l *load) stream(c net.Conn) {
	defer c.Close()
	_ = c.SetDeadline(time.Time{})
	seed := maphash.MakeSeed()
	var up, down maphash.Hash
	up.SetSeed(seed)
	down.SetSeed(seed)
	var sent, got int64
	var reading sync.WaitGroup
	reading.Go(func() {
		n, err := io.Copy(&down, struct{ io.Reader }{c})
		if got = n; err != nil {
			l.t.Errorf("stream: after %d bytes: %v", n, err)
		}
	})
	piece := make([]byte, 1<<20)
	for i := range piece {
		piece[i] = byte(rand.Uint32())
	}
	for isOver := false; !isOver; {
		n, err := c.Write(piece)
		up.Write(piece[:n])
		if sent += int64(n); err != nil {
			l.t.Errorf("stream: after %d bytes: %v", sent, err)
			break
		}
		select {
		case <-l.stop:
			isOver = true
		case <-time.After(200 * time.Millisecond):
		}
	}
	if err := c.(*net.TCPConn).CloseWrite(); err != nil {
		l.t.Error(err)
	}
	reading.Wait()
	if sent != got || up.Sum64() != down.Sum64() {
		l.t.Errorf("stream: %d bytes of %d came back, or others", got, sent)
	}
	l.bytes.Add(got)
}

// close looks at the flows that were idle, ends all, and waits for them.
func (l *load) close() {
	for _, c := range l.idle {
		l.echo(c, "still here")
	}
	close(l.stop)
	l.running.Wait()
	for _, c := range l.idle {
		c.Close()
	}
	l.t.Logf("%d round trips, %d short flows, %d datagrams, %d MB streamed", l.rounds.Load(), l.short.Load(), l.packets.Load(), l.bytes.Load()>>20)
	if l.rounds.Load() == 0 || l.short.Load() == 0 || l.packets.Load() == 0 {
		l.t.Error("there was no load")
	}
}
