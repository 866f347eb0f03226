package proxy

import (
	"errors"
	"io"
	"net"
	"net/netip"
	"os"
	"time"

	"usher/proxy/flow"
	"usher/proxy/rules"
)

// screen judges a client that was accepted, where somebody has to. It reports false if the
// client was not let in: then it is gone, or held without an answer.
func (e *portableEngine) screen(n *portableNewcomer) bool {
	a := &e.server.admission
	n.door = &flow.Door{Admission: a}
	set, now := a.Rules(), e.server.Now()
	identify(n.door, set, n.conn, n.from, n.at.local)
	n.entrance = n.door.Enter(set, &n.at.Binding, n.cfg, now)
	if n.entrance.Outcome == flow.Running {
		n.pass = n.door.TakePass()
		return true
	}
	a.TurnAway(n.cfg, n.origin(), n.entrance.Outcome, now)
	switch {
	case !n.entrance.IsDropped:
		reset(n.conn)
	case !a.HoldsMore() || a.Place(n.cfg) != flow.Running:
		_ = n.conn.Close()
	default:
		e.begin(n, n.at.local)
	}
	return false
}

// identify has a door's packet be of the client of a connection.
func identify(d *flow.Door, set *rules.Set, c net.Conn, client, local netip.AddrPort) {
	d.Packet = rules.Packet{Client: client, Local: actualLocal(c, local), Protocol: rules.TCP}
	if set != nil && set.NeedsInterface() {
		d.Packet.Interface = connInterface(c)
	}
}

// actualLocal returns what a client is connected to, at a listener that may be on all addresses.
func actualLocal(c net.Conn, local netip.AddrPort) netip.AddrPort {
	if a, ok := c.LocalAddr().(*net.TCPAddr); ok && local.Addr().IsUnspecified() {
		return netip.AddrPortFrom(a.AddrPort().Addr().Unmap().WithZone(""), local.Port())
	}
	return local
}

// listen reports what the client has sent so far once that is more than was reported. It is
// kept, for the backend.
func (x *stream) listen(until time.Duration) flow.Action {
	ended := false
	if len(x.early) <= x.peeked {
		err := x.readEarly(until)
		switch {
		case err == io.EOF:
			ended = true
		case errors.Is(err, os.ErrDeadlineExceeded):
			if x.engine.server.Now() >= until {
				return x.report(x.Flow.Expired)
			}
		case err != nil:
			return x.report(func(time.Duration) flow.Action { return flow.EndAs(x.OutcomeOf(flow.Client, classifyError(err))) })
		}
	}
	x.peeked = len(x.early)
	x.door.Packet.Local = actualLocal(x.conn[flow.Client], x.Local)
	return x.report(func(now time.Duration) flow.Action { return x.Peeked(x.door, x.early, ended, now) })
}

// readEarly reads some of what the client sends, until the stream is cut.
func (x *stream) readEarly(until time.Duration) error {
	c := x.conn[flow.Client]
	_ = c.SetReadDeadline(time.Now().Add(until - x.engine.server.Now()))
	x.mu.Lock()
	x.cancel = func() { _ = c.SetReadDeadline(time.Unix(1, 0)) }
	if x.ending != flow.Running || x.redirect.Do != flow.GoOn {
		x.cancel()
	}
	x.mu.Unlock()
	buffer := x.engine.small.Get().(*[]byte)
	defer x.engine.small.Put(buffer)
	n, err := c.Read(*buffer)
	x.early = append(x.early, (*buffer)[:n]...)
	x.mu.Lock()
	x.cancel = nil
	x.mu.Unlock()
	_ = c.SetReadDeadline(time.Time{})
	return err
}

// name takes the PROXY header off what was read, and reports whom it has named.
func (x *stream) name(header int) flow.Action {
	x.early, x.peeked = x.early[header:], -1
	return x.report(func(now time.Duration) flow.Action {
		set := x.door.Admission.Rules()
		identify(x.door, set, x.conn[flow.Client], x.Client, x.Local)
		return x.Named(x.door, set, now)
	})
}

// silence has the client get no answer. The next newcomer can have its place at once, before
// the stream runs. It returns what the stream does first.
func (x *stream) silence(a *flow.Admission) (first func(time.Duration) flow.Action) {
	held := x.report(func(now time.Duration) flow.Action { return x.Silence(a, now) })
	if held.Do == flow.Hold {
		x.mu.Lock()
		x.engine.armLocked(x, x.engine.server.Now())
		x.mu.Unlock()
	}
	return func(time.Duration) flow.Action { return held }
}

// hold keeps a client that gets no answer, until it goes or its time is over.
func (x *stream) hold(until time.Duration) flow.Action {
	x.mu.Lock()
	x.engine.armLocked(x, x.engine.server.Now()) // it may make room for others
	x.mu.Unlock()
	x.watchClient()
	return x.rest(until)
}

// letGo ends the stream if its client gets no answer.
func (x *stream) letGo() {
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.ending == flow.Running && x.IsSilent() {
		x.cutLocked(flow.Denied)
	}
}

// sendFirst sends the backend the PROXY header, if it gets one, and what of the client is here:
// in one piece. It reports whether that went well.
func (x *stream) sendFirst() bool {
	first, header := x.early, 0
	if x.SendsProxy() {
		local := actualLocal(x.conn[flow.Client], x.Local)
		x.mu.Lock()
		first = x.engine.server.admission.AppendProxyHeader(nil, &x.Flow, local)
		x.mu.Unlock()
		header = len(first)
		if first = append(first, x.early...); len(x.early) == 0 {
			first = appendReadable(first, x.conn[flow.Client])
		}
	}
	x.early = nil
	if len(first) == 0 {
		return true
	}
	n, err := x.conn[flow.Backend].Write(first)
	if n > header {
		x.Passed(flow.Client, n-header, x.engine.server.Now())
	}
	if err != nil {
		x.writeFailed(flow.Backend, err)
	}
	return err == nil
}
