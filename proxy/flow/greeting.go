package flow

import (
	"errors"
	"net/netip"
	"slices"
	"time"

	"usher/conntrack"
	"usher/proxy/clienthello"
	"usher/proxy/limit"
	"usher/proxy/proxyheader"
	"usher/proxy/rules"
)

// A client that has to say who it is, or what it wants, has a place and a row before it is
// judged. What it sends is peeked at: only a PROXY header is taken off its queue.
//
//	Greet ──▶ header ── whole ──▶ discarded, named ── needs no hello ──▶ let in
//	  │         │                       │    │                             ▲
//	  │         │ wrong, late, ended    │    └──────▶ hello ── whole ──────┤
//	  │         ▼                       ▼               │ late, ended      │ nobody's name
//	  │    BadProxyHeader            refused            ▼                  ▼
//	  └─── needs no header ──▶ hello               NoServerName       NoServerName
//
// What is no ClientHello has no server name.

// needs is what a flow waits for before its client is let in.
type needs uint8

const (
	needsHeader needs = 1 << iota
	needsHello
)

// Entrance is the judgement of a client that was accepted.
type Entrance struct {
	Judgement
	needs needs
}

// Greets reports whether more must be known of the client: its flow begins by [Flow.Greet].
func (e *Entrance) Greets() bool { return e.needs != 0 }

// PeekMost is how many bytes a peek has to look at: the longest header, or ClientHello.
const PeekMost = max(proxyheader.MaxLength, clienthello.MaxLength)

// MustEnter reports whether [Door.Enter] has something to say of clients.
func (a *Admission) MustEnter(at *Binding, c *Settings) bool {
	return a.rules.Load() != nil || c.access.isOn || at.NeedsHello()
}

// Enter judges a client that was accepted, as far as it is known. The settings are those of
// the destination that accounts for it.
func (d *Door) Enter(set *rules.Set, at *Binding, c *Settings, now time.Duration) (e Entrance) {
	client := d.Packet.Client.Addr()
	if at.NeedsHello() {
		e.needs = needsHello
	}
	switch {
	case e.needs == 0 && c.Empty == EmptyDrop:
		e.Judgement = d.Screen(set, c, false, now)
	case !client.IsValid():
		return e
	case c.AcceptsProxy(client):
		e.needs |= needsHeader
		return e
	case e.needs == 0:
		e.Judgement = d.Screen(set, c, false, now)
	default:
		e.Judgement = d.byRules(set, now)
		if e.Outcome == Running && c.Access.ProxyOnly {
			e.Outcome = Denied
		}
	}
	if e.Outcome != Running {
		d.pass.Release()
	}
	return e
}

// Carry gives the flow what its client has got at the door.
func (f *Flow) Carry(p *Pass) { f.pass, *p = *p, Pass{} }

// Greet has a flow that has begun wait for what is needed of its client.
func (f *Flow) Greet(e Entrance, at *Binding, now time.Duration) Action {
	if f.phase, f.needs = greeting, e.needs; f.needs&needsHello != 0 {
		f.at = at
	}
	f.ent.SetState(conntrack.Greeting)
	return f.listen(now)
}

// listen waits for the next thing that is needed.
func (f *Flow) listen(now time.Duration) Action {
	d := f.Settings.Access.HelloTimeout
	if d == 0 {
		d = DefaultHelloTimeout
	}
	if f.needs&needsHeader != 0 {
		if d = f.Settings.Access.HeaderTimeout; d == 0 {
			d = DefaultHeaderTimeout
		}
	}
	f.attempt = now + d
	return Action{Do: Peek, Until: f.attempt}
}

// IsGreeting reports whether the flow waits for what its client has to say first.
func (f *Flow) IsGreeting() bool { return f.phase == greeting }

// unheard is how a flow ends whose client does not say what is needed.
func (f *Flow) unheard() Action {
	if f.needs&needsHeader != 0 {
		return EndAs(BadProxyHeader)
	}
	return EndAs(NoServerName)
}

// Peeked is reported with all that the client has sent so far and was not discarded, and
// whether it has ended, that is sent FIN behind it. The door's packet says what it is
// connected to.
func (f *Flow) Peeked(d *Door, p []byte, ended bool, now time.Duration) Action {
	var h proxyheader.Header
	var hello clienthello.Hello
	var n int
	var err error
	isHeader := f.needs&needsHeader != 0
	if isHeader {
		h, n, err = proxyheader.Parse(p)
		isIncomplete := errors.Is(err, proxyheader.ErrIncomplete)
		if err != nil && !isIncomplete || err == nil && h.Datagram || isIncomplete && ended {
			return EndAs(BadProxyHeader)
		}
	} else if hello, err = clienthello.Parse(p); errors.Is(err, clienthello.ErrIncomplete) && ended {
		return EndAs(NoServerName)
	}
	switch {
	case errors.Is(err, proxyheader.ErrIncomplete), errors.Is(err, clienthello.ErrIncomplete):
		return Action{Do: Peek, Until: f.attempt}
	case isHeader:
		f.needs &^= needsHeader
		f.nameClient(&h)
		return Action{Do: Discard, Bytes: n}
	}
	to, cfg := f.at.DestinationOf(hello.ServerName, hello.HasProtocol), f.Settings
	if to != nil {
		cfg = to.Settings()
	}
	if hello.ServerName != "" && d.Admission.records(cfg) {
		f.changeVia(func(v *Via) { v.ServerName = hello.ServerName })
	}
	if to == nil {
		return EndAs(NoServerName)
	}
	return f.enter(d, to, now)
}

// nameClient has the flow be that of the client which a header names, if it does.
func (f *Flow) nameClient(h *proxyheader.Header) {
	if isNamed := !h.Local && h.Source.IsValid(); isNamed || len(h.TLVs) > 0 {
		f.changeVia(func(v *Via) {
			if v.TLVs = slices.Clone(h.TLVs); isNamed {
				v.Peer, v.Destination = f.Client, h.Destination
				f.Client = h.Source
			}
		})
		f.rename(f.Service)
	}
}

// rename has the flow's row say what is known now.
func (f *Flow) rename(svc *Service) {
	proto := conntrack.TCP
	if !f.Local.IsValid() {
		proto = conntrack.Unix
	}
	f.ent.Rename(conntrack.NewKey(proto, f.Client, f.Local), svc)
}

// changeVia takes a changed copy: others may have the one from before.
func (o *Origin) changeVia(change func(*Via)) {
	v := new(Via)
	if o.Via != nil {
		*v = *o.Via
	}
	change(v)
	o.Via = v
}

// Named is reported when the PROXY header is off the client's queue, and the door's packet is
// of the client that it has named.
func (f *Flow) Named(d *Door, set *rules.Set, now time.Duration) Action {
	var j Judgement
	if f.needs == 0 {
		j = d.Screen(set, f.Settings, true, now)
	} else if j = d.byRules(set, now); j.Outcome != Running {
		d.pass.Release()
	}
	f.pass = d.TakePass()
	switch {
	case j.IsDropped:
		return f.drop(d.Admission, j.Outcome, now)
	case j.Outcome != Running:
		return EndAs(j.Outcome)
	case f.needs != 0:
		return f.listen(now)
	}
	return f.letIn(now)
}

// enter has the flow be one of the service that its client wants, and judges the client by
// that service's lists and limits.
func (f *Flow) enter(d *Door, to *Destination, now time.Duration) Action {
	cfg, isRoom := to.Settings(), true
	if cfg.Pool.UsesDestination() && f.Local.IsValid() {
		f.Local = d.Packet.Local
	}
	if cfg.Service != f.Service {
		isRoom = d.Admission.move(f.Service, cfg.Service)
		f.rename(cfg.Service)
	}
	f.Settings, f.Service, f.Offset, f.needs, f.at = cfg, cfg.Service, to.Offset, 0, nil
	if !isRoom {
		return EndAs(ServerFull)
	}
	if j := cfg.afterHello(f.Client.Addr(), now, &f.pass.holds); j.IsDropped {
		f.pass.Release()
		return f.drop(d.Admission, j.Outcome, now)
	} else if j.Outcome != Running {
		return EndAs(j.Outcome)
	}
	return f.letIn(now)
}

// afterHello judges a client by the service that its ClientHello has chosen; that of a unix socket has no address.
func (s *Settings) afterHello(client netip.Addr, now time.Duration, h *limit.Holds) Judgement {
	switch {
	case s.Empty == EmptyDrop:
		return s.refusal(NoEndpoint)
	case !client.IsValid():
		return Judgement{}
	}
	return s.refusal(s.judge(client, now, h))
}

// drop accounts for a client that gets no answer, and holds it.
func (f *Flow) drop(a *Admission, o Outcome, now time.Duration) Action {
	a.TurnAway(f.Settings, f.Origin, o, now)
	return f.Silence(a, now)
}

// letIn begins the flow as if its client had just been accepted.
func (f *Flow) letIn(now time.Duration) Action {
	f.Service.accepted.Add(1)
	f.start(now)
	return f.Next(now)
}

// move has a flow take a place of another service in place of its own, which it has then in
// any case. It reports whether there was one.
func (a *Admission) move(from, to *Service) bool {
	a.places.leave(&from.places)
	_, ok := a.places.enter(&to.places)
	return ok || to.isRemoved.Load()
}
