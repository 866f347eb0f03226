package proxy

import (
	"net/netip"
	"slices"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// acceptPause is how long a listener rests when descriptors have run out.
const acceptPause = 100 * time.Millisecond

// acceptor is one listening socket of a worker.
type acceptor struct {
	fd     int32 // -1 when closed
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
}

func (w *worker) arouse(i int) {
	if a := &w.acceptors[i]; a.fd >= 0 {
		epollAdd(w.ep, a.fd, unix.EPOLLIN|unix.EPOLLEXCLUSIVE, int32(i), tagListener)
	}
}

// accept takes one client from a listening socket and starts its flow. While
// more wait the socket is reported again, along with the other flows' events; an
// accept that finds nobody would cost more than that, for the kernel makes a
// socket before it looks.
func (w *worker) accept(i int) {
	a := &w.acceptors[i]
	if a.fd < 0 {
		return
	}
	fd, e := accept(a.fd, &w.sa)
	if e == noError {
		w.admit(fd, a)
	} else if isExhausted(e) {
		w.pause(i)
	}
	// EAGAIN: another worker was faster. ECONNABORTED and what Linux passes on
	// from the new connection's network: that client's trouble, not the listener's.
}

// admit starts the flow of a client, or resets it when there is no room.
func (w *worker) admit(fd int32, a *acceptor) {
	from := w.sa.addrPort()
	s := w.server
	if !s.admit(a.svc) {
		s.refuse(a.svc, from)
		closeReset(fd)
		return
	}
	c := w.newConn(a.svc, from, a.local, a.offset)
	c.half[client].fd = fd
	w.connect(c)
}

// pause stops accepting from a socket until descriptors may be free again.
func (w *worker) pause(i int) {
	a := &w.acceptors[i]
	if a.fd < 0 || slices.Contains(w.paused, i) {
		return
	}
	a.svc.starved.Add(1)
	epollDelete(w.ep, a.fd)
	if len(w.paused) == 0 {
		w.resume = w.now + acceptPause
	}
	w.paused = append(w.paused, i)
}

func (w *worker) resumeAccept() {
	for _, i := range w.paused {
		w.arouse(i)
	}
	w.paused = w.paused[:0]
}

// closeListeners stops accepting. Clients that the kernel has accepted already
// are served: they were told that they are connected.
func (w *worker) closeListeners() {
	for i := range w.acceptors {
		a := &w.acceptors[i]
		if a.fd < 0 {
			continue
		}
		for w.accepting && !w.halted {
			fd, e := accept(a.fd, &w.sa)
			if e == unix.EINTR || e == unix.ECONNABORTED {
				continue
			}
			if e != noError {
				break
			}
			w.admit(fd, a)
		}
		closeFD(a.fd)
		a.fd = -1
	}
	w.paused = w.paused[:0]
	w.accepting = false
}

// isExhausted reports whether an error says that descriptors or memory for
// sockets have run out.
func isExhausted(e syscall.Errno) bool {
	return e == unix.EMFILE || e == unix.ENFILE || e == unix.ENOBUFS || e == unix.ENOMEM
}
