package proxy

import (
	"net"
	"net/netip"
	"testing"

	"golang.org/x/sys/unix"

	"usher/proxy/flow"
)

// TestFullSendBufferIsWidened sends more than the buffer of a socket holds while nobody
// reads. Sockets of the unix family keep that as those of UDP do on a slow way.
func TestFullSendBufferIsWidened(t *testing.T) {
	t.Parallel()
	const size, count = 30 << 10, 6
	block := make([]byte, size)
	open := func() *disturbed {
		pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
		if err != nil {
			t.Fatal(err)
		}
		x := &disturbed{fd: pair[0], peer: pair[1]}
		t.Cleanup(func() { closeBoth(x.fd, x.peer) })
		setsockoptInt(int32(x.fd), unix.SOL_SOCKET, unix.SO_SNDBUF, size)
		return x
	}
	loop, portable := open(), open()
	d, svc, gso := new(datagrams), new(Service), false
	d.up.reset()
	for i := range count {
		d.up.add(block, 0, nil, 0, uint32(i), netip.Addr{}, false, false)
	}
	if r := d.send(&d.up, 0, int32(loop.fd), &gso, svc); r.datagrams != count || svc.Dropped(flow.DropFull) != 0 {
		t.Errorf("%+v, %d found no room", r, svc.Dropped(flow.DropFull))
	}
	w := newDatagramWriter()
	for range count {
		w.p = block
		if w.attempt(uintptr(portable.fd)); w.err != nil {
			t.Error(w.err)
		}
	}
	for _, x := range []*disturbed{loop, portable} {
		if n := len(x.got()); n != count {
			t.Errorf("%d datagrams came, want %d", n, count)
		}
	}
}

// TestRepliesDroppedByTheKernelAreCounted: an engine that is held up while a backend
// sends more than the flow's socket has room for counts what was lost, though nothing
// comes after it.
func TestRepliesDroppedByTheKernelAreCounted(t *testing.T) {
	t.Parallel()
	eachEngine(t, func(t *testing.T, engine string) {
		const sent = 16 << 10 // the kernel takes some 700 bytes for each
		from := make(chan netip.AddrPort, 1)
		b, at := udpBackend(t, func(_ *net.UDPConn, _ []byte, of netip.AddrPort) { from <- of })
		s, svc, listen := startUDP(t, engine, udpService(t, UDPConfig{}, at))
		say(t, dialUDP(t, listen), "all of it")
		session := <-from
		resume := holdUp(s)
		for range sent {
			if _, err := b.WriteToUDPAddrPort([]byte("x"), session); err != nil {
				t.Fatal(err)
			}
		}
		resume()
		eventually(t, "all replies are passed on or counted", func() bool {
			down := uint64(0)
			for row := range s.Flows() {
				down = row.Down
			}
			return svc.Dropped(flow.DropReplies) > 0 && down+svc.Dropped(flow.DropReplies) == sent
		})
	})
}

// holdUp stops the udp side of a server until resume.
func holdUp(s *Server) (resume func()) {
	if e, ok := s.engine.(*portableEngine); ok {
		e.udp.mu.Lock()
		return e.udp.mu.Unlock
	}
	held := make(chan struct{})
	for _, w := range s.engine.(*epollEngine).workers {
		w.enqueue(func() { <-held })
	}
	return func() { close(held) }
}
