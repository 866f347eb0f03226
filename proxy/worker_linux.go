package proxy

import (
	"errors"
	"fmt"
	"os"
	"runtime"
	"sync"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"usher/balancer"
	"usher/conntrack"
)

const (
	eventBatch = 256
	// copyBuffer is the loop's one buffer. Two reads in a row that fill it switch
	// a direction to splice.
	copyBuffer = 64 << 10
	connChunk  = 64
)

// Tags of the descriptors that are no flow's, in the generation field of an
// event. Generations of flows are not negative.
const (
	tagListener  = -1 // the other field is the number of the acceptor
	tagWake      = -2
	tagDatagrams = -3 // the other field is the number of the udp listener
)

// worker is one event loop and all that it owns. Its methods run on the loop's
// thread, except post; before run starts and after it has ended they may run
// anywhere.
type worker struct {
	server *Server
	ep     int32
	wakeup int32 // eventfd
	table  *table
	conns  [][]conn // by slot of the table; chunks never move

	udp       *datagrams // nil without udp listeners
	acceptors []acceptor
	accepting bool
	paused    []int         // acceptors that wait for descriptors
	resume    time.Duration // when they try again

	pipes  pipePool
	rests  restPool
	again  []conntrack.ID // flows that used up their turn with more to move
	spare  []conntrack.ID
	buffer []byte
	events []unix.EpollEvent
	sa     sockaddr
	info   unix.TCPInfo
	now    time.Duration      // taken at least once a turn
	began  time.Duration      // of this turn of the loop
	turn   time.Duration      // how long the last turn took; zero if the loop has slept since
	fire   func(conntrack.ID) // w.expired, bound once
	share  int                // what each direction may splice in this turn, in bytes
	halted bool

	ephemeral uint16 // the first port that the kernel gives to connecting sockets

	mu      sync.Mutex
	mailbox []func() // for the loop to run
}

func newWorker(s *Server) (*worker, error) {
	w := &worker{
		server: s, ep: -1, wakeup: -1,
		table:  conntrack.New[Service, balancer.Backend](int(s.maxConns)),
		buffer: make([]byte, copyBuffer),
		events: make([]unix.EpollEvent, eventBatch),

		ephemeral: firstEphemeral(),
	}
	w.fire = w.expired
	ep, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("epoll_create1: %w", err)
	}
	w.ep = int32(ep)
	wakeup, err := unix.Eventfd(0, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("eventfd: %w", err), unix.Close(ep))
	}
	w.wakeup = int32(wakeup)
	epollAdd(w.ep, w.wakeup, unix.EPOLLIN, 0, tagWake)
	return w, nil
}

// run is the loop: wait, serve what is ready, serve what was left over from the
// turn before, fire what is due.
func (w *worker) run() {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	for !w.halted {
		events := w.events[:w.wait()]
		left := w.again
		w.again, w.spare = w.spare[:0], left
		w.share = max(spliceTurn/(len(events)+len(left)+1), spliceLeast)
		for i := range events {
			w.dispatch(&events[i])
		}
		w.carryOn(left)
		w.table.Expire(w.now, w.fire)
		if w.udp != nil {
			w.udp.flush()
			w.udp.sessions.expire(w.now)
		}
		if len(w.paused) > 0 && w.now >= w.resume {
			w.resumeAccept()
		}
	}
}

// wait returns how many events there are, and takes the time. It blocks only when
// a look without blocking found none and nothing is left over.
func (w *worker) wait() int {
	n := epollPoll(w.ep, w.events)
	w.now = w.server.Now()
	if n > 0 || len(w.again) > 0 {
		w.turn, w.began = w.now-w.began, w.now
		return n
	}
	timeout := -1
	at, armed := w.table.Next()
	if w.udp != nil {
		if next, ok := w.udp.sessions.table.Next(); ok && (!armed || next < at) {
			at, armed = next, true
		}
	}
	if len(w.paused) > 0 && (!armed || w.resume < at) {
		at, armed = w.resume, true
	}
	if armed {
		// Rounded up, so that the loop does not wake just before the deadline.
		timeout = max(int((at-w.now+time.Millisecond-1)/time.Millisecond), 0)
	}
	n = epollBlock(w.ep, w.events, timeout)
	w.now, w.turn = w.server.Now(), 0
	w.began = w.now
	return n
}

func (w *worker) dispatch(ev *unix.EpollEvent) {
	switch ev.Pad {
	case tagListener:
		w.accept(int(ev.Fd))
	case tagDatagrams:
		w.udp.receive(int(ev.Fd))
	case tagWake:
		w.readMail()
	default:
		if ev.Pad&udpGen != 0 {
			id := conntrack.ID(uint32(ev.Fd))
			if s := w.udp.socket(id); s.fd >= 0 && s.gen|udpGen == ev.Pad {
				w.udp.readable(id, ev.Events)
			}
			return
		}
		id, s := conntrack.ID(uint32(ev.Fd)>>1), side(ev.Fd&1)
		c := w.conn(id)
		if h := &c.half[s]; h.gen == ev.Pad && h.fd >= 0 {
			w.ready(c, s, ev.Events)
		}
	}
}

// post lets the loop run do, soon. Any goroutine may call it.
func (w *worker) post(do func()) {
	w.mu.Lock()
	w.mailbox = append(w.mailbox, do)
	w.mu.Unlock()
	one := uint64(1)
	_, _ = unix.Write(int(w.wakeup), (*[8]byte)(unsafe.Pointer(&one))[:])
}

// readMail runs what was posted.
func (w *worker) readMail() {
	var count [8]byte
	_, _ = unix.Read(int(w.wakeup), count[:])
	w.mu.Lock()
	mail := w.mailbox
	w.mailbox = nil
	w.mu.Unlock()
	for _, do := range mail {
		do()
	}
}

// carryOn gives each flow that had more to move its next turn.
func (w *worker) carryOn(left []conntrack.ID) {
	for _, id := range left {
		if c := w.conn(id); c.queued {
			c.queued = false
			w.relay(c)
		}
	}
}

// conn returns the flow in a slot of the table.
func (w *worker) conn(id conntrack.ID) *conn {
	return &w.conns[id/connChunk][id%connChunk]
}

// grow makes room for slot id.
func (w *worker) grow(id conntrack.ID) {
	for int(id)/connChunk >= len(w.conns) {
		chunk := make([]conn, connChunk)
		for i := range chunk {
			chunk[i].half[client].fd, chunk[i].half[backend].fd = -1, -1
		}
		w.conns = append(w.conns, chunk)
	}
}

// drainDatagrams begins no new sessions and ends those that are silent.
func (w *worker) drainDatagrams() {
	if w.udp != nil {
		w.udp.sessions.drain()
	}
}

// halt cuts every flow and ends the loop.
func (w *worker) halt() {
	w.closeListeners()
	if w.udp != nil {
		w.udp.sessions.endAll(Drained, w.now, func(*session) bool { return true })
		w.udp.closeListeners()
	}
	for i := range w.conns {
		for j := range w.conns[i] {
			if c := &w.conns[i][j]; c.half[client].fd >= 0 {
				w.end(c, Drained)
			}
		}
	}
	w.halted = true
}

// close releases what the loop owned, after it has ended.
func (w *worker) close() {
	w.pipes.close()
	closeFD(w.ep)
	closeFD(w.wakeup)
}

// firstEphemeral returns the first port that the kernel gives to connecting
// sockets; 1 if that is unknown.
func firstEphemeral() uint16 {
	text, err := os.ReadFile("/proc/sys/net/ipv4/ip_local_port_range")
	if err != nil {
		return 1
	}
	var first uint16
	if _, err := fmt.Sscan(string(text), &first); err != nil {
		return 1
	}
	return first
}
