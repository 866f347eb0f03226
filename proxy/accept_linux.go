package proxy

import (
	"net/netip"
	"slices"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

const (
	// acceptPause is how long a listener rests when descriptors have run out.
	acceptPause = 100 * time.Millisecond
	// acceptShare and acceptMost: one event takes one client, and one more for
	// each share of time that the loop's last turn took.
	acceptShare = 100 * time.Microsecond
	acceptMost  = 64
)

// acceptor is one listening socket of a worker.
type acceptor struct {
	fd     int32 // -1 when closed
	shared bool  // the engine closes it, not the worker
	svc    *Service
	local  netip.AddrPort
	offset uint16
}

// adopt takes a listening socket over.
func (w *worker) adopt(a acceptor) { w.acceptors = append(w.acceptors, a) }

// acceptAll begins to accept. Listening sockets are level-triggered, and where
// workers share one the kernel wakes one of them at a time.
func (w *worker) acceptAll() {
	w.accepting = true
	for i := range w.acceptors {
		w.arouse(i)
	}
	if w.udp != nil {
		w.udp.begin()
	}
}

// arouse has the loop told of clients. Without memory for it, it tries again.
func (w *worker) arouse(i int) {
	a := &w.acceptors[i]
	if a.fd < 0 {
		return
	}
	e := epollAdd(w.ep, a.fd, unix.EPOLLIN|unix.EPOLLEXCLUSIVE, int32(i), tagListener)
	if e != noError && e != unix.EEXIST {
		w.rest(i)
	}
}

// accept takes clients from a listening socket and starts their flows. While
// more wait the socket is reported again, along with the other flows' events, so
// one will do: an accept that finds nobody would cost more than that, for the
// kernel makes a socket before it looks. But when turns are long, because other
// flows have much to move, new clients must not wait for a turn each.
func (w *worker) accept(i int) {
	a := &w.acceptors[i]
	w.now = w.server.Now() // a flow's time must not begin before its client came
	for range min(1+w.turn/acceptShare, acceptMost) {
		if a.fd < 0 {
			return
		}
		fd, e := accept(a.fd, &w.sa)
		switch {
		case e == noError:
			if w.admit(fd, a); len(w.paused) > 0 {
				return
			}
		case e == unix.EAGAIN:
			return // or another worker was faster
		case isClientsTrouble(e):
		default:
			w.pause(i)
			return
		}
	}
}

// admit starts the flow of a client, or resets it when there is no room.
func (w *worker) admit(fd int32, a *acceptor) {
	from := w.sa.addrPort()
	s := w.server
	if !s.admit(a.svc) && (w.udp == nil || !w.udp.sessions.giveWay(a.svc, w.now)) {
		s.refuse(a.svc, from)
		closeReset(fd)
		return
	}
	local := a.local
	if a.svc.located && local.Addr().IsUnspecified() {
		local = netip.AddrPortFrom(localAddr(fd, &w.sa).Addr(), local.Port())
	}
	c := w.newConn(a.svc, from, local, a.offset)
	c.half[client].fd = fd
	w.connect(c)
}

// pause stops accepting from a socket until descriptors may be free again. It is
// the answer to any error that would only come again at once.
func (w *worker) pause(i int) {
	a := &w.acceptors[i]
	if a.fd < 0 || slices.Contains(w.paused, i) {
		return
	}
	a.svc.starved.Add(1)
	epollDelete(w.ep, a.fd)
	w.rest(i)
}

// pauseAll pauses every listening socket.
func (w *worker) pauseAll() {
	for i := range w.acceptors {
		w.pause(i)
	}
}

// rest has resumeAccept arouse a socket later.
func (w *worker) rest(i int) {
	if len(w.paused) == 0 {
		w.resume = w.now + acceptPause
	}
	w.paused = append(w.paused, i)
}

func (w *worker) resumeAccept() {
	again := w.paused
	w.paused = nil
	for _, i := range again {
		w.arouse(i)
	}
}

// closeListeners stops accepting. Clients that the kernel has accepted already
// are served: they were told that they are connected.
func (w *worker) closeListeners() {
	for i := range w.acceptors {
		a := &w.acceptors[i]
		if a.fd < 0 {
			continue
		}
		for range backlog {
			if !w.accepting {
				break
			}
			fd, e := accept(a.fd, &w.sa)
			if e == noError {
				w.admit(fd, a)
			} else if !isClientsTrouble(e) {
				break
			}
		}
		if a.shared {
			epollDelete(w.ep, a.fd)
		} else {
			closeFD(a.fd)
		}
		a.fd = -1
	}
	w.paused = nil
	w.accepting = false
}

// isClientsTrouble reports whether a failed accept says something of one client
// alone: it has gone, or Linux passes on an error of its network.
func isClientsTrouble(e syscall.Errno) bool {
	switch e {
	case unix.ECONNABORTED, unix.EINTR, unix.EPROTO, unix.ENOPROTOOPT, unix.ENETDOWN, unix.ENETUNREACH,
		unix.EHOSTDOWN, unix.EHOSTUNREACH, unix.ENONET, unix.EOPNOTSUPP, unix.ETIMEDOUT:
		return true
	default:
		return false
	}
}

// isExhausted reports whether an error says that descriptors or memory for
// sockets have run out.
func isExhausted(e syscall.Errno) bool {
	return e == unix.EMFILE || e == unix.ENFILE || e == unix.ENOBUFS || e == unix.ENOMEM
}
