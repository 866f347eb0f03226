package proxy

import (
	"errors"
	"fmt"
	"math"
	"os"
	"runtime"
	"sync"
	"sync/atomic"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"usher/balancer"
	"usher/conntrack"
	"usher/proxy/flow"
)

const (
	eventBatch = 256
	// copyBuffer is the loop's one buffer. Two reads in a row that fill it switch
	// a direction to splice.
	copyBuffer = 64 << 10
	connChunk  = 64

	// keepAfter spares a lone request and its reply the signal that takes a kept P away.
	// keepPause is the longest short wait. keepWait is in milliseconds.
	keepAfter = 8
	keepPause = 500 * time.Microsecond
	keepWait  = 20
)

// Tags of the descriptors that are no flow's, in the generation field of an event.
// Generations of flows are not negative. The other field is a slot, and the generation of
// its use is in the lower bits, within tagGen.
const (
	tagWake      = -1
	tagListener  = -1 << 31
	tagDatagrams = -1<<31 | 1<<30
	tagGen       = 1<<29 - 1
)

// worker is one event loop and all that it owns. Its methods run on the loop's
// thread, except enqueue; before run starts and after it has ended they may run
// anywhere.
type worker struct {
	server *Server
	number int // of server.workers
	ep     int32
	wakeup int32 // eventfd
	table  *flow.Table
	conns  [][]conn // by slot of the table; chunks never move

	workers []*worker     // all of them
	asking  time.Duration // when the others were last asked to make room
	asked   atomic.Bool   // such a request waits among the tasks

	newcomers []newcomer // that wait for the other workers' answers
	answers   int        // that are still to come
	roomFound bool       // one of them was that there is room

	door       flow.Door
	feed       flow.Feed
	interfaces interfaceNames

	udp       *datagrams
	acceptors []acceptor // by slot
	freeSlots []int32
	closing   []int32       // slots of acceptors that are to be closed
	paused    bool          // no client is accepted: descriptors have run out
	blocked   []int32       // slots of acceptors that had a client meanwhile
	resume    time.Duration // when to accept from them again; zero: there are none

	pipes  pipePool
	rests  restPool
	again  []conntrack.ID // flows with bulk to move, in the order of their turns
	buffer []byte
	events []unix.EpollEvent
	sa     sockaddr
	info   unix.TCPInfo
	now    time.Duration // taken at least once a turn
	began  time.Duration // of this turn of the loop
	turn   time.Duration // how long the last turn took; zero if the loop has slept since
	load   loopLoad
	short  int                // waits in a row, up to the last one, that were short
	fire   func(conntrack.ID) // w.expired, bound once
	share  int                // what a direction may splice in this turn, in bytes
	until  time.Duration      // bulk may be moved until then in this turn
	halted bool

	parking *parking // the loop waits there after this turn

	ephemeral uint16 // the first port that the kernel gives to connecting sockets

	mu    sync.Mutex
	tasks []func() // for the loop to run
}

func newWorker(s *Server, number int) (*worker, error) {
	w := &worker{
		server: s, number: number, ep: -1, wakeup: -1,
		table:  conntrack.New[Service, balancer.Backend](s.capacity),
		pipes:  pipePool{most: s.pipes},
		share:  spliceLeast,
		buffer: make([]byte, copyBuffer),
		events: make([]unix.EpollEvent, eventBatch),

		ephemeral: firstEphemeral(),
	}
	w.fire = w.expired
	w.door.Admission = &s.admission
	w.udp = newDatagrams(w)
	w.feed = flow.Feed{
		Worker:  number,
		Flow:    func(f *flow.Flow) Sockets { return w.measureConn(w.conn(f.ID)) },
		Session: w.udp.measure,
	}
	w.udp.sessions.Feed = &w.feed
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
	w.began = w.server.Now()
	for !w.halted {
		events := w.events[:w.wait()]
		for i := range events {
			w.dispatch(&events[i])
		}
		w.runDeferred()
		w.table.Expire(w.now, w.fire)
		w.udp.flush()
		w.udp.sessions.Expire(w.now)
		w.udp.closeLeft()
		if w.resume > 0 && w.now >= w.resume {
			w.resumeAccept()
		}
		if w.parking != nil {
			w.park()
		}
	}
}

// wait returns how many events there are, and takes the time. It calls epoll once.
//
// A call that may block for long lends its P to the scheduler. Under load that is dear:
// sysmon takes the P away every 10 ms, and then looks for more every 20 µs for a while.
// So after keepAfter short waits in a row the loop keeps its P, for keepWait at most.
func (w *worker) wait() (n int) {
	before := w.server.Now()
	w.turn, w.now = before-w.began, before
	w.load.observe(w.turn, before)
	if timeout := w.timeout(); timeout == 0 || w.short >= keepAfter {
		n = epollKeep(w.ep, w.events, int(min(uint(timeout), keepWait)))
	} else {
		n = epollBlock(w.ep, w.events, timeout)
	}
	w.now = w.server.Now()
	w.began = w.now
	slept := w.now - before
	if slept > acceptShare {
		w.turn = 0
	}
	if w.short++; slept > keepPause {
		w.short = 0
	}
	return n
}

// timeout is how long to wait at most, in milliseconds; -1 is for ever.
func (w *worker) timeout() int {
	if len(w.again) > 0 {
		return 0
	}
	at, armed := w.table.NextDeadline()
	if next, ok := w.udp.sessions.NextDeadline(); ok && (!armed || next < at) {
		at, armed = next, true
	}
	if w.resume > 0 && (!armed || w.resume < at) {
		at, armed = w.resume, true
	}
	if !armed {
		return -1
	}
	return waitMillis(at - w.now)
}

// waitMillis is d as epoll takes it: rounded up, so that the loop does not wake just
// before a deadline, and within the 32 bits that the kernel looks at.
func waitMillis(d time.Duration) int {
	ms := d / time.Millisecond
	if d%time.Millisecond > 0 {
		ms++
	}
	return int(min(max(ms, 0), math.MaxInt32))
}

func (w *worker) dispatch(ev *unix.EpollEvent) {
	switch {
	case ev.Pad == tagWake:
		w.runTasks()
	case ev.Pad < 0 && ev.Pad&tagDatagrams == tagDatagrams:
		if w.udp.listeners[ev.Fd].gen == ev.Pad&tagGen {
			w.udp.receive(ev.Fd)
		}
	case ev.Pad < 0:
		if w.acceptors[ev.Fd].gen == ev.Pad&tagGen {
			w.accept(ev.Fd)
		}
	default:
		if ev.Pad&udpGen != 0 {
			id := conntrack.ID(uint32(ev.Fd))
			if s := w.udp.socket(id); s.fd >= 0 && s.gen|udpGen == ev.Pad {
				w.udp.readable(id, ev.Events)
			}
			return
		}
		id, s := conntrack.ID(uint32(ev.Fd)>>1), flow.Side(ev.Fd&1)
		c := w.conn(id)
		if h := &c.half[s]; h.gen == ev.Pad && h.fd >= 0 {
			w.ready(c, s, ev.Events)
		}
	}
}

// enqueue lets the loop run do, soon. Any goroutine may call it.
func (w *worker) enqueue(do func()) {
	w.mu.Lock()
	w.tasks = append(w.tasks, do)
	w.mu.Unlock()
	one := uint64(1)
	_, _ = unix.Write(int(w.wakeup), (*[8]byte)(unsafe.Pointer(&one))[:])
}

// runTasks runs what was enqueued, and reports whether there was something.
func (w *worker) runTasks() bool {
	var count [8]byte
	_, _ = unix.Read(int(w.wakeup), count[:])
	w.mu.Lock()
	tasks := w.tasks
	w.tasks = nil
	w.mu.Unlock()
	for _, do := range tasks {
		do()
	}
	return len(tasks) > 0
}

// runDeferred moves bulk, flow by flow, until the time for that is up or no flow has more. All
// of it is moved here, after the events of the turn: a flow with little to move waits for
// bulkTime at most, however many flows have much.
func (w *worker) runDeferred() {
	if len(w.again) == 0 {
		return
	}
	w.now = w.server.Now()
	w.until = w.now + bulkTime
	w.share = max(spliceTurn/len(w.again), spliceLeast)
	next := 0
	for next < len(w.again) && (next == 0 || w.now < w.until) {
		c := w.conn(w.again[next])
		next++
		if c.queued {
			c.queued = false
			w.relayNow(c)
			w.now = w.server.Now()
		}
	}
	w.again = w.again[:copy(w.again, w.again[next:])]
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
			chunk[i].half[flow.Client].fd, chunk[i].half[flow.Backend].fd = -1, -1
		}
		w.conns = append(w.conns, chunk)
	}
}

// halt cuts every flow and ends the loop. All listening sockets are closed.
func (w *worker) halt() {
	w.udp.sessions.Stop(w.now)
	w.udp.flush()
	w.udp.closeLeft()
	for i := range w.conns {
		for j := range w.conns[i] {
			if c := &w.conns[i][j]; c.half[flow.Client].fd >= 0 {
				w.end(c, flow.Drained)
			}
		}
	}
	w.turnNewcomersAway(nil)
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
