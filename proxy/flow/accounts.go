package flow

import (
	"sync/atomic"
	"time"

	"usher/balancer"
	"usher/conntrack"
	"usher/proxy/rules"
)

// Record is what there is to say of a flow that has ended, was refused, or has got a backend (see [Trace]).
type Record struct {
	Origin
	Settings *Settings
	Backend  *balancer.Backend // the last one reserved; nil if none was
	Connect  time.Duration     // until a backend accepted; negative if none did
	Duration time.Duration     // so far, while it runs
	Up, Down uint64
	Tries    uint8
	Outcome  Outcome // Running: it has got Backend
	Why      Why     // while Running
	Others   uint64  // that ended so before the client was let in, and have no record
}

// records reports whether flows with these settings have records.
func (a *Admission) records(c *Settings) bool {
	return a.Record != nil && (!a.RecordSome || c.LogAccess || a.Trace.IsOn())
}

func (a *Admission) write(r Record) {
	if a.records(r.Settings) {
		a.Record(r)
	}
}

// Refuse accounts for a client that was turned away.
func (a *Admission) Refuse(c *Settings, from Origin, o Outcome, now time.Duration) {
	c.Service.ended[o].Add(1)
	r := Record{Origin: from, Settings: c, Connect: -1, Outcome: o}
	if o.IsFrontDoor() {
		a.writeFew(&r, now)
	} else {
		a.write(r)
	}
}

// TurnAway accounts for a newcomer that is not let in.
func (a *Admission) TurnAway(c *Settings, from Origin, o Outcome, now time.Duration) {
	c.Service.accepted.Add(1)
	a.Refuse(c, from, o, now)
}

// lineEvery is how often clients that were not let in have a line in the access log, of each
// service and outcome. A flood of them costs as little as it can.
const lineEvery = time.Second

type lineLimits [outcomes]struct {
	next   atomic.Int64 // when there may be a line again
	others atomic.Uint64
}

// writeFew records a client that was not let in, or counts it among the others of a later
// record.
func (a *Admission) writeFew(r *Record, now time.Duration) {
	if !a.records(r.Settings) {
		return
	}
	svc := r.Settings.Service
	all := svc.lines.Load()
	if all == nil {
		svc.lines.CompareAndSwap(nil, new(lineLimits))
		all = svc.lines.Load()
	}
	l := &all[r.Outcome]
	if next := l.next.Load(); int64(now) < next || !l.next.CompareAndSwap(next, int64(now+lineEvery)) {
		l.others.Add(1)
		return
	}
	r.Others = l.others.Swap(0)
	a.Record(*r)
}

// Settle ends an admitted flow: once, after its sockets are closed. It has the engine remove
// the flow's row, and then gives back the place, which stands for a row in the table.
func (a *Admission) Settle(f *Flow, o Outcome, now time.Duration, remove func(conntrack.ID)) {
	f.Ending(now)
	if f.phase == silent {
		a.breakSilence(f)
	} else {
		a.settle(f, o, now)
	}
	remove(f.ID)
	cfg := f.Settings
	f.pass.Release()
	f.ent, f.Service, f.Settings, f.backend, f.doubted, f.at, f.Via = nil, nil, nil, nil, nil, nil, nil // they may be gone before the memory is used again
	a.leave(cfg)
}

// settle records a flow, and closes its accounts.
func (a *Admission) settle(f *Flow, o Outcome, now time.Duration) {
	f.uncount()
	r := Record{
		Origin: f.Origin, Settings: f.Settings, Backend: f.backend, Connect: -1,
		Duration: now - f.accepted, Up: f.ent.Up(), Down: f.ent.Down(), Tries: f.tries, Outcome: o,
	}
	if f.phase == relaying {
		r.Connect = f.connected - f.accepted
	}
	if f.phase == greeting {
		f.Service.accepted.Add(1)
		a.writeFew(&r, now)
	} else {
		a.write(r)
	}
	f.account(o, now)
}

// account closes the flow's accounts: the reservation is given back, the outcome
// and the bytes are counted. The entry is still the caller's to remove.
func (f *Flow) account(o Outcome, now time.Duration) {
	s := f.Service
	if f.phase == relaying && f.ent.Down() == 0 {
		switch o {
		case BackendReset:
			f.Settings.onFailure(f.backend, balancer.FailedReset)
		case BackendLost:
			f.Settings.onFailure(f.backend, balancer.FailedTimeout)
		case Finished:
			f.Settings.onSuccess(f.backend) // with nothing to say it has closed in good order
		}
	}
	f.release()
	f.Settings.queue.leave(f.ticket, false)
	f.Settings.forget(&f.sticky, now)
	f.CountBytes()
	s.ended[o].Add(1)
	s.lifetime.Observe(&LifetimeBounds, now-f.accepted)
}

// Passed counts n bytes from side s that were passed on. The two sides may be counted
// by two goroutines.
func (f *Flow) Passed(s Side, n int, now time.Duration) {
	f.follow(s, now)
	if s == Client {
		f.ent.CountUp(n, now)
	} else {
		f.ent.CountDown(n, now)
	}
}

// follow notes when the client first sent something, and the first answer: that the
// backend works, and how long it took since then, or since it was connected if it
// speaks first.
func (f *Flow) follow(s Side, now time.Duration) {
	switch {
	case s == Client:
		if f.asked.Load() == 0 {
			f.asked.Store(int64(now))
		}
	case !f.answered:
		f.answered = true
		since := max(time.Duration(f.asked.Load()), f.connected)
		f.Settings.Pool.Observe(f.backend, max(now-since, 0), now)
		f.Settings.onSuccess(f.backend)
	}
}

// CountBytes adds what was passed on since the last call to the counters of the service, of
// the backend, and of the rule that has let the client in.
func (f *Flow) CountBytes() { f.told.add(f.ent, f.Service, f.backend, f.pass.counter) }

// settleSession is settle for a session.
func (a *Admission) settleSession(x *Session, o Outcome, now time.Duration) {
	a.settleBytes(x, o, now)
	x.Service.ended[o].Add(1)
	x.Service.lifetime.Observe(&LifetimeBounds, now-x.opened)
}

// settlePart accounts for what a session has carried with a backend that it now leaves,
// which has refused it. The session goes on, and counts from nothing.
func (a *Admission) settlePart(x *Session, now time.Duration) {
	a.settleBytes(x, Refused, now)
	x.ent.ResetBytes()
	x.counted, x.told = now, counted{}
}

// settleBytes records a session, and counts its bytes.
func (a *Admission) settleBytes(x *Session, o Outcome, now time.Duration) {
	up, down := x.ent.Up(), x.ent.Down()
	a.write(Record{
		Origin: x.Origin, Settings: x.Settings, Backend: x.backend, Connect: -1,
		Duration: now - x.counted, Up: up, Down: down, Tries: x.tries(), Outcome: o,
	})
	x.countBytes()
}

// CountPackets is CountBytes for the segments from and to the client, as its socket has them.
func (f *Flow) CountPackets(in, out uint32) { f.told.addPackets(in, out, f.Service, f.backend) }

// countPackets is CountPackets for a session.
func (x *Session) countPackets() {
	x.told.addPackets(uint32(x.asked), uint32(x.replies), x.Service, x.backend)
}

// countBytes is CountBytes for a session. Its rule has counted the first datagram already.
func (x *Session) countBytes() {
	x.countPackets()
	before := x.told.up + x.told.down
	x.told.add(x.ent, x.Service, x.backend, nil)
	if rule := x.pass.counter; rule != nil {
		n := x.told.up + x.told.down - before
		known := min(n, uint64(x.judged))
		x.judged -= int(known)
		rule.Bytes.Add(n - known)
	}
}

// LifetimeBounds are the buckets of how long flows last.
var LifetimeBounds = balancer.Bounds{
	100 * time.Millisecond, time.Second, 5 * time.Second, 30 * time.Second,
	2 * time.Minute, 10 * time.Minute, time.Hour, 6 * time.Hour,
}

// counted is how many of a flow's bytes are in the counters of its service and backend. They
// are added when it ends, and before if a reader wants to know: on the way of a byte there
// are no other counters than the flow's own. A counter never goes back. What a peer turns
// out not to have taken stays in it, if it was added before.
type counted struct {
	up, down uint64
	in, out  uint32 // packets, as the kernel counts segments
}

// add adds what is not counted yet.
func (c *counted) add(ent *entry, svc *Service, b *balancer.Backend, rule *rules.Counter) {
	up, down := ent.Up(), ent.Down()
	newUp, newDown := max(up, c.up)-c.up, max(down, c.down)-c.down
	if newUp|newDown == 0 {
		return
	}
	c.up, c.down = max(up, c.up), max(down, c.down)
	svc.up.Add(newUp)
	svc.down.Add(newDown)
	if b != nil {
		b.CountBytes(newUp, newDown)
	}
	if rule != nil {
		rule.Bytes.Add(newUp + newDown)
	}
}

// addPackets is add for packets. The kernel's numbers are of 32 bits and may begin anew; one that has become less, as when a
// datagram turns out not to have left, changes nothing until it is more again.
func (c *counted) addPackets(in, out uint32, svc *Service, b *balancer.Backend) {
	newIn, newOut := max(int32(in-c.in), 0), max(int32(out-c.out), 0)
	if newIn|newOut == 0 {
		return
	}
	c.in, c.out = c.in+uint32(newIn), c.out+uint32(newOut)
	svc.in.Add(uint64(newIn))
	svc.out.Add(uint64(newOut))
	if b != nil {
		b.CountPackets(uint64(newIn), uint64(newOut))
	}
}
