package proxy

import (
	"net"
	"net/netip"

	"usher/conntrack"
	"usher/proxy/flow"
)

func (e *portableEngine) terminate(rows []Row, as Outcome) (ended int) {
	for i := range rows {
		r := &rows[i]
		if r.Key.Proto() == conntrack.UDP {
			r.isTerminated = e.udp.terminate(r, as)
		} else if x := e.streamOf(r); x != nil {
			r.isTerminated = x.terminate(as)
		}
		if r.isTerminated {
			ended++
		}
	}
	return ended
}

func (e *portableEngine) measure(rows []Row) {
	for i := range rows {
		r := &rows[i]
		r.Sockets = Sockets{}
		if r.Key.Proto() == conntrack.UDP {
			e.udp.measure(r)
		} else if x := e.streamOf(r); x != nil {
			x.measure(r)
		}
	}
}

func (x *stream) measure(r *Row) {
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.ending == flow.Running {
		r.Sockets = x.socketsLocked()
	}
}

// socketsOf is for the feed. It needs the stream's mu, or that the stream has ended.
func (e *portableEngine) socketsOf(f *flow.Flow) Sockets {
	e.mu.Lock()
	x := e.streams[f.ID]
	e.mu.Unlock()
	if x == nil {
		return Sockets{Detail: f.Detail(e.server.Now())}
	}
	return x.socketsLocked()
}

// socketsLocked needs mu.
func (x *stream) socketsLocked() (s Sockets) {
	s.Detail = x.Detail(x.engine.server.Now())
	if c, ok := x.conn[flow.Client].(*net.TCPConn); ok {
		if x.Local.Addr().IsUnspecified() {
			s.Local = unmapped(c.LocalAddr().(*net.TCPAddr).AddrPort())
		}
		measureConn(c, &s)
	}
	if c, ok := x.conn[flow.Backend].(*net.TCPConn); ok {
		s.Source = unmapped(c.LocalAddr().(*net.TCPAddr).AddrPort())
	}
	return s
}

func unmapped(a netip.AddrPort) netip.AddrPort { return netip.AddrPortFrom(a.Addr().Unmap(), a.Port()) }

func (u *portableUDP) measure(r *Row) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if x := u.sessions.Find(&r.Row); x != nil {
		r.Sockets = u.socketsLocked(x)
	}
}

// socketsLocked needs mu.
func (u *portableUDP) socketsLocked(x *flow.Session) (s Sockets) {
	s.Detail = x.Detail(u.engine.server.Now())
	if c := u.sockets[x.ID]; c != nil {
		s.Source = unmapped(c.LocalAddr().(*net.UDPAddr).AddrPort())
	}
	return s
}

func (e *portableEngine) feeds() []*flow.Feed { return []*flow.Feed{&e.feed} }

func (e *portableEngine) countBytes() {
	for r := range e.table.Rows() {
		if x := e.streamOf(&Row{Row: r}); x != nil {
			x.countBytes()
		}
	}
	for from, more := 0, true; more; from += flow.CutShare {
		e.udp.mu.Lock()
		more = e.udp.sessions.CountBytes(from)
		e.udp.mu.Unlock()
	}
}

// countBytes counts what the stream has carried, unless it ends and does so itself.
func (x *stream) countBytes() {
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.ending == flow.Running {
		x.CountBytes()
		x.countPacketsLocked()
	}
}

// countPacketsLocked counts the segments of the stream so far, if its service asks for that. It needs mu.
func (x *stream) countPacketsLocked() {
	if !x.Settings.CountsPackets {
		return
	}
	if c, ok := x.conn[flow.Client].(*net.TCPConn); ok {
		var s Sockets
		measureConn(c, &s)
		x.CountPackets(uint32(s.SegmentsIn), uint32(s.SegmentsOut))
	}
}

func (*portableEngine) workerStats() []WorkerStats { return nil }

// streamOf returns the stream of a row; nil if it has ended.
func (e *portableEngine) streamOf(r *Row) *stream {
	e.mu.Lock()
	defer e.mu.Unlock()
	if r.Key.Proto() == conntrack.UDP || !e.table.Has(&r.Row) {
		return nil
	}
	return e.streams[r.ID]
}

// terminate ends the stream, and reports whether it does so for this.
func (x *stream) terminate(as Outcome) bool {
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.ending != flow.Running {
		return false
	}
	a := x.Flow.Terminate(as, x.engine.server.Now())
	if x.joined {
		x.followLocked(a)
	} else if a.Do == flow.End {
		x.cutLocked(a.Outcome)
	}
	return a.Do == flow.End || a.Do == flow.Deliver
}

func (u *portableUDP) terminate(r *Row, as Outcome) bool {
	u.mu.Lock()
	defer u.mu.Unlock()
	return u.sessions.Terminate(&r.Row, as, u.engine.server.Now())
}
