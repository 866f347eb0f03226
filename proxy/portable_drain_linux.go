package proxy

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"usher/proxy/flow"
)

// listenPacket binds a socket as bindOwned does.
func listenPacket(network string, at netip.AddrPort) (*net.UDPConn, error) {
	var config net.ListenConfig
	pc, err := config.ListenPacket(context.Background(), network, at.String())
	if !errors.Is(err, syscall.EADDRINUSE) {
		c, _ := pc.(*net.UDPConn)
		return c, err
	}
	config.Control = func(_, _ string, raw syscall.RawConn) error {
		return raw.Control(func(fd uintptr) { setsockoptInt(int32(fd), unix.SOL_SOCKET, unix.SO_REUSEADDR, 1) })
	}
	if pc, err = config.ListenPacket(context.Background(), network, at.String()); err != nil {
		return nil, err
	}
	c := pc.(*net.UDPConn)
	taken := true
	if raw, ok := rawConn(c); ok {
		_ = raw.Control(func(fd uintptr) {
			setsockoptInt(int32(fd), unix.SOL_SOCKET, unix.SO_REUSEADDR, 0)
			taken = hasOtherOwner(int32(fd), at, false)
		})
	}
	if taken {
		c.Close()
		return nil, fmt.Errorf("listen %s %v: %w", network, at, syscall.EADDRINUSE)
	}
	return c, nil
}

// giveUpAddresses does what the event loops do; see epoll_udp_drain_linux.go. The receivers
// go on to take what waits at the listening sockets, for a moment.
func (u *portableUDP) giveUpAddresses(all []*packetListener) {
	for _, l := range all {
		_ = l.raw.Control(func(fd uintptr) { shareAddress(int32(fd), true) })
	}
	u.openAllFronts(all)
	for _, l := range all {
		if l.isInherited {
			_ = l.raw.Control(func(fd uintptr) { shareAddress(int32(fd), false) })
			_ = l.SetReadDeadline(time.Now())
			continue
		}
		e := unix.EBADF
		_ = l.raw.Control(func(fd uintptr) { e = connectToItself(int32(fd)) })
		if e != noError {
			l.Close() // rather than keep the address
		}
		_ = l.SetReadDeadline(time.Now().Add(drainGrace))
	}
}

// openAllFronts gives flows of listeners that leave a socket at the front.
func (u *portableUDP) openAllFronts(all []*packetListener) {
	if len(all) == 0 {
		return
	}
	leaves := make(map[*packetListener]bool, len(all))
	for _, l := range all {
		leaves[l] = true
	}
	for from, more := 0, true; more; from += flow.CutShare {
		more = u.openFronts(leaves, from)
	}
}

// openFronts gives flows among cutShare slots a socket at the front. It reports whether
// there are more slots.
func (u *portableUDP) openFronts(leaves map[*packetListener]bool, from int) (more bool) {
	u.mu.Lock()
	defer u.mu.Unlock()
	some, more := u.sessions.InTurn(from)
	for x := range some {
		if x.Settings.UDP.OnePacket || u.fronts[x.ID] != nil {
			continue
		}
		if s := u.sockets[x.ID]; s == nil || !leaves[s.listener] {
			continue
		}
		if len(u.fronts) == frontSockets || !u.openFront(x) {
			return false
		}
	}
	return more
}

// openFront needs mu.
func (u *portableUDP) openFront(x *flow.Session) bool {
	fd, e := newFrontSocket(x.Local, x.Sender(), zones.index(x.Sender().Addr().Zone()))
	if e != noError {
		return classifyErrno(e) != flow.ClassNoResources
	}
	f := os.NewFile(uintptr(fd), "")
	defer f.Close() // of which net takes a copy
	pc, err := net.FilePacketConn(f)
	if err != nil {
		return false
	}
	c := pc.(*net.UDPConn)
	raw, ok := rawConn(c)
	if !ok {
		c.Close()
		return false
	}
	l := &packetListener{UDPConn: c, raw: raw, at: x.Binding, local: x.Local, replies: u.sockets[x.ID].listener}
	u.fronts[x.ID] = l
	u.receiving.Go(func() { u.receiveFront(l) })
	return true
}

// receiveFront is receive for the socket of one flow. While it waits it holds no buffer.
func (u *portableUDP) receiveFront(l *packetListener) {
	d := &passage{writer: newDatagramWriter()}
	waits := func(fd uintptr) bool {
		_, _, e := syscall.RawSyscall6(unix.SYS_RECVFROM, fd, 0, 0, unix.MSG_PEEK|unix.MSG_DONTWAIT, 0, 0)
		return e != unix.EAGAIN
	}
	for l.raw.Read(waits) == nil {
		buffer := u.engine.large.Get().(*[]byte)
		if l.read(d, *buffer) == nil {
			u.pass(d)
		}
		u.engine.large.Put(buffer)
	}
}
