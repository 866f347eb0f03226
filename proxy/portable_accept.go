package proxy

import (
	"errors"
	"net"
	"net/netip"
	"os"
	"time"

	"usher/conntrack"
	"usher/proxy/flow"
)

const (
	acceptBackoffMin = 5 * time.Millisecond
	acceptBackoffMax = 200 * time.Millisecond
	// drainGrace is how long a draining listener goes on to accept, to serve
	// clients that the kernel has accepted already.
	drainGrace = 50 * time.Millisecond
	// drainStep is the same after each time in which there was something to serve.
	drainStep = time.Millisecond
	// backlogSteps bounds how many follow: new clients may come without an end.
	backlogSteps = 1000
)

// acceptLoop ends when its listener is to be closed and nobody waits at it. An error of one
// client is passed over, and any other, such as a lack of descriptors, waited out.
func (e *portableEngine) acceptLoop(b *binding, sockets *portableSockets) {
	defer sockets.accept.Close()
	backoff := acceptBackoffMin
	for served, late := 0, 0; ; {
		if e.lacking.Load() { // clients wait in the kernel's queue
			e.awaitDescriptors(sockets.closing)
		}
		conn, err := sockets.accept.Accept()
		switch {
		case err == nil:
			backoff = acceptBackoffMin
			served++
			e.admit(conn, b)
			continue
		case classifyError(err).IsClientFault() && !errors.Is(err, os.ErrDeadlineExceeded):
			continue
		}
		select {
		case <-sockets.closing:
			l, ok := sockets.accept.(interface{ SetDeadline(time.Time) error })
			if !ok || late >= backlogSteps || !errors.Is(err, os.ErrDeadlineExceeded) || served == 0 && !hasWaiting(sockets.accept) {
				return
			}
			served, late = 0, late+1 // more may wait than there was time for
			_ = l.SetDeadline(time.Now().Add(drainStep))
			continue
		default:
		}
		b.Destination().Service.CountShortage()
		select {
		case <-time.After(backoff):
		case <-sockets.closing:
		}
		backoff = min(2*backoff, acceptBackoffMax)
		e.awaitDescriptors(sockets.closing)
	}
}

// awaitDescriptors returns when descriptors for a client and its backend can be had, or
// once closing is closed. One accept loop at a time looks for them, however many lack some.
func (e *portableEngine) awaitDescriptors(closing <-chan struct{}) {
	select {
	case e.shortage <- struct{}{}:
	case <-closing:
		return
	}
	defer func() { <-e.shortage }()
	for e.lacking.Load() || !canOpen(2) {
		select {
		case <-time.After(acceptPause):
		case <-e.freed:
		case <-closing:
			return
		}
	}
}

// canOpen reports whether the process may have so many descriptors more.
func canOpen(n int) bool {
	for range n {
		f, err := os.Open(os.DevNull)
		if err != nil {
			return classifyError(err) != flow.ClassNoResources
		}
		defer f.Close()
	}
	return true
}

// admit starts the goroutine of a client's flow, or resets it when there is no room.
func (e *portableEngine) admit(conn net.Conn, b *binding) {
	var from netip.AddrPort
	if a, ok := conn.RemoteAddr().(*net.TCPAddr); ok {
		from = a.AddrPort()
		from = netip.AddrPortFrom(from.Addr().Unmap().WithZone(""), from.Port())
	}
	s := e.server
	to, isTaken := b.DestinationFor(from.Addr())
	cfg := to.Settings()
	n := &portableNewcomer{conn: conn, at: b, offset: to.Offset, cfg: cfg, from: from}
	if !isTaken {
		s.admission.TurnAway(cfg, n.origin(), flow.Denied, s.Now())
		reset(conn)
		return
	}
	if s.admission.MustEnter(&b.Binding, cfg) && !e.screen(n) {
		return
	}
	var o Outcome
	if n.entrance.Greets() {
		o = s.admission.Place(cfg)
	} else {
		o = s.admission.Admit(cfg)
	}
	if o != flow.Running {
		o = s.admission.MakeRoom(flow.Shortage{Settings: cfg, Of: o}, e.evict)
	}
	switch {
	case o == flow.Running:
		local := b.local
		if cfg.Pool.UsesDestination() {
			local = actualLocal(conn, local)
		}
		e.begin(n, local)
		return
	case n.entrance.Greets():
		s.admission.TurnAway(cfg, n.origin(), o, s.Now())
	default:
		s.admission.Refuse(cfg, n.origin(), o, s.Now())
	}
	n.pass.Release()
	reset(conn)
}

// portableNewcomer is a client that was accepted and has no flow yet.
type portableNewcomer struct {
	conn     net.Conn
	at       *binding
	offset   uint16
	cfg      *flow.Settings
	from     netip.AddrPort
	door     *flow.Door // nil: nobody had to judge it
	entrance flow.Entrance
	pass     flow.Pass
}

func (n *portableNewcomer) origin() flow.Origin {
	return flow.Origin{Client: n.from, Local: n.at.local, Path: n.at.path, Offset: n.offset}
}

// begin starts the goroutine of the flow of a client that has its place.
func (e *portableEngine) begin(n *portableNewcomer, local netip.AddrPort) {
	x := &stream{engine: e, door: n.door}
	if n.cfg.ReclaimIdle > 0 || n.entrance.Greets() || n.entrance.IsDropped {
		x.gone = make(chan struct{})
	}
	if x.NeedsTicket(n.cfg, n.entrance.Greets()) {
		x.woken = make(chan struct{}, 1)
		x.GiveTicket(func() {
			select {
			case x.woken <- struct{}{}:
			default:
			}
		})
	}
	x.conn[flow.Client] = n.conn
	proto := conntrack.TCP
	if !local.IsValid() {
		proto = conntrack.Unix
	}
	from := n.origin()
	from.Local = local
	now := e.server.Now()
	e.mu.Lock()
	id, ent := e.table.Insert(conntrack.NewKey(proto, n.from, local), n.cfg.Service, now) // room: see Admission.Settle
	x.Feed = &e.feed
	x.Begin(n.cfg, id, ent, &from, now)
	x.Carry(&n.pass)
	e.streams[id] = x // others can find it from now on
	e.mu.Unlock()
	first := x.Next
	switch {
	case n.entrance.IsDropped:
		first = x.silence(n.door.Admission)
	case n.entrance.Greets():
		first = func(now time.Duration) flow.Action { return x.Greet(n.entrance, &n.at.Binding, now) }
	}
	e.serving.Go(func() { x.serve(first) })
}

// evict ends the flow that will be missed least among those whose end eases a shortage.
func (e *portableEngine) evict(s flow.Shortage) bool {
	if e.udp.evict(s) {
		return true
	}
	x := e.reclaim(s)
	if x != nil {
		<-x.gone
	}
	return x != nil
}

// reclaim ends the stream that has been idle longest of those whose end eases a
// shortage, and returns it; nil: there is none.
func (e *portableEngine) reclaim(s flow.Shortage) *stream {
	for range flow.EvictStale {
		e.mu.Lock()
		id, ok := e.table.OldestIdle(s.Eases)
		x := e.streams[id]
		e.mu.Unlock()
		if !ok {
			return nil
		}
		if x.reclaim() {
			return x
		}
	}
	return nil
}

// clearIdle takes the mark from a stream that has ended, if its row is still there.
func (e *portableEngine) clearIdle(x *stream) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.streams[x.ID] == x {
		e.table.ClearIdle(x.ID)
	}
}
