package proxy

import (
	"io"
	"net"
	"net/netip"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"usher/proxy/flow"
)

// TestHandshakeGreetingAndFINInOneEvent has the backend accept, speak and close
// before the loop looks again, so that the kernel tells all of it at once.
func TestHandshakeGreetingAndFINInOneEvent(t *testing.T) {
	t.Parallel()
	const greeting = "220 ready\r\n"
	spoken := make(chan struct{})
	at := serve(t, func(c *net.TCPConn) {
		_, _ = io.WriteString(c, greeting)
		c.Close()
		close(spoken)
	})
	s, err := newServer(Options{Engine: "epoll", Workers: 1}, service(t, at))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	s.Start()
	w := s.engine.(*epollEngine).workers[0]
	waits := make(chan struct{})
	w.enqueue(func() {
		<-waits
		w.accept(0)
		<-spoken
	})
	c := dial(t, s.Services()[0].Config().Listeners[0].String())
	close(waits)
	_ = c.SetDeadline(time.Now().Add(time.Minute))
	if got, err := io.ReadAll(c); string(got) != greeting || err != nil {
		t.Errorf("read %q, %v", got, err)
	}
}

// TestMetItself connects a socket to its own address, as can happen towards a
// dead backend in the range of ephemeral ports.
func TestMetItself(t *testing.T) {
	t.Parallel()
	s, err := newServer(Options{Engine: "epoll", Workers: 1}, service(t))
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	w := s.engine.(*epollEngine).workers[0]

	fd, e := newSocket(unix.AF_INET)
	if e != noError {
		t.Fatal(e)
	}
	defer closeFD(fd)
	var sa sockaddr
	sa.setAddrPort(netip.MustParseAddrPort("127.0.0.1:0"))
	if e := bind(fd, &sa); e != noError {
		t.Fatal(e)
	}
	own := localAddr(fd, &sa)
	if e := connect(fd, &sa); e != noError && e != unix.EINPROGRESS {
		t.Fatal(e)
	}
	reached := func(port netip.AddrPort) bool {
		c := new(conn)
		beginFlowOf(&c.Flow, service(t, port))
		c.half[flow.Backend].fd = fd
		return w.isSelfConnect(c)
	}
	if own.Port() < w.ephemeral {
		t.Skipf("the kernel chose port %d, below its range from %d", own.Port(), w.ephemeral)
	}
	if !reached(own) {
		t.Error("a socket connected to itself passes for a backend")
	}
	if reached(netip.AddrPortFrom(own.Addr(), own.Port()^1)) {
		t.Error("a socket connected to another port passes for itself")
	}
}
