package proxy

import (
	"cmp"
	"fmt"
	"slices"
	"sort"
	"sync"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"usher/balancer"
	"usher/conntrack"
	"usher/proxy/flow"
	"usher/proxy/rules"
)

// A state has room for all that a flow may have in flight.
const (
	_ = uint(stateRestMost - pipeWanted)
	_ = uint(stateRestMost - copyBuffer)
)

// parking is where the loops wait between two turns while the engine is suspended.
type parking struct {
	arrived sync.WaitGroup
	resume  chan struct{}
}

// park waits until the engine goes on.
func (w *worker) park() {
	p := w.parking
	w.parking = nil
	p.arrived.Done()
	<-p.resume
}

// suspend parks all loops, and then runs what they have asked of each other: newcomers wait
// for such answers. Nobody begins anything meanwhile, so that comes to an end.
func (e *epollEngine) suspend() {
	p := &parking{resume: make(chan struct{})}
	p.arrived.Add(len(e.workers))
	for _, w := range e.workers {
		w.enqueue(func() { w.parking = p })
	}
	p.arrived.Wait()
	e.parking = p
	for more := true; more; {
		more = false
		for _, w := range e.workers {
			w.now = w.server.Now()
			more = w.runTasks() || more
		}
	}
	for _, w := range e.workers {
		w.udp.flush()
		w.udp.closeLeft()
	}
}

func (e *epollEngine) resume() {
	close(e.parking.resume)
	e.parking = nil
}

func (e *epollEngine) references(show func(*flow.Settings, *balancer.Backend, *flow.Binding)) {
	for _, w := range e.workers {
		for c := range w.live {
			c.Visit(show)
		}
		for x := range w.udp.sessions.All {
			x.Visit(show)
		}
		for i := range w.udp.listeners {
			if at := w.udp.listeners[i].at; at != nil {
				show(at.Destination().Settings(), nil, at)
			}
		}
	}
}

// live yields all conns.
func (w *worker) live(yield func(*conn) bool) {
	for i := range w.conns {
		for j := range w.conns[i] {
			if c := &w.conns[i][j]; c.half[flow.Client].fd >= 0 && !yield(c) {
				return
			}
		}
	}
}

func (e *epollEngine) save(st *State, n *flow.Numbers, bindings []*binding) {
	st.Monotonic = monotonic()
	for _, b := range bindings {
		st.Bindings = append(st.Bindings, b.save())
	}
	st.Workers = make([]workerState, len(e.workers))
	for i, w := range e.workers {
		st.Workers[i] = w.save(n)
	}
}

// monotonic returns the time on the system's clock that goes on over exec.
func monotonic() time.Duration {
	var ts unix.Timespec
	if unix.ClockGettime(unix.CLOCK_MONOTONIC, &ts) != nil {
		return 0
	}
	return time.Duration(ts.Nano())
}

func (e *epollEngine) age(st *State) time.Duration { return monotonic() - st.Monotonic }

// save returns the state of a binding, but for who has its clients.
func (b *binding) save() bindingState {
	sockets := b.sockets.(*epollSockets)
	st := bindingState{At: b.at, Local: b.local, Splits: b.splits, Shared: sockets.isShared, File: b.file.path != "" && b.file.isThere(), Lost: b.file.path != "" && !b.file.isThere()}
	if b.at.Network == "udp" {
		st.Slots = sockets.slots
	} else {
		st.FDs = sockets.fds
	}
	return st
}

func (w *worker) save(n *flow.Numbers) (st workerState) {
	st.Conns = make([]connState, 0, w.table.Len())
	for c := range w.live {
		st.Conns = append(st.Conns, connState{c.Save(n), [2]halfState{c.half[0].save(), c.half[1].save()}})
	}
	for x := range w.udp.sessions.All {
		st.Sessions = append(st.Sessions, w.udp.save(x, n))
	}
	sort.SliceStable(st.Sessions, func(i, j int) bool { return st.Sessions[i].Flow.Opened < st.Sessions[j].Flow.Opened })
	st.Busy = time.Duration(w.load.busy.Load())
	for i := range w.udp.listeners {
		l := &w.udp.listeners[i]
		st.Listeners = append(st.Listeners, udpListenerState{
			FD: l.fd, Binding: n.Bindings.Of(l.at), Local: l.local, Wildcard: l.wildcard, V6: l.v6, GSO: l.gso,
			Merges: l.merges, Drops: l.drops, Replies: l.replies, Leaving: l.isLeaving, Left: l.hasLeft, Inherited: l.isInherited,
		})
	}
	return st
}

func (h *half) save() halfState {
	st := halfState{
		FD: h.fd, Readable: h.readable, Writable: h.writable, Probing: h.probing, Watched: h.watched, Roomy: h.roomy,
		Probed: h.probed, Ended: h.ended, Broken: h.broken, Splicing: h.splicing, NoSplice: h.nosplice, Bulk: h.bulk,
		Full: h.full, Small: h.small, Rest: h.rest, Preface: h.preface,
	}
	if p := h.pipe; p != nil && p.held > 0 {
		st.Pipe = &pipeState{p.r, p.w, p.held}
	}
	return st
}

func (d *datagrams) save(x *flow.Session, n *flow.Numbers) sessionState {
	s := d.socket(x.ID)
	name := (*[unsafe.Sizeof(s.name)]byte)(unsafe.Pointer(&s.name))
	return sessionState{
		Flow: d.sessions.Save(x, n), FD: s.fd, GSO: s.gso, Drops: s.drops, Listener: s.listener, Front: s.front,
		Name: slices.Clone(name[:s.nameLen]),
	}
}

func (e *epollEngine) rejoin(set *rules.Set) {
	for _, w := range e.workers {
		for c := range w.live {
			w.identify(set, c.half[flow.Client].fd, c.Client, c.Local)
			c.RejoinRules(set, &w.door.Packet)
		}
		for x := range w.udp.sessions.All {
			w.door.Packet.Interface = ""
			x.RejoinRules(set, &w.door.Packet)
		}
	}
}

func (e *epollEngine) release() {
	for _, w := range e.workers {
		w.close()
	}
}

func (e *epollEngine) restore(st *State, r *flow.Refs, bindings []*binding) error {
	if err := st.verifyListeners(); err != nil {
		return err
	}
	queued := make([][]flow.Queued, len(e.workers))
	err := eachWorker(len(e.workers), func(i int) (err error) {
		if queued[i], err = e.workers[i].restore(&st.Workers[i], r); err != nil {
			return fmt.Errorf("worker %d: %w", i, err)
		}
		return nil
	})
	if err != nil {
		return err
	}
	r.Queued = slices.Concat(queued...)
	next := 0
	for i := range st.Bindings {
		bs := &st.Bindings[i]
		if bs.Flow.Gone {
			continue
		}
		sockets := &epollSockets{fds: bs.FDs, isShared: bs.Shared, slots: make([]int32, len(e.workers))}
		for n, slot := range bs.Slots {
			sockets.slots[n], sockets.isRestored = slot, true
			l := udpListener{fd: -1}
			if slot != noSlot {
				l = e.workers[n].udp.listeners[slot]
			}
			sockets.udp = append(sockets.udp, l)
		}
		bindings[next].sockets = sockets
		next++
	}
	return nil
}

// restore makes a new worker what the state says, at the same time as others. It returns the
// flows that stood in a queue.
func (w *worker) restore(st *workerState, r *flow.Refs) (queued []flow.Queued, err error) {
	if err := st.verifyDescriptors(); err != nil {
		return nil, err
	}
	w.now = w.server.Now()
	w.load.busy.Store(int64(st.Busy))
	if len(st.Conns)+len(st.Sessions) > w.server.capacity {
		return nil, fmt.Errorf("%d flows, and there is room for %d (max-conns)", len(st.Conns)+len(st.Sessions), w.server.capacity)
	}
	idle := make([]*conn, 0, len(st.Conns))
	for i := range st.Conns {
		c, err := w.restoreConn(conntrack.ID(i), &st.Conns[i], r)
		if err != nil {
			return nil, err
		}
		idle = append(idle, c)
		if place := st.Conns[i].Flow.Place; place > 0 {
			queued = append(queued, flow.Queued{Flow: &c.Flow, Place: place})
		}
	}
	slices.SortFunc(idle, func(a, b *conn) int { return cmp.Compare(a.LastTouched(), b.LastTouched()) })
	for _, c := range idle {
		c.Arm(w.table, w.now)
	}
	return queued, w.udp.restore(st, r)
}

// restoreConn makes the conn in a slot what the state says.
func (w *worker) restoreConn(slot conntrack.ID, st *connState, r *flow.Refs) (*conn, error) {
	w.grow(slot)
	c := w.conn(slot)
	if c.NeedsTicket(r.Settings[st.Flow.Settings-1], st.Flow.IsGreeting()) {
		c.GiveTicket(func() { w.enqueue(func() { w.woken(c) }) })
	}
	c.Feed = &w.feed
	if err := c.Flow.Restore(&st.Flow, r, w.table); err != nil {
		return nil, err
	}
	isRelaying := c.IsRelaying()
	for s := range c.half {
		w.restoreHalf(&c.half[s], &st.Half[s])
	}
	for s := flow.Client; s <= flow.Backend; s++ {
		if !st.Half[s].Watched && !isRelaying {
			continue
		}
		if err := w.watchAgain(c, s); err != nil {
			return nil, fmt.Errorf("flow from %v: %w", c.Client, err)
		}
	}
	if isRelaying && (c.half[0].hasMore() || c.half[1].hasMore()) {
		w.queue(c)
	}
	return c, nil
}

// hasMore reports whether there may be something to do without an event.
func (h *half) hasMore() bool { return h.readable || h.pending() || h.broken != flow.Running }

// restoreHalf makes a half what the state says.
func (w *worker) restoreHalf(h *half, st *halfState) {
	h.open(st.FD)
	h.readable, h.writable, h.probing, h.probed = st.Readable, st.Writable, st.Probing, st.Probed
	h.ended, h.broken, h.roomy = st.Ended, st.Broken, st.Roomy
	h.splicing, h.nosplice, h.bulk, h.full, h.small = st.Splicing, st.NoSplice, st.Bulk, st.Full, st.Small
	h.preface = st.Preface
	if len(st.Rest) > 0 {
		h.buf = w.rests.get(st.Rest)
		h.rest = h.buf
	}
	if st.Pipe != nil {
		h.pipe = &pipe{r: st.Pipe.Read, w: st.Pipe.Write, held: st.Pipe.Held, size: pipeSize(st.Pipe.Write)}
		w.pipes.made++
	}
}

// watchAgain registers a side with epoll, which tells what is ready now.
func (w *worker) watchAgain(c *conn, s flow.Side) error {
	h := &c.half[s]
	if h.fd < 0 {
		return nil
	}
	interest := uint32(epollRead)
	if c.IsSilent() {
		interest = epollEnd
	} else if h.roomy = h.roomy || s == flow.Backend || !h.writable && c.half[s.Other()].pending(); h.roomy {
		interest |= epollWrite
	}
	if e := epollAdd(w.ep, h.fd, interest, c.tag(s), h.gen); e != noError {
		return fmt.Errorf("epoll_ctl: %w", e)
	}
	h.watched = true
	return nil
}

// restore makes new datagrams what the state says.
func (d *datagrams) restore(st *workerState, r *flow.Refs) error {
	if len(st.Listeners) > 0 {
		d.in, d.back = newBatch(true), newBatch(false)
	}
	d.listeners = make([]udpListener, len(st.Listeners))
	for i := range st.Listeners {
		d.restoreListener(int32(i), &st.Listeners[i], r)
	}
	idle := make([]*flow.Session, 0, len(st.Sessions))
	for i := range st.Sessions {
		x, err := d.sessions.Restore(&st.Sessions[i].Flow, r)
		if err == nil {
			err = d.restoreSocket(x, &st.Sessions[i])
		}
		if err != nil {
			return err
		}
		idle = append(idle, x)
	}
	slices.SortFunc(idle, func(a, b *flow.Session) int { return cmp.Compare(a.LastTouched(), b.LastTouched()) })
	for _, x := range idle {
		d.sessions.Rearm(x, d.w.now)
	}
	return nil
}

func (d *datagrams) restoreListener(slot int32, st *udpListenerState, r *flow.Refs) {
	if st.FD < 0 {
		d.listeners[slot].fd = -1
		d.freeSlots = append(d.freeSlots, slot)
		return
	}
	d.listeners[slot] = udpListener{
		fd: st.FD, at: r.Bindings[st.Binding-1], local: st.Local, wildcard: st.Wildcard, v6: st.V6, gso: st.GSO,
		merges: st.Merges, drops: st.Drops, replies: st.Replies, isLeaving: st.Leaving, hasLeft: st.Left, isInherited: st.Inherited,
	}
	if st.Left {
		d.left = append(d.left, slot) // nobody may reply by it any more
	}
	d.register(slot)
}

func (d *datagrams) restoreSocket(x *flow.Session, st *sessionState) error {
	s := d.socket(x.ID)
	if len(st.Name) != unix.SizeofSockaddrInet4 && len(st.Name) != unix.SizeofSockaddrInet6 {
		return fmt.Errorf("session from %v: an address of %d bytes", x.Client, len(st.Name))
	}
	s.fd, s.gso, s.drops, s.front = st.FD, st.GSO, st.Drops, st.Front
	s.gen = (s.gen + 1) & (udpGen - 1)
	s.nameLen = uint32(copy((*[unsafe.Sizeof(s.name)]byte)(unsafe.Pointer(&s.name))[:], st.Name))
	if s.front >= 0 {
		d.fronts++
	}
	d.replyBy(s, st.Listener)
	if e := epollAdd(d.w.ep, s.fd, replyInterest, int32(x.ID), s.gen|udpGen); e != noError {
		return fmt.Errorf("session from %v: epoll_ctl: %w", x.Client, e)
	}
	return nil
}
