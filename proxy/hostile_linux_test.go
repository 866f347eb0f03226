package proxy

import (
	"bytes"
	"crypto/sha256"
	"io"
	"maps"
	"net"
	"net/netip"
	"os"
	"slices"
	"testing"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"usher/conntrack"
	"usher/proxy/flow"
)

// fullBacklog listens on a unix socket whose backlog is full until release.
func fullBacklog(t *testing.T, path string) (ln net.Listener, release func()) {
	t.Helper()
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	f := os.NewFile(uintptr(fd), path)
	defer f.Close()
	if err := unix.Bind(fd, &unix.SockaddrUnix{Name: path}); err != nil {
		t.Fatal(err)
	}
	if err := unix.Listen(fd, 0); err != nil {
		t.Fatal(err)
	}
	if ln, err = net.FileListener(f); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { ln.Close() })
	var queued []net.Conn
	for {
		c, err := net.Dial("unix", path)
		if err != nil {
			break
		}
		queued = append(queued, c)
	}
	return ln, func() {
		for _, c := range queued {
			c.Close()
		}
	}
}

// sendUrgent sends one byte of urgent data. What the receiver gets is the rest.
func sendUrgent(t *testing.T, c *net.TCPConn) {
	t.Helper()
	raw, err := c.SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	_ = raw.Write(func(fd uintptr) bool {
		err = unix.Sendto(int(fd), []byte{'!'}, unix.MSG_OOB, nil)
		return err != unix.EAGAIN
	})
	if err != nil {
		t.Fatal(err)
	}
}

// TestUrgentDataStopsNothing: a read stops at the mark of urgent data, and so
// does a splice. What comes behind it must arrive all the same.
func TestUrgentDataStopsNothing(t *testing.T) {
	t.Parallel()
	for _, size := range []int{3, 8 << 20} {
		eachEngine(t, func(t *testing.T, engine string) {
			sum := make(chan [32]byte, 1)
			s, addr := start(t, Options{Engine: engine, Workers: 1}, service(t, serve(t, func(c *net.TCPConn) {
				h := sha256.New()
				_, _ = io.Copy(h, c)
				sum <- [32]byte(h.Sum(nil))
			})))
			c := dial(t, addr)
			_ = c.SetDeadline(time.Now().Add(time.Minute))
			part := bytes.Repeat([]byte("0123456789abcdef"), size/16+1)[:size]
			var all []byte
			for i := range 2 { // more urgent bytes at once would turn the earlier ones into plain data
				if i > 0 {
					sendUrgent(t, c)
				}
				if _, err := c.Write(part); err != nil {
					t.Fatal(err)
				}
				all = append(all, part...)
			}
			_ = c.CloseWrite()
			select {
			case got := <-sum:
				if got != sha256.Sum256(all) {
					t.Error("other bytes arrived than were sent")
				}
			case <-time.After(time.Minute):
				for r := range s.Flows() {
					t.Errorf("stuck: %v, %d of %d bytes up", r.State, r.Up, len(all))
				}
			}
		})
	}
}

// onLoop runs do on a worker's loop and waits for it.
func onLoop(w *worker, do func()) {
	done := make(chan struct{})
	w.enqueue(func() {
		do()
		close(done)
	})
	<-done
}

// TestIdleFlowOwnsNoPipe: pieces got small while the backend was full, which is
// when a direction goes back to copying.
func TestIdleFlowOwnsNoPipe(t *testing.T) {
	t.Parallel()
	accepted, release := make(chan *net.TCPConn, 1), make(chan struct{})
	defer close(release)
	s, addr := start(t, Options{Engine: "epoll", Workers: 1}, service(t, serve(t, func(c *net.TCPConn) {
		accepted <- c
		<-release
	})))
	w := s.engine.(*epollEngine).workers[0]
	c := dial(t, addr)
	b := <-accepted
	eventually(t, "the flow relays", func() bool {
		for r := range s.Flows() {
			return r.State == conntrack.Established
		}
		return false
	})
	filled := 0
	onLoop(w, func() {
		x := w.conn(0)
		for {
			n, e := send(x.half[flow.Backend].fd, w.buffer)
			if e != noError {
				break
			}
			filled += n
		}
		x.half[flow.Client].splicing, x.half[flow.Client].small = true, copyAfter-1
	})
	if _, err := c.Write([]byte("tail")); err != nil {
		t.Fatal(err)
	}
	pending := func() (yes bool) {
		onLoop(w, func() { yes = w.conn(0).half[flow.Client].pending() })
		return yes
	}
	eventually(t, "the tail waits in a pipe", pending)
	if _, err := io.ReadFull(b, make([]byte, filled+len("tail"))); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the tail is gone", func() bool { return !pending() })
	onLoop(w, func() {
		if w.conn(0).half[flow.Client].pipe != nil {
			t.Error("the idle flow owns a pipe")
		}
		if len(w.pipes.free) != w.pipes.made {
			t.Errorf("%d of %d pipes are free", len(w.pipes.free), w.pipes.made)
		}
	})
}

// TestPortRangeSharesSockets: a large range has one socket a port, however many
// workers there are.
func TestPortRangeSharesSockets(t *testing.T) {
	descriptors := func() int {
		entries, err := os.ReadDir("/proc/self/fd")
		if err != nil {
			t.Fatal(err)
		}
		return len(entries)
	}
	const ports, workers = shardedPorts + 36, 4
	cfg := service(t, echo(t))
	// On an address of its own it is in nobody's way.
	host := netip.AddrFrom4([4]byte{127, 1, byte(os.Getpid() >> 8), byte(os.Getpid())})
	var s *Server
	for first := uint16(20000); s == nil; first += ports {
		if first > 30000 {
			t.Fatal("no free range of ports")
		}
		cfg.Listeners = []Listener{{Network: "tcp", Addr: netip.AddrPortFrom(host, first), Ports: ports}}
		before := descriptors()
		var err error
		if s, err = newServer(Options{Engine: "epoll", Workers: workers}, cfg); err != nil {
			continue
		}
		if n := descriptors() - before; n > ports+4*workers {
			t.Errorf("%d descriptors for %d ports", n, ports)
		}
	}
	defer s.Close()
	s.Start()
	for _, i := range []int{0, 1, ports - 1} {
		c := dial(t, cfg.Listeners[0].Port(i).Addr.String())
		roundTrip(t, c)
		c.Close()
	}
}

// TestWorkersLetGoOfASharedListener: a worker that drains must not be told of
// clients that another one has yet to accept.
func TestWorkersLetGoOfASharedListener(t *testing.T) {
	t.Parallel()
	cfg := service(t, echo(t))
	cfg.Listeners = []Listener{{Network: "unix", Path: t.TempDir() + "/socket"}}
	s, err := newServer(Options{Engine: "epoll", Workers: 2}, cfg)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	s.Start()
	e := s.engine.(*epollEngine)
	held, release := make(chan struct{}), make(chan struct{})
	e.workers[1].enqueue(func() {
		close(held)
		<-release
	})
	<-held
	gone := slices.Collect(maps.Values(s.bindings))
	onLoop(e.workers[0], func() {
		e.workers[0].beginClose(gone)
		e.workers[0].closeAcceptors()
	})
	c, err := net.Dial("unix", cfg.Listeners[0].Path)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	onLoop(e.workers[0], func() {
		for _, ev := range e.workers[0].events[:epollKeep(e.workers[0].ep, e.workers[0].events, 0)] {
			if ev.Pad != tagWake {
				t.Error("still told of a listener that is closed here")
			}
		}
	})
	close(release)
	roundTrip(t, c)
	s.bindings = nil // the test has begun to close them
	onLoop(e.workers[1], func() {
		e.workers[1].beginClose(gone)
		for e.workers[1].closeAcceptors() {
		}
	})
	e.closeShared(gone)
}

// TestFlowSize keeps an idle flow under a kilobyte of user memory.
func TestFlowSize(t *testing.T) {
	t.Parallel()
	if n := unsafe.Sizeof(conn{}) + conntrack.EntryBytes; n > 832 {
		t.Errorf("a flow takes %d bytes", n)
	} else {
		t.Logf("a flow takes %d bytes", n)
	}
}
