package health

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// ConnectLoop is [TCP] for many targets at once. Checks of network "tcp" need no
// goroutine or timer each. All monitors of a process may share one. A check of a target
// on this machine ends within begin; the others wait in one epoll instance with one
// goroutine.
//
// A check ends before the target's process learns of it. It delays the ACK that
// completes the handshake (TCP_QUICKACK, tcp(7)) and sends a RST instead. The target's
// kernel then drops the connection before accept returns it. If a slow handshake has
// already sent the ACK, the check closes with a FIN as [TCP] does.
type ConnectLoop struct {
	TCP         // for unix sockets and callers of Check
	fd      int // of epoll
	epoll   *os.File
	raw     syscall.RawConn
	running sync.WaitGroup

	mu       sync.Mutex // never held while conclude runs
	pending  map[int32]*handshake
	spare    int32     // an IPv4 socket for the next check on this machine, or -1
	armed    time.Time // when the loop next looks for timeouts; zero: never
	isClosed bool
}

// NewConnectLoop starts a loop. Close the monitors that use it before the loop.
func NewConnectLoop() (*ConnectLoop, error) {
	fd, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("health checks: epoll_create1: %w", err)
	}
	// A non-blocking epoll descriptor waits in the runtime's poller, not on a thread.
	err = unix.SetNonblock(fd, true)
	l := &ConnectLoop{fd: fd, epoll: os.NewFile(uintptr(fd), "epoll"), pending: make(map[int32]*handshake), spare: -1}
	if err == nil {
		l.raw, err = l.epoll.SyscallConn()
	}
	if err != nil {
		l.epoll.Close()
		return nil, fmt.Errorf("health checks: epoll: %w", err)
	}
	l.running.Go(l.run)
	return l, nil
}

// Close ends the loop. Checks in flight end with [context.Canceled].
func (l *ConnectLoop) Close() {
	l.mu.Lock()
	l.isClosed = true
	var left []*handshake
	for _, h := range l.pending {
		left = append(left, h)
	}
	l.mu.Unlock()
	for _, h := range left {
		l.cancel(h)
	}
	l.epoll.Close()
	l.running.Wait()
	if l.spare >= 0 {
		unix.Close(int(l.spare))
	}
}

// begin starts a check. It returns false if the target needs Check instead. Else it
// calls conclude once with the result, maybe before it returns; conclude must not block.
func (l *ConnectLoop) begin(ctx context.Context, t Target, timeout time.Duration, conclude func(error)) bool {
	address, err := netip.ParseAddrPort(t.Address)
	if t.Network != "tcp" || err != nil || address.Addr().Zone() != "" || t.Source.Zone() != "" {
		return false
	}
	address = netip.AddrPortFrom(address.Addr().Unmap(), address.Port())
	h := &handshake{fd: -1, target: t, address: address, deadline: time.Now().Add(timeout), conclude: conclude}
	l.mu.Lock()
	pending, err := l.startLocked(ctx, h)
	l.mu.Unlock()
	if !pending {
		conclude(dialError(err, t))
	}
	return true
}

// startLocked connects. A check that does not end at once is pending in the loop.
func (l *ConnectLoop) startLocked(ctx context.Context, h *handshake) (isPending bool, err error) {
	if l.isClosed {
		return false, context.Canceled
	}
	defer func() {
		if !isPending {
			h.close()
		}
	}()
	// Disconnecting a socket (AF_UNSPEC, connect(2)) sends the same RST as closing it, and
	// leaves it usable. It keeps an old error, which would wake the loop, so only targets
	// that answer at once use the spare socket.
	if h.isPlain() && h.address.Addr().IsLoopback() {
		deadline := h.deadline
		if h.fd, l.spare = l.spare, -1; h.fd >= 0 {
			switch isDone, err := h.connect(); {
			case err == nil && !isDone: // the listen queue is full, or the ACK has left
				h.close()
				h.isClosing, h.deadline = false, deadline // a new attempt has the whole time
			default:
				l.keepLocked(h)
				return false, err
			}
		}
	}
	family := unix.AF_INET
	if h.address.Addr().Is6() {
		family = unix.AF_INET6
	}
	fd, err := unix.Socket(family, unix.SOCK_STREAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return false, os.NewSyscallError("socket", err)
	}
	h.fd = int32(fd)
	if isDone, err := h.connect(); isDone || err != nil {
		l.keepLocked(h)
		return false, err
	}
	event := unix.EpollEvent{Events: h.events(), Fd: h.fd}
	if err := unix.EpollCtl(l.fd, unix.EPOLL_CTL_ADD, fd, &event); err != nil {
		return false, os.NewSyscallError("epoll_ctl", err)
	}
	l.pending[h.fd] = h
	h.detach = context.AfterFunc(ctx, func() { l.cancel(h) })
	l.armLocked(h.deadline)
	return true, nil
}

// keepLocked keeps a check's socket as the spare one, if it can.
func (l *ConnectLoop) keepLocked(h *handshake) {
	if l.spare >= 0 || !h.isPlain() || h.isClosing || h.disconnect() != nil {
		return
	}
	l.spare, h.fd = h.fd, -1
}

// run handles events and timeouts until Close.
func (l *ConnectLoop) run() {
	events := make([]unix.EpollEvent, 128)
	for {
		n := 0
		err := l.raw.Read(func(fd uintptr) bool {
			n, _ = unix.EpollWait(int(fd), events, 0)
			return n > 0
		})
		if err != nil && !errors.Is(err, os.ErrDeadlineExceeded) {
			return // closed
		}
		for _, ev := range events[:max(n, 0)] {
			l.onEvent(ev.Fd)
		}
		l.expire(time.Now())
	}
}

// onEvent continues the handshake of a descriptor. The event may belong to an earlier
// socket with the same number, so only the socket's present state counts.
func (l *ConnectLoop) onEvent(fd int32) {
	l.mu.Lock()
	h := l.pending[fd]
	if h == nil {
		l.mu.Unlock()
		return
	}
	var isDone bool
	var err error
	if h.isClosing {
		isDone = h.discardInput()
	} else if isDone, err = h.poll(); h.isClosing && !isDone {
		event := unix.EpollEvent{Events: h.events(), Fd: fd}
		_ = unix.EpollCtl(l.fd, unix.EPOLL_CTL_MOD, int(fd), &event)
		l.armLocked(h.deadline)
	}
	if isDone || err != nil {
		l.removeLocked(fd, h)
	}
	l.mu.Unlock()
	if isDone || err != nil {
		h.conclude(dialError(err, h.target))
	}
}

// expire concludes the checks that have timed out, and arms the next look. It visits all
// pending checks each time that one may time out.
func (l *ConnectLoop) expire(now time.Time) {
	l.mu.Lock()
	if l.armed.IsZero() || now.Before(l.armed) {
		l.mu.Unlock()
		return
	}
	l.armed = time.Time{}
	_ = l.epoll.SetReadDeadline(time.Time{})
	var expired []*handshake
	next := time.Time{}
	for fd, h := range l.pending {
		switch {
		case !now.Before(h.deadline):
			l.removeLocked(fd, h)
			expired = append(expired, h)
		case next.IsZero() || h.deadline.Before(next):
			next = h.deadline
		}
	}
	if !next.IsZero() {
		l.armLocked(next)
	}
	l.mu.Unlock()
	for _, h := range expired {
		if h.isClosing {
			h.conclude(nil)
		} else {
			h.conclude(dialError(os.ErrDeadlineExceeded, h.target))
		}
	}
}

// cancel ends a check whose context has ended.
func (l *ConnectLoop) cancel(h *handshake) {
	l.mu.Lock()
	if h.fd < 0 || l.pending[h.fd] != h {
		l.mu.Unlock()
		return
	}
	l.removeLocked(h.fd, h)
	l.mu.Unlock()
	h.conclude(context.Canceled)
}

// removeLocked ends a pending handshake and closes its socket.
func (l *ConnectLoop) removeLocked(fd int32, h *handshake) {
	delete(l.pending, fd)
	h.detach()
	h.close()
}

// armLocked makes the loop look for timeouts at the given time or before.
func (l *ConnectLoop) armLocked(at time.Time) {
	if l.armed.IsZero() || at.Before(l.armed) {
		l.armed = at
		_ = l.epoll.SetReadDeadline(at)
	}
}

// dialError wraps the error of a connect as package net does; nil stays nil.
func dialError(err error, t Target) error {
	if err == nil || errors.Is(err, context.Canceled) {
		return err
	}
	address, _ := netip.ParseAddrPort(t.Address)
	return classifyDial(&net.OpError{Op: "dial", Net: t.Network, Addr: net.TCPAddrFromAddrPort(address), Err: err}, t)
}
