package proxy

import (
	"net/netip"
	"runtime"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"usher/internal/race"
	"usher/proxy/flow"
	"usher/proxy/limit"
	"usher/proxy/rules"
)

// rawPeer is a client and a backend in one, on blocking sockets: whatever this
// process allocates while it works, the server did.
type rawPeer struct {
	listener int
	server   *sockaddr

	buffer []byte
}

func newRawPeer(t testing.TB) (*rawPeer, netip.AddrPort) {
	t.Helper()
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Close(fd) })
	if err := unix.Bind(fd, &unix.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}); err != nil {
		t.Fatal(err)
	}
	if err := unix.Listen(fd, 16); err != nil {
		t.Fatal(err)
	}
	sa, err := unix.Getsockname(fd)
	if err != nil {
		t.Fatal(err)
	}
	at := netip.AddrPortFrom(netip.MustParseAddr("127.0.0.1"), uint16(sa.(*unix.SockaddrInet4).Port))
	return &rawPeer{listener: fd, server: new(sockaddr), buffer: make([]byte, 64<<10)}, at
}

// connect goes through the server to the peer's own listener.
func (p *rawPeer) connect(t testing.TB) (client, backend int) {
	fd, _, e := unix.RawSyscall(unix.SYS_SOCKET, unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if e != 0 {
		t.Fatal(e)
	}
	if e := connect(int32(fd), p.server); e != 0 {
		t.Fatal(e)
	}
	b, _, e := unix.Syscall6(unix.SYS_ACCEPT4, uintptr(p.listener), 0, 0, unix.SOCK_CLOEXEC, 0, 0)
	if e != 0 {
		t.Fatal(e)
	}
	return int(fd), int(b)
}

// pass moves n bytes from one end to the other.
func (p *rawPeer) pass(t testing.TB, from, to, n int) {
	for n > 0 {
		m, err := uninterrupted(func() (int, error) { return unix.Write(from, p.buffer[:min(n, len(p.buffer))]) })
		if err != nil {
			t.Fatal(err)
		}
		n -= m
		for m > 0 {
			k, err := uninterrupted(func() (int, error) { return unix.Read(to, p.buffer[:m]) })
			if err != nil || k == 0 {
				t.Fatal(k, err)
			}
			m -= k
		}
	}
}

func closeBoth(a, b int) {
	unix.Close(a)
	unix.Close(b)
}

// rawServer runs the epoll engine in front of a rawPeer.
func rawServer(t testing.TB) (*Server, *rawPeer) {
	t.Helper()
	p, at := newRawPeer(t)
	s, addr := start(t, Options{Engine: "epoll", Workers: 1}, service(t, at))
	p.server.setAddrPort(netip.MustParseAddrPort(addr))
	return s, p
}

// allocations returns how many objects the process allocated in do.
func allocations(do func()) uint64 {
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	do()
	runtime.ReadMemStats(&after)
	return after.Mallocs - before.Mallocs
}

// steady asserts that runs of work allocate nothing. The Go runtime has a few
// allocations of its own now and then, so one in a hundred runs is forgiven, and
// there are three tries: work that allocates fails each of them.
func steady(t *testing.T, runs int, work func()) {
	t.Helper()
	if race.Enabled {
		t.Skip("the race detector allocates")
	}
	for range runs / 4 {
		work()
	}
	var n uint64
	for range 3 {
		n = allocations(func() {
			for range runs {
				work()
			}
		})
		if n <= uint64(runs/100) {
			return
		}
	}
	t.Errorf("%d allocations in %d runs", n, runs)
}

// uninterrupted repeats a system call that a signal for the Go runtime has ended.
func uninterrupted(call func() (int, error)) (int, error) {
	for {
		n, err := call()
		if err != unix.EINTR {
			return n, err
		}
	}
}

func TestFlowsAllocateNothing(t *testing.T) {
	s, p := rawServer(t)
	steady(t, 2000, func() {
		c, b := p.connect(t)
		p.pass(t, c, b, 64)
		p.pass(t, b, c, 64)
		closeBoth(c, b)
	})
	eventually(t, "all flows end", func() bool { return s.Open() == 0 })
}

func TestBytesAllocateNothing(t *testing.T) {
	_, p := rawServer(t)
	c, b := p.connect(t)
	defer closeBoth(c, b)
	t.Run("small", func(t *testing.T) {
		steady(t, 2000, func() {
			p.pass(t, c, b, 64)
			p.pass(t, b, c, 64)
		})
	})
	t.Run("bulk", func(t *testing.T) {
		steady(t, 400, func() {
			p.pass(t, c, b, 1<<20)
			p.pass(t, b, c, 1<<20)
		})
	})
}

func BenchmarkFlow(b *testing.B) {
	_, p := rawServer(b)
	b.ReportAllocs()
	for b.Loop() {
		c, s := p.connect(b)
		p.pass(b, c, s, 64)
		p.pass(b, s, c, 64)
		closeBoth(c, s)
	}
}

func BenchmarkPingPong(b *testing.B) {
	_, p := rawServer(b)
	c, s := p.connect(b)
	defer closeBoth(c, s)
	b.ReportAllocs()
	for b.Loop() {
		p.pass(b, c, s, 64)
		p.pass(b, s, c, 64)
	}
}

// TestScreeningAllocatesNothing: rules and limits take no memory of each flow.
func TestScreeningAllocatesNothing(t *testing.T) {
	p, at := newRawPeer(t)
	c := service(t, at)
	often := limit.Rate{Events: 1 << 30, Per: time.Second, Burst: 1 << 30}
	c.Access = flow.AccessConfig{
		Allow: []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}, MaxClientConns: 10, ClientRate: often, Rate: often,
	}
	s, addr := start(t, Options{Engine: "epoll", Workers: 1}, c)
	p.server.setAddrPort(netip.MustParseAddrPort(addr))
	connections := &rules.Rule{Target: rules.Accept, Matches: []rules.Match{&rules.Connlimit{N: 10, Bits: 32}, &rules.Limit{Rate: often}}}
	if err := s.SetRules(doorRules(t, from("127.0.0.2", rules.Drop), connections)); err != nil {
		t.Fatal(err)
	}
	steady(t, 2000, func() {
		c, b := p.connect(t)
		p.pass(t, c, b, 64)
		p.pass(t, b, c, 64)
		closeBoth(c, b)
	})
	eventually(t, "all flows end", func() bool { return s.Open() == 0 })
	if n := counted(s.Rules(), 1); n.Flows.Load() == 0 || n.Bytes.Load() != 128*n.Flows.Load() {
		t.Errorf("the rule counts %d flows and %d bytes", n.Flows.Load(), n.Bytes.Load())
	}
}
