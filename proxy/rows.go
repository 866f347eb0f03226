package proxy

import (
	"iter"
	"net/netip"

	"usher/proxy/flow"
)

// Row is one flow as readers of the connection tables see it.
type Row struct {
	flow.Row
	Sockets

	worker       int // that has the flow
	isTerminated bool
}

// Sockets is what is known of the sockets of a flow, see [Server.Measure].
type Sockets = flow.Sockets

// rowShare bounds the rows that a worker is given at once.
const rowShare = flow.EndShare

// Flows returns a snapshot of the connection tables, in no order. It holds up no flow, and
// takes no memory for them. Flows that come or go meanwhile may be missing.
func (s *Server) Flows() iter.Seq[Row] { return s.engine.rows() }

// Measure sets the Sockets of rows. Workers are asked a share at a time.
func (s *Server) Measure(rows []Row) {
	for len(rows) > 0 {
		some := rows[:min(len(rows), rowShare)]
		rows = rows[len(some):]
		s.whileRunning(func() { s.engine.measure(some) })
	}
}

// Kill ends the flows that match, among those that there are when it is called, and returns
// how many. Connections are reset, and end as [flow.Killed], whatever they wait for. Match is
// called by the caller's goroutine. Any goroutine may call Kill.
func (s *Server) Kill(match func(*Row) bool) (ended int) {
	called := s.Now() // clients that come back at once are not killed again
	rows := make([]Row, 0, rowShare)
	flush := func() {
		ended += s.terminate(rows, flow.Killed)
		rows = rows[:0]
	}
	for r := range s.Flows() {
		if r.Created > called || !match(&r) {
			continue
		}
		if rows = append(rows, r); len(rows) == rowShare {
			flush()
		}
	}
	flush()
	return ended
}

// terminate ends the flows of rows, and returns how many it has ended.
func (s *Server) terminate(rows []Row, as Outcome) (ended int) {
	if len(rows) > 0 {
		s.whileRunning(func() { ended = s.engine.terminate(rows, as) })
	}
	return ended
}

// whileRunning calls do unless the engine has not started or stops.
func (s *Server) whileRunning(do func()) {
	s.cutting.RLock()
	defer s.cutting.RUnlock()
	if s.hasLoop {
		do()
	}
}

// Network returns "tcp", "unix" or "udp".
func (r *Row) Network() string { return r.Key.Proto().String() }

// Client returns the client's address; invalid for a client on a unix socket.
func (r *Row) Client() netip.AddrPort { return r.Key.Client() }

// Listener returns the service's listener that the flow came by: of a range, the one port.
// If the service does not have it any more, it is the very address that the client asked
// for. Which of several unix listeners it was is not known.
func (r *Row) Listener() Listener {
	network, local := r.Network(), r.Key.Local()
	l := Listener{Network: network, Addr: local}
	found := 0
	for _, have := range r.Service.Config().Listeners {
		switch {
		case have.Network != network:
		case network == "unix":
			found++
			l.Path = have.Path
		case have.Has(local):
			return Listener{Network: network, Addr: local, V6Only: have.V6Only}
		default:
			if any := wildcardOf(&have, local); have.Has(any) {
				l.Addr, l.V6Only = any, have.V6Only
			}
		}
	}
	if found > 1 {
		l.Path = ""
	}
	return l
}

// wildcardOf is the address that stands for all addresses, as a listener on all of them that
// gets what is sent to local has it.
func wildcardOf(l *Listener, local netip.AddrPort) netip.AddrPort {
	if local.Addr().Is4() && !l.BothFamilies() {
		return netip.AddrPortFrom(netip.IPv4Unspecified(), local.Port())
	}
	return netip.AddrPortFrom(netip.IPv6Unspecified(), local.Port())
}
