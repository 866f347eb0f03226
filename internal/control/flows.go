package control

import (
	"cmp"
	"context"
	"iter"
	"maps"
	"slices"
	"time"

	"usher/internal/api"
	"usher/proxy"
)

// flowServer is what has the flows: a *proxy.Server.
type flowServer interface {
	Flows() iter.Seq[proxy.Row]
	Measure([]proxy.Row)
	Kill(match func(*proxy.Row) bool) int
	KillByID([]proxy.FlowID) []proxy.FlowID
	Denied() func(*proxy.Row) bool
	FollowFlows(context.Context) iter.Seq[[]proxy.FlowEvent]
	Now() time.Duration
}

// rttBatch is how many rows are kept until the kernel is asked for their round trip times.
const rttBatch = 128

// Flows yields the flows that a query asks for. Without an order they stream in bounded memory, and a reader may take its
// time: it holds up no flow.
func (c *Controller) Flows(q FlowQuery) iter.Seq[api.Flow] { return flows(c.server, q) }

// Kill ends the flows that pass a filter, with a reset.
func (c *Controller) Kill(f FlowFilter) api.Killed { return kill(c.server, f) }

// FlowEvents yields what happens to the flows that pass a filter, from its call on, until ctx ends or usher has stopped.
func (c *Controller) FlowEvents(ctx context.Context, f FlowFilter) iter.Seq[[]api.FlowEvent] {
	return flowEvents(ctx, c.server, f)
}

// Rebalance ends the flows that backends of a service have beyond their fair share, at most rate a second, as
// [proxy.Server.Rebalance] does. Progress is called with how many have ended, of how many. The error is a *NotFoundError, a
// *RebalanceError, or that of ctx.
func (c *Controller) Rebalance(ctx context.Context, service string, rate float64, progress func(ended, of int)) error {
	s, err := c.lookup(service)
	if err != nil {
		return err
	}
	if _, err := c.server.Rebalance(ctx, s.running, rate, progress); err != nil && ctx.Err() == nil {
		return &RebalanceError{service, err}
	}
	return context.Cause(ctx)
}

// flows yields the rows that a query asks for. Without an order they stream in bounded
// memory.
func flows(s flowServer, q FlowQuery) iter.Seq[api.Flow] {
	rows, isMeasured := matching(s, &q.FlowFilter), q.Sort == "rtt"
	if isMeasured {
		rows = measured(s, rows)
	}
	if q.Sort != "" {
		top := q.Top
		if top == 0 {
			top = MaxTop
		}
		order := flowOrders[q.Sort]
		if q.IsReversed {
			order = func(a, b *proxy.Row) int { return flowOrders[q.Sort](b, a) }
		}
		rows = first(rows, order, min(top, MaxTop))
	} else if q.Top > 0 {
		rows = atMost(rows, q.Top)
	}
	return func(yield func(api.Flow) bool) {
		if (q.RTT || q.Sockets) && !isMeasured {
			rows = measured(s, rows)
		}
		for r := range rows {
			f := flowOf(&r, s.Now())
			if q.Sockets {
				addSockets(&f, &r.Sockets)
			}
			if !yield(f) {
				return
			}
		}
	}
}

// measured yields rows with their round trip times, for which loops are asked batch by batch.
func measured(s flowServer, rows iter.Seq[proxy.Row]) iter.Seq[proxy.Row] {
	return func(yield func(proxy.Row) bool) {
		for batch := range batches(rows, rttBatch) {
			s.Measure(batch)
			for _, r := range batch {
				if !yield(r) {
					return
				}
			}
		}
	}
}

func matching(s flowServer, f *FlowFilter) iter.Seq[proxy.Row] {
	return func(yield func(proxy.Row) bool) {
		isMeant := f.matcher(s)
		for r := range s.Flows() {
			if isMeant(&r) && !yield(r) {
				return
			}
		}
	}
}

// matcher returns what reports whether a flow passes all of the filter.
func (f *FlowFilter) matcher(s flowServer) func(*proxy.Row) bool {
	now := s.Now()
	if !f.Denied {
		return func(r *proxy.Row) bool { return f.Match(r, now) }
	}
	isDenied := s.Denied()
	return func(r *proxy.Row) bool { return f.Match(r, now) && isDenied(r) }
}

// flowOf is a row as the API shows it.
func flowOf(r *proxy.Row, now time.Duration) api.Flow {
	f := api.Flow{
		Client:    clientText(r),
		Listener:  listenerText(r),
		Service:   r.Service.Name,
		Network:   r.Network(),
		State:     r.State.String(),
		AgeMS:     max(now-r.Created, 0).Milliseconds(),
		IdleMS:    max(now-r.Touched, 0).Milliseconds(),
		BytesUp:   r.Up,
		BytesDown: r.Down,
		Tries:     int(r.Tries),
		RTTMS:     float64(r.RTT.Microseconds()) / 1000,
		ID:        r.FlowID().String(),
	}
	if to := r.Key.Local(); to.IsValid() {
		f.Destination = to.String()
	}
	if r.Backend != nil {
		f.Backend = r.Backend.String()
	}
	return f
}

// addSockets adds what was measured of a flow.
func addSockets(f *api.Flow, s *proxy.Sockets) {
	if s.Target.IsValid() {
		f.Target = s.Target.String()
	}
	if s.Local.IsValid() {
		f.Destination = s.Local.String()
	}
	if s.Source.IsValid() {
		f.Source = s.Source.String()
	}
	f.PacketsUp, f.PacketsDown = s.PacketsUp(), s.PacketsDown()
	if s.Left >= 0 {
		f.TimeoutMS = max(s.Left.Milliseconds(), 1)
	}
	switch s.Closed {
	case [2]bool{true, false}:
		f.Closed = "client"
	case [2]bool{false, true}:
		f.Closed = "backend"
	case [2]bool{true, true}:
		f.Closed = "both"
	}
}

func flowEvents(ctx context.Context, s flowServer, f FlowFilter) iter.Seq[[]api.FlowEvent] {
	all := s.FollowFlows(ctx)
	return func(yield func([]api.FlowEvent) bool) {
		for batch := range all {
			isMeant, now, clock := f.matcher(s), s.Now(), time.Now()
			var some []api.FlowEvent
			for i := range batch {
				switch e := &batch[i]; {
				case e.Lost > 0:
					some = append(some, api.FlowEvent{Time: clock, Event: "lost", Lost: e.Lost})
				case isMeant(&e.Row):
					flow := flowOf(&e.Row, e.At)
					addSockets(&flow, &e.Row.Sockets)
					some = append(some, api.FlowEvent{Time: clock.Add(e.At - now), Event: changes[e.Change], Flow: &flow})
				}
			}
			if len(some) > 0 && !yield(some) {
				return
			}
		}
	}
}

// changes are the words of what happens to a flow.
var changes = [...]string{proxy.FlowBegan: "new", proxy.FlowMoved: "update", proxy.FlowEnded: "destroy"}

// flowOrders are the columns that flows can be sorted by. Of what is measured the most comes
// first.
var flowOrders = map[string]func(a, b *proxy.Row) int{
	"client":     func(a, b *proxy.Row) int { return a.Client().Compare(b.Client()) },
	"listener":   func(a, b *proxy.Row) int { return cmp.Compare(listenerText(a), listenerText(b)) },
	"service":    func(a, b *proxy.Row) int { return cmp.Compare(a.Service.Name, b.Service.Name) },
	"backend":    func(a, b *proxy.Row) int { return cmp.Compare(backendText(a), backendText(b)) },
	"network":    func(a, b *proxy.Row) int { return cmp.Compare(a.Network(), b.Network()) },
	"state":      func(a, b *proxy.Row) int { return cmp.Compare(a.State.String(), b.State.String()) },
	"age":        func(a, b *proxy.Row) int { return cmp.Compare(a.Created, b.Created) },
	"idle":       func(a, b *proxy.Row) int { return cmp.Compare(a.Touched, b.Touched) },
	"bytes":      func(a, b *proxy.Row) int { return cmp.Compare(b.Up+b.Down, a.Up+a.Down) },
	"bytes-up":   func(a, b *proxy.Row) int { return cmp.Compare(b.Up, a.Up) },
	"bytes-down": func(a, b *proxy.Row) int { return cmp.Compare(b.Down, a.Down) },
	"rtt":        func(a, b *proxy.Row) int { return cmp.Compare(b.RTT, a.RTT) },
	"tries":      func(a, b *proxy.Row) int { return cmp.Compare(b.Tries, a.Tries) },
}

// FlowColumns returns what flows can be sorted by, in order.
func FlowColumns() []string {
	var all []string
	for name := range flowOrders {
		all = append(all, name)
	}
	slices.Sort(all)
	return all
}

// first yields the first n rows in an order. It keeps n of them.
func first(rows iter.Seq[proxy.Row], order func(a, b *proxy.Row) int, n int) iter.Seq[proxy.Row] {
	return func(yield func(proxy.Row) bool) {
		top := proxy.NewTopRows(n, order)
		for r := range rows {
			top.Add(r)
		}
		for _, r := range top.Take() {
			if !yield(r) {
				return
			}
		}
	}
}

func atMost(rows iter.Seq[proxy.Row], n int) iter.Seq[proxy.Row] {
	return func(yield func(proxy.Row) bool) {
		left := n
		for r := range rows {
			if left--; !yield(r) || left == 0 {
				return
			}
		}
	}
}

// batches yields rows in slices of up to n, which are used again.
func batches(rows iter.Seq[proxy.Row], n int) iter.Seq[[]proxy.Row] {
	return func(yield func([]proxy.Row) bool) {
		batch := make([]proxy.Row, 0, n)
		for r := range rows {
			if batch = append(batch, r); len(batch) < n {
				continue
			}
			if !yield(batch) {
				return
			}
			batch = batch[:0]
		}
		if len(batch) > 0 {
			yield(batch)
		}
	}
}

// kill ends the flows that pass a filter. Those that are named it finds without a look at the others, and tells them.
func kill(s flowServer, f FlowFilter) (k api.Killed) {
	others := f
	if others.ID = nil; len(f.ID) == 0 || !others.IsAll() {
		return api.Killed{Killed: s.Kill(f.matcher(s))}
	}
	for _, id := range s.KillByID(slices.Collect(maps.Keys(f.ID))) {
		k.IDs = append(k.IDs, id.String())
	}
	k.Killed = len(k.IDs)
	return k
}
