package flow

import (
	"errors"
	"fmt"
	"sort"
	"time"

	"usher/balancer"
	"usher/conntrack"
	"usher/proxy/rules"
)

// A flow, a session, a service and its settings can be saved as plain data, and made again
// out of that by another process: see package proxy, "How a server is handed over". What they
// refer to is saved as numbers: one that is a field of type Ref counts from one, and zero is
// nil. The keys of the fields are part of the format, and so are the numbers of phases,
// sides, outcomes and states. All times are those of the same clock.

// Ref is the number of something in Refs or Numbers, counted from one. Zero is nil.
type Ref uint32

// Numbers gives what is saved its numbers.
type Numbers struct {
	Settings Numbering[Settings]
	Backends Numbering[balancer.Backend]
	Bindings Numbering[Binding]
	places   map[*ticket]int // of the queues asked for so far
	queues   map[*queue]Ref
}

// Numbering numbers things of one kind, in the order in which they are first asked for.
type Numbering[T any] struct {
	All []*T
	of  map[*T]Ref
}

// Of returns the number of x.
func (n *Numbering[T]) Of(x *T) Ref {
	if x == nil {
		return 0
	}
	r, ok := n.of[x]
	if !ok {
		if n.of == nil {
			n.of = make(map[*T]Ref)
		}
		n.All = append(n.All, x)
		r = Ref(len(n.All))
		n.of[x] = r
	}
	return r
}

// Has reports whether x has a number.
func (n *Numbering[T]) Has(x *T) bool { return n.of[x] != 0 }

// Refs is what saved numbers stand for.
type Refs struct {
	Settings  []*Settings
	Backends  []*balancer.Backend
	Bindings  []*Binding
	Admission *Admission
	Now       time.Duration // of the state
	Queued    []Queued      // restored flows, for RestoreQueues
}

// at returns what a checked number stands for.
func at[T any](all []*T, r Ref) *T {
	if r == 0 {
		return nil
	}
	return all[r-1]
}

// Limits bound the numbers in a state.
type Limits struct {
	Settings, Backends, Bindings int
}

// FlowState is a Flow with its row.
type FlowState struct {
	Settings Ref `cbor:"1,keyasint"`
	Backend  Ref `cbor:"2,keyasint,omitempty"`
	Doubted  Ref `cbor:"3,keyasint,omitempty"`

	Holding  bool  `cbor:"4,keyasint,omitempty"`
	Phase    uint8 `cbor:"5,keyasint,omitempty"`
	Gentle   bool  `cbor:"6,keyasint,omitempty"`
	Answered bool  `cbor:"7,keyasint,omitempty"`

	Fins        uint8         `cbor:"8,keyasint,omitempty"`
	Finished    uint8         `cbor:"9,keyasint,omitempty"`
	Muted       uint8         `cbor:"10,keyasint,omitempty"`
	FailedSide  Side          `cbor:"11,keyasint,omitempty"`
	EndsAs      Outcome       `cbor:"12,keyasint,omitempty"`
	FailedAt    time.Duration `cbor:"13,keyasint,omitempty"`
	Quiet       time.Duration `cbor:"14,keyasint,omitempty"`
	Inspected   time.Duration `cbor:"15,keyasint,omitempty"`
	Settled     time.Duration `cbor:"16,keyasint,omitempty"`
	Progress    time.Duration `cbor:"17,keyasint,omitempty"`
	Unacked     [2]int32      `cbor:"18,keyasint"`
	Undelivered [2]int32      `cbor:"19,keyasint"`

	Asked  int64  `cbor:"20,keyasint,omitempty"`
	Origin Origin `cbor:"21,keyasint"`

	Tries     uint8         `cbor:"22,keyasint,omitempty"`
	Step      uint8         `cbor:"23,keyasint,omitempty"`
	Portless  uint8         `cbor:"24,keyasint,omitempty"`
	Accepted  time.Duration `cbor:"25,keyasint,omitempty"`
	Connected time.Duration `cbor:"26,keyasint,omitempty"`
	Attempt   time.Duration `cbor:"27,keyasint,omitempty"`
	Redial    time.Duration `cbor:"28,keyasint,omitempty"`
	Budget    time.Duration `cbor:"29,keyasint,omitempty"`
	Began     time.Duration `cbor:"30,keyasint,omitempty"`
	Hold      time.Duration `cbor:"31,keyasint,omitempty"`
	Patience  time.Duration `cbor:"32,keyasint,omitempty"`
	Ends      time.Duration `cbor:"33,keyasint,omitempty"`
	Given     time.Duration `cbor:"34,keyasint,omitempty"`

	Tried  []uint32 `cbor:"35,keyasint,omitempty"` // numbers of backends in their pool
	Sticky bool     `cbor:"36,keyasint,omitempty"` // it is counted at its client's affinity entry
	Place  int      `cbor:"37,keyasint,omitempty"` // in a queue, from one

	Row RowState `cbor:"38,keyasint"`

	Needs uint8 `cbor:"39,keyasint,omitempty"` // while greeting
	At    Ref   `cbor:"40,keyasint,omitempty"` // while greeting, where a ClientHello decides: the binding
}

// RowState is the row of a flow or a session.
type RowState struct {
	State   conntrack.State `cbor:"1,keyasint"`
	Created time.Duration   `cbor:"2,keyasint,omitempty"`
	Touched time.Duration   `cbor:"3,keyasint,omitempty"`
	Up      uint64          `cbor:"4,keyasint,omitempty"`
	Down    uint64          `cbor:"5,keyasint,omitempty"`
	Tries   uint8           `cbor:"6,keyasint,omitempty"`

	// How much of Up and Down the service and the backend have counted.
	ToldUp   uint64 `cbor:"7,keyasint,omitempty"`
	ToldDown uint64 `cbor:"8,keyasint,omitempty"`
	ToldIn   uint32 `cbor:"9,keyasint,omitempty"` // packets
	ToldOut  uint32 `cbor:"10,keyasint,omitempty"`
}

func saveRow(e *entry, told counted) RowState {
	return RowState{
		State: e.State(), Created: e.Created(), Touched: e.Touched(), Up: e.Up(), Down: e.Down(), Tries: uint8(e.Tries()),
		ToldUp: told.up, ToldDown: told.down, ToldIn: told.in, ToldOut: told.out,
	}
}

func (r *RowState) told() counted { return counted{r.ToldUp, r.ToldDown, r.ToldIn, r.ToldOut} }

func (r *RowState) restore(t *Table, k conntrack.Key, svc *Service, b *balancer.Backend) (conntrack.ID, *entry, error) {
	id, e := t.Restore(Row{
		Key: k, Service: svc, Backend: b, State: r.State,
		Created: r.Created, Touched: r.Touched, Up: r.Up, Down: r.Down, Tries: r.Tries,
	})
	if e == nil {
		return id, nil, fmt.Errorf("a row in state %v, or there are more than fit", r.State)
	}
	return id, e, nil
}

// Save returns the flow's state.
func (f *Flow) Save(n *Numbers) FlowState {
	return FlowState{
		Settings: n.Settings.Of(f.Settings), Backend: n.Backends.Of(f.backend), Doubted: n.Backends.Of(f.doubted),
		Holding: f.holding, Phase: uint8(f.phase), Gentle: f.gentle, Answered: f.answered,
		Fins: f.fins, Finished: f.finished, Muted: f.muted,
		FailedSide: f.failedSide, EndsAs: f.endsAs, FailedAt: f.failedAt,
		Quiet: f.quiet, Inspected: f.inspected, Settled: f.settled, Progress: f.progress,
		Unacked: f.unacked, Undelivered: f.undelivered,
		Asked: f.asked.Load(), Origin: f.Origin,
		Tries: f.tries, Step: f.step, Portless: f.portless,
		Accepted: f.accepted, Connected: f.connected, Attempt: f.attempt, Redial: f.redial,
		Budget: f.budget, Began: f.began, Hold: f.hold, Patience: f.patience, Ends: f.ends, Given: f.given,
		Tried: f.tried.IDs(), Sticky: f.Settings.holds(&f.sticky), Place: n.place(f.Settings.queue, f.ticket),
		Row: saveRow(f.ent, f.told), Needs: uint8(f.needs), At: n.Bindings.Of(f.at),
	}
}

// Visit shows what a flow refers to.
func (f *Flow) Visit(visit func(*Settings, *balancer.Backend, *Binding)) {
	visit(f.Settings, f.backend, f.at)
	visit(f.Settings, f.doubted, nil)
}

// holds reports whether a flow is counted at its client's affinity entry.
func (s *Settings) holds(ref *conntrack.AffinityRef) bool {
	return s.affinity != nil && s.affinity.Holds(ref)
}

// join counts a flow at its client's affinity entry, if there is one.
func (s *Settings) join(ref *conntrack.AffinityRef, o *Origin, now time.Duration) {
	if s.affinity != nil {
		s.affinity.Join(ref, conntrack.NewAffinityClient(s.Service, o.Client.Addr(), s.Persist.AffinityConfig), now)
	}
}

// Check returns an error if no flow can have such a state. What remains to be seen, Restore
// sees.
func (s *FlowState) Check(l Limits) error {
	switch {
	case s.Settings == 0 || int(s.Settings) > l.Settings || int(s.Backend) > l.Backends || int(s.Doubted) > l.Backends:
		return fmt.Errorf("flow: settings %d of %d, backends %d and %d of %d", s.Settings, l.Settings, s.Backend, s.Doubted, l.Backends)
	case s.Phase > uint8(silent) || s.FailedSide > Backend || s.EndsAs >= outcomes || (s.Fins|s.Finished|s.Muted)&^3 != 0:
		return fmt.Errorf("flow: phase %d, side %d, outcome %d, sides %b %b %b", s.Phase, s.FailedSide, s.EndsAs, s.Fins, s.Finished, s.Muted)
	case s.Fins == 3:
		return errors.New("flow: both FINs are passed on, and it has not ended")
	case !s.Row.State.IsOf(false):
		return fmt.Errorf("flow: a row that is %v", s.Row.State)
	case s.Place < 0 || s.Place > 0 && phase(s.Phase) != waiting:
		return fmt.Errorf("flow: phase %d, place %d of a queue", s.Phase, s.Place)
	case phase(s.Phase) == relaying && s.Backend == 0 || s.Holding && s.Backend == 0:
		return errors.New("flow: it has no backend")
	case phase(s.Phase) == connecting && !s.Holding:
		return errors.New("flow: it is connecting to no backend")
	case phase(s.Phase) > relaying && s.Backend != 0:
		return errors.New("flow: it has a backend before it is let in")
	case (phase(s.Phase) == greeting) != (s.Needs != 0) || needs(s.Needs)&^(needsHeader|needsHello) != 0:
		return fmt.Errorf("flow: phase %d, it needs %b", s.Phase, s.Needs)
	case int(s.At) > l.Bindings || (s.At != 0) != (needs(s.Needs)&needsHello != 0):
		return fmt.Errorf("flow: it needs %b, binding %d of %d", s.Needs, s.At, l.Bindings)
	}
	return checkOrigin(&s.Origin)
}

// IsRelaying reports whether a backend has accepted.
func (s *FlowState) IsRelaying() bool { return phase(s.Phase) == relaying }

// IsTrying reports whether the flow is connecting to a backend.
func (s *FlowState) IsTrying() bool { return phase(s.Phase) == connecting }

// IsGreeting reports whether the client is not let in yet.
func (s *FlowState) IsGreeting() bool { return phase(s.Phase) == greeting }

// IsSilent reports whether the client gets no answer.
func (s *FlowState) IsSilent() bool { return phase(s.Phase) == silent }

// IsOutcome reports whether there is such an outcome.
func IsOutcome(o Outcome) bool { return o < outcomes }

func checkOrigin(o *Origin) error {
	if o.Client.IsValid() != o.Local.IsValid() || o.Path != "" && o.Local.IsValid() {
		return fmt.Errorf("flow from %v to %v %s", o.Client, o.Local, o.Path)
	}
	return nil
}

// Restore makes f, which has ended or never begun, a flow of the state, which was checked.
// Its row is new, its place in admission is taken. The engine has given it a ticket if it
// needs one; its place in a queue it gets by RestoreQueues, and its timer by Arm.
func (f *Flow) Restore(s *FlowState, r *Refs, t *Table) error {
	cfg := at(r.Settings, s.Settings)
	proto := conntrack.TCP
	if !s.Origin.Local.IsValid() {
		proto = conntrack.Unix
	}
	b := at(r.Backends, s.Backend)
	id, ent, err := s.Row.restore(t, conntrack.NewKey(proto, s.Origin.Client, s.Origin.Local), cfg.Service, b)
	if err != nil {
		return fmt.Errorf("flow from %v: %w", s.Origin.Client, err)
	}
	f.Settings, f.ent, f.Service, f.backend, f.ID = cfg, ent, cfg.Service, b, id
	f.holding, f.phase, f.gentle, f.answered = s.Holding, phase(s.Phase), s.Gentle, s.Answered
	f.endState = endState{
		fins: s.Fins, finished: s.Finished, muted: s.Muted,
		failedSide: s.FailedSide, endsAs: s.EndsAs, failedAt: s.FailedAt,
		quiet: s.Quiet, inspected: s.Inspected, settled: s.Settled, progress: s.Progress,
		unacked: s.Unacked, undelivered: s.Undelivered,
	}
	f.isAnnounced = f.phase <= relaying
	f.asked.Store(s.Asked)
	f.idle = idleness{} // Arm marks it
	f.told = s.Row.told()
	f.Origin = s.Origin
	f.needs, f.at = needs(s.Needs), at(r.Bindings, s.At)
	f.tries, f.step, f.portless = s.Tries, s.Step, s.Portless
	f.accepted, f.connected, f.attempt, f.redial = s.Accepted, s.Connected, s.Attempt, s.Redial
	f.budget, f.began, f.hold, f.patience, f.ends = s.Budget, s.Began, s.Hold, s.Patience, s.Ends
	f.doubted, f.given = at(r.Backends, s.Doubted), s.Given
	f.tried.SetIDs(s.Tried)
	f.sticky = conntrack.AffinityRef{}
	r.Admission.restore(cfg)
	f.rejoin(r.Admission)
	if s.Sticky {
		cfg.join(&f.sticky, &f.Origin, r.Now)
	}
	if err := f.checkOwn(); err != nil {
		return fmt.Errorf("flow from %v: %w", s.Origin.Client, err)
	}
	return nil
}

// rejoin counts a restored flow where it was counted before, but for the counts of rules:
// see [Flow.RejoinRules].
func (f *Flow) rejoin(a *Admission) {
	c := &f.Settings.Access
	f.pass, f.isHeld = Pass{}, f.phase == silent
	switch client := f.Client.Addr(); {
	case f.isHeld:
		a.dropped.Add(1)
	case f.phase != greeting && client.IsValid() && c.MaxClientConns > 0:
		count, _ := f.Service.limits.Load().flows.Enter(c.ConnsBits.key(client))
		f.pass.holds.Add(count)
	}
}

// RejoinRules counts a restored flow at the rules that it would come to today, unless they have
// yet to judge it. The packet says who its client is.
func (f *Flow) RejoinRules(set *rules.Set, p *rules.Packet) {
	if f.needs&needsHeader != 0 || f.phase == silent || !p.Client.IsValid() {
		return
	}
	f.pass.counter = set.Rejoin(p, &f.pass.holds)
}

// restore takes the place of a flow that was admitted before.
func (a *Admission) restore(c *Settings) {
	a.places.enter(&c.Service.places)
	if c.IsUDP() {
		a.ports.enter(&c.Service.ports)
	}
	a.Open.Add(1)
}

// LastTouched returns when a flow last carried bytes, to arm flows in the order in which
// they may be marked as idle.
func (f *Flow) LastTouched() time.Duration { return f.lastProgress() }

// place returns the place of a ticket in a queue, from one; zero is none. Those that are
// looking for a backend come first.
func (n *Numbers) place(q *queue, t *ticket) int {
	if t == nil {
		return 0
	}
	if n.queues == nil {
		n.queues, n.places = make(map[*queue]Ref), make(map[*ticket]int)
	}
	n.QueueOf(q)
	q.mu.Lock()
	defer q.mu.Unlock()
	if t.state == looking {
		return 1
	}
	return n.places[t]
}

// QueueOf returns the number of a queue.
func (n *Numbers) QueueOf(q *queue) Ref {
	if r, ok := n.queues[q]; ok {
		return r
	}
	if n.queues == nil {
		n.queues, n.places = make(map[*queue]Ref), make(map[*ticket]int)
	}
	r := Ref(len(n.queues) + 1)
	n.queues[q] = r
	q.mu.Lock()
	defer q.mu.Unlock()
	place := 1
	for t := q.first; t != nil; t = t.next {
		place++
		n.places[t] = place
	}
	return r
}

// Queued is a restored flow that was in a queue.
type Queued struct {
	Flow  *Flow
	Place int
}

// RestoreQueues has restored flows stand in line as before, and the first of each line look
// for a backend. No flow has begun meanwhile.
func RestoreQueues(all []Queued) {
	sort.SliceStable(all, func(i, j int) bool { return all[i].Place < all[j].Place })
	woken := make(map[*queue]bool)
	for _, x := range all {
		q, t := x.Flow.Settings.queue, x.Flow.ticket
		q.mu.Lock()
		q.n.Add(1)
		t.state, t.prev, t.next = inLine, q.last, nil
		if q.last != nil {
			q.last.next = t
		} else {
			q.first = t
		}
		q.last = t
		q.mu.Unlock()
		woken[q] = true
	}
	for q := range woken {
		q.call(true) // room may have come meanwhile
	}
}
