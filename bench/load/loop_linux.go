package load

import (
	"fmt"
	"time"

	"golang.org/x/sys/unix"
)

// role decides who handles the events of a descriptor.
type role uint8

const (
	closed   role = iota
	listener      // a backend's listener
	echo          // a backend that sends back what it reads
	caller        // a client that waits for a reply
	reader        // either side of a bulk flow that reads
	writer        // either side of a bulk flow that writes
	mirror        // a backend's UDP socket, which sends back what it reads
	asker         // a client's UDP socket
)

// conn is one descriptor that the loop watches.
type conn struct {
	gen    uint32 // of this use of the descriptor; events carry it
	role   role
	client bool
	sent   bool          // caller: the request is out
	warm   bool          // caller, asker: has had its first reply
	got    int32         // caller: bytes of the reply so far
	index  int32         // asker: which of the clients, from 0
	start  time.Duration // caller: when the request (CRR: the connect) began
}

// loop is the epoll and what it watches. Descriptors are small numbers that
// the kernel reuses from the bottom, so the table is a slice.
type loop struct {
	epfd   int
	conns  []conn // by descriptor
	events [256]unix.EpollEvent
}

func (l *loop) open() (err error) {
	l.epfd, err = unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	if err != nil {
		return fmt.Errorf("create epoll: %w", err)
	}
	return nil
}

// add watches fd for events and returns its fresh entry, which is valid until
// the next add.
func (l *loop) add(fd int, r role, events uint32) (*conn, error) {
	for fd >= len(l.conns) {
		l.conns = append(l.conns, make([]conn, 1024)...)
	}
	c := &l.conns[fd]
	*c = conn{gen: c.gen + 1, role: r}
	ev := unix.EpollEvent{Events: events, Fd: int32(fd), Pad: int32(c.gen)}
	if errno := epollAdd(l.epfd, fd, &ev); errno != 0 {
		c.role = closed
		return nil, fmt.Errorf("watch descriptor %d: %w", fd, errno)
	}
	return c, nil
}

// remove closes fd, which also ends its watch. Events of it that are still to
// come in this batch find no entry.
func (l *loop) remove(fd int) {
	l.conns[fd].role = closed
	closeFD(fd)
}

// find returns the descriptor that ev is for and its entry, nil if that use of
// the descriptor is over.
func (l *loop) find(ev *unix.EpollEvent) (int, *conn) {
	c := &l.conns[ev.Fd]
	if c.role == closed || c.gen != uint32(ev.Pad) {
		return int(ev.Fd), nil
	}
	return int(ev.Fd), c
}

// wait returns the events that are there, or comes back empty after about d.
// Only a wait that would block pays for telling the Go scheduler.
func (l *loop) wait(d time.Duration) ([]unix.EpollEvent, error) {
	n, errno := epollPoll(l.epfd, l.events[:])
	if n == 0 && errno == 0 && d > 0 {
		n, errno = epollWait(l.epfd, l.events[:], int((d+time.Millisecond-1)/time.Millisecond))
	}
	if errno != 0 && errno != unix.EINTR {
		return nil, fmt.Errorf("epoll wait: %w", errno)
	}
	return l.events[:max(n, 0)], nil
}

// closeClients closes the clients and leaves the backends.
func (l *loop) closeClients() {
	for fd := range l.conns {
		if c := &l.conns[fd]; c.role != closed && c.client {
			l.remove(fd)
		}
	}
}

func (l *loop) close() {
	for fd := range l.conns {
		if l.conns[fd].role != closed {
			l.remove(fd)
		}
	}
	closeFD(l.epfd)
}
