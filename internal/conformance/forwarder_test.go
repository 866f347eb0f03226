//go:build linux

package conformance_test

import (
	"encoding/json"
	"errors"
	"io"
	"net"
	"net/netip"
	"os"
	"os/signal"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"usher/internal/conformance"
)

// The forwarder is a plain proxy for testing the suite: the test binary run again. It
// has two goroutines for each TCP flow and one for each UDP flow. It behaves correctly
// except for the one flaw that it is given.

const (
	forwarderEnv     = "CONFORMANCE_FORWARDER"
	forwarderFileEnv = "CONFORMANCE_FORWARDER_FILE" // with the order after a hangup
)

type forwarderOrder struct {
	Config conformance.Config
	Flaw   string
}

// flawed is the Target of a forwarder.
type flawed string

func (f flawed) Name() string    { return "forwarder " + string(f) }
func (f flawed) Version() string { return "" }
func (f flawed) Notes() []string { return nil }
func (f flawed) Command(c *conformance.C, cfg conformance.Config) conformance.Command {
	text := func(cfg conformance.Config) string {
		order, err := json.Marshal(forwarderOrder{cfg, string(f)})
		c.Must(err)
		return string(order)
	}
	self, err := os.Executable()
	c.Must(err)
	command := conformance.Command{
		Path: self, Env: []string{forwarderEnv + "=" + text(cfg)},
		Drain: syscall.SIGTERM, Stop: syscall.SIGTERM,
	}
	if cfg.Reloads {
		command.File, command.Text, command.Reload = filepath.Join(c.TempDir(), "order"), text, syscall.SIGHUP
		command.Env = append(command.Env, forwarderFileEnv+"="+command.File)
	}
	return command
}

type forwarder struct {
	forwarderOrder
	next   atomic.Uint64
	pool   atomic.Pointer[pool]
	door   *door
	flows  sync.WaitGroup
	count  atomic.Int64
	serial sync.Mutex
	mu     sync.Mutex
	shared []byte   // for the flaw of that name
	kept   [][]byte // for the flaw "memory"
}

func runForwarder(order string) {
	f := &forwarder{shared: make([]byte, 32<<10)}
	if err := json.Unmarshal([]byte(order), &f.forwarderOrder); err != nil {
		panic(err)
	}
	if f.Config.Listen[0].Network == "udp" {
		runUDPForwarder(f.forwarderOrder)
		return
	}
	f.pool.Store(newPool(f.forwarderOrder))
	f.door = newDoor(f.forwarderOrder)
	f.door.places = &f.count
	var listeners []net.Listener
	for _, l := range f.Config.Listen {
		for i := range max(1, l.Ports) {
			host := l.Host
			network := "tcp"
			switch host {
			case "*":
				host = ""
			case "::":
				network = "tcp6"
			}
			ln, err := net.Listen(network, net.JoinHostPort(host, strconv.Itoa(l.Port+i)))
			if err != nil {
				panic(err)
			}
			listeners = append(listeners, ln)
			go f.accept(ln)
		}
	}
	signals := make(chan os.Signal, 2)
	signal.Notify(signals, syscall.SIGTERM, syscall.SIGHUP)
	for <-signals == syscall.SIGHUP {
		f.reload()
	}
	if f.Flaw == "dies-at-once" {
		syscall.Exit(0) // os.Exit lingers for a second under the race detector
	}
	if f.Flaw != "keeps-listening" {
		for _, ln := range listeners {
			ln.Close()
		}
	}
	done := make(chan struct{})
	go func() {
		f.flows.Wait()
		close(done)
	}()
	deadline := time.After(f.Config.DrainTimeout)
	if f.Flaw == "never-cuts" {
		deadline = nil
	}
	select {
	case <-done:
	case <-deadline:
	case <-signals:
	}
	if f.Flaw == "exits-with-1" {
		os.Exit(1)
	}
}

// reload reads the order anew. Only its backends may be others.
func (f *forwarder) reload() {
	text, err := os.ReadFile(os.Getenv(forwarderFileEnv))
	var next forwarderOrder
	if err == nil {
		err = json.Unmarshal(text, &next)
	}
	switch {
	case err != nil && f.Flaw == "dies-of-a-bad-file":
		syscall.Exit(1)
	case err != nil:
		os.Stderr.WriteString(err.Error() + "\n")
		return
	case f.Flaw == "restarts":
		os.Setenv(forwarderEnv, string(text))
		syscall.Exec("/proc/self/exe", os.Args, os.Environ())
	}
	f.pool.Store(newPool(next))
	f.door.access.Store(&next.Config.Access)
}

func (f *forwarder) accept(ln net.Listener) {
	for {
		conn, err := ln.Accept()
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil {
			if f.Flaw != "spins" {
				time.Sleep(50 * time.Millisecond)
			}
			continue
		}
		f.flows.Add(1)
		go func() {
			defer f.flows.Done()
			f.flow(conn.(*net.TCPConn))
		}()
	}
}

func (f *forwarder) flow(client *net.TCPConn) {
	n := f.count.Add(1)
	defer f.count.Add(-1)
	if limit := f.Config.MaxConns; limit > 0 && int(n) > limit && f.Flaw != "no-limit" {
		reset(client)
		return
	}
	g, isIn := f.door.enter(client)
	if !isIn {
		return
	}
	defer g.leave()
	switch f.Flaw {
	case "memory":
		f.mu.Lock()
		f.kept = append(f.kept, []byte(strings.Repeat("x", 16<<10)))
		f.mu.Unlock()
	case "threads":
		if f.next.Add(1)%50 == 0 {
			go func() {
				runtime.LockOSThread()
				select {}
			}()
		}
	case "serial":
		f.serial.Lock()
	}
	backend, release := f.connect(client, g)
	if f.Flaw == "serial" {
		f.serial.Unlock()
	}
	if backend == nil {
		if f.Flaw == "holds-the-refused" {
			select {}
		}
		reset(client)
		return
	}
	defer release()
	backend.Write(append(f.door.header(f.door.access.Load(), g), g.head...))
	f.relay(client, backend)
}

// connect tries the backends, each for half a second.
func (f *forwarder) connect(client *net.TCPConn, g guest) (*net.TCPConn, func()) {
	if g.backend != "" {
		conn, err := net.DialTimeout("tcp", g.backend, 5*time.Second)
		if err != nil {
			return nil, nil
		}
		return conn.(*net.TCPConn), func() {}
	}
	var queued time.Time
	pool := f.pool.Load()
	for held := time.Now(); ; time.Sleep(20 * time.Millisecond) {
		var tried []int
		for f.Flaw != "no-failover" || len(tried) == 0 {
			b, busy := pool.choose(addrPort(g.from).Addr(), tried)
			if busy && f.Config.QueueLength > 0 {
				if queued.IsZero() {
					queued = time.Now()
				}
				if !pool.wait(client, queued) {
					return nil, nil
				}
				continue
			}
			if b < 0 {
				break
			}
			tried = append(tried, b)
			conn, err := net.DialTimeout("tcp", f.address(pool.backends[b].Addr, client.LocalAddr()), 500*time.Millisecond)
			if err == nil {
				return conn.(*net.TCPConn), func() { pool.release(b) }
			}
			pool.release(b)
		}
		if time.Since(held) >= f.Config.Wait {
			return nil, nil
		}
	}
}

// address returns the address of a backend. For a range it is the port that matches
// the listener's.
func (f forwarderOrder) address(backend string, at net.Addr) string {
	host, port, _ := net.SplitHostPort(backend)
	if !strings.Contains(port, "-") {
		return backend
	}
	p := netip.MustParseAddrPort(at.String()).Port()
	if f.Flaw == "next-port" {
		p ^= 1
	}
	return net.JoinHostPort(host, strconv.Itoa(int(p)))
}

func (f *forwarder) relay(client, backend *net.TCPConn) {
	last := new(atomic.Int64)
	last.Store(time.Now().UnixNano())
	halfClosed := new(atomic.Bool)
	both := func() {
		client.Close()
		backend.Close()
	}
	if f.Flaw == "resets-what-is-left" {
		both = func() {
			reset(client)
			reset(backend)
		}
		watch := time.NewTicker(10 * time.Millisecond)
		defer watch.Stop()
		go func() {
			for range watch.C {
				if isBroken(client) || isBroken(backend) {
					both()
					return
				}
			}
		}()
	}
	if idle := f.Config.IdleTimeout; idle > 0 && f.Flaw != "never-idle" {
		stop := time.NewTicker(20 * time.Millisecond)
		defer stop.Stop()
		go func() {
			for range stop.C {
				if time.Since(time.Unix(0, last.Load())) > idle {
					both()
					return
				}
			}
		}()
	}
	if age := f.Config.MaxAge; age > 0 && f.Flaw != "never-ages" {
		if f.Flaw == "ages-all" {
			age = time.Duration(f.next.Add(1)%20) * 100 * time.Microsecond
		}
		defer time.AfterFunc(age, both).Stop()
	}
	var ways sync.WaitGroup
	for _, way := range []struct {
		from, to *net.TCPConn
		counts   bool
	}{{client, backend, true}, {backend, client, f.Flaw != "only-clients-count"}} {
		ways.Go(func() {
			err := f.copy(way.to, way.from, func() {
				if way.counts {
					last.Store(time.Now().UnixNano())
				}
			})
			switch {
			case errors.Is(err, syscall.ECONNRESET) && f.Flaw != "reset-becomes-end":
				reset(way.to)
				way.from.Close()
			case err == nil && f.Flaw != "no-half-close":
				if f.Flaw == "leaks" && way.from == client {
					select {} // neither passed on nor closed
				}
				way.to.CloseWrite()
				if t := f.Config.HalfCloseTimeout; t > 0 && f.Flaw != "half-closed-for-ever" && !halfClosed.Swap(true) {
					time.AfterFunc(t, both)
				}
			default:
				both()
			}
		})
	}
	ways.Wait()
	both()
}

// copy moves bytes until the end of from, which is no error.
func (f *forwarder) copy(to, from *net.TCPConn, moved func()) error {
	if f.Flaw == "hoards" {
		return hoard(to, from)
	}
	buf := make([]byte, 32<<10)
	if f.Flaw == "one-buffer-for-all" {
		buf = f.shared
	}
	total := 0
	for {
		n, err := from.Read(buf)
		if f.Flaw == "reset-first" && n > 1000 {
			time.Sleep(time.Millisecond)
			if isBroken(from) {
				return syscall.ECONNRESET
			}
		}
		if f.Flaw == "corks" && n < 4096 {
			time.Sleep(40 * time.Millisecond)
		}
		if f.Flaw == "corks-the-tail" && n < len(buf) && total > 100<<10 {
			time.Sleep(40 * time.Millisecond)
		}
		if at := 5_000_000 - total; f.Flaw == "flips-a-bit" && at >= 0 && at < n {
			buf[at] ^= 1
		}
		total += n
		if f.Flaw == "one-buffer-for-all" {
			runtime.Gosched() // another flow reads
		}
		if n > 0 {
			moved()
			if _, err := to.Write(buf[:n]); err != nil {
				return err
			}
		}
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
	}
}

func reset(conn *net.TCPConn) {
	conn.SetLinger(0)
	conn.Close()
}

func isBroken(conn *net.TCPConn) bool {
	raw, err := conn.SyscallConn()
	if err != nil {
		return true
	}
	code := 0
	raw.Control(func(fd uintptr) { code, _ = syscall.GetsockoptInt(int(fd), syscall.SOL_SOCKET, syscall.SO_ERROR) })
	return code != 0
}

// hoard reads as fast as bytes come and keeps those that the other side does not
// accept.
func hoard(to, from *net.TCPConn) error {
	var mu sync.Mutex
	var waiting [][]byte
	var end error
	go func() {
		for buf := make([]byte, 256<<10); ; {
			n, err := from.Read(buf)
			mu.Lock()
			waiting, end = append(waiting, slices.Clone(buf[:n])), err
			mu.Unlock()
			if err != nil {
				return
			}
		}
	}()
	for {
		mu.Lock()
		next, err := waiting, end
		waiting = nil
		mu.Unlock()
		for _, b := range next {
			if _, err := to.Write(b); err != nil {
				return err
			}
		}
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		time.Sleep(time.Millisecond)
	}
}
