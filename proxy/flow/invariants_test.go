package flow

import (
	"math/rand/v2"
	"net/netip"
	"testing"
	"time"

	"usher/balancer"
	"usher/conntrack"
)

// TestFlowsHoldTheirInvariants reports random events of flows that share two backends and a
// queue, as an engine might, and does what the policy answers.
func TestFlowsHoldTheirInvariants(t *testing.T) {
	t.Parallel()
	for seed := range uint64(20) {
		s := newFlowSimulation(t, rand.New(rand.NewPCG(seed, 0)))
		for range 2000 {
			s.step()
			if t.Failed() {
				t.Fatalf("seed %d, at %v", seed, s.now)
			}
		}
		for _, f := range s.flows {
			s.end(f, Drained)
		}
		wantReserved(t, s.pool, 0)
		if n := s.Settings.queue.n.Load(); n != 0 {
			t.Errorf("seed %d: %d are left in the queue", seed, n)
		}
	}
}

type flowSimulation struct {
	*rand.Rand
	t        *testing.T
	now      time.Duration
	Settings *Settings
	pool     *balancer.Pool
	table    *Table
	flows    []*Flow
	woken    []*Flow
}

func newFlowSimulation(t *testing.T, r *rand.Rand) *flowSimulation {
	c := ServiceConfig{
		QueueLength: r.IntN(4), QueueTimeout: 3 * time.Second, WaitUp: r.IntN(2) == 0, AbortOnClose: r.IntN(2) == 0,
		Wait: time.Duration(r.IntN(2)) * 4 * time.Second, HalfCloseTimeout: 2 * time.Second, ReclaimIdle: time.Duration(r.IntN(2)) * time.Second,
	}
	f, pool := newFlow(t, 2, c)
	var all []balancer.Spec
	for _, b := range pool.Backends() {
		all = append(all, balancer.Spec{Endpoint: b.Endpoint(), Weight: 1, Check: balancer.Up, Limits: balancer.Limits{Max: 2}})
	}
	pool.Update(all, 0)
	return &flowSimulation{Rand: r, t: t, Settings: f.Settings, pool: pool, table: conntrack.New[Service, balancer.Backend](8)}
}

func (s *flowSimulation) step() {
	s.now += time.Duration(s.IntN(100)) * time.Millisecond
	if len(s.flows) < 6 && s.IntN(4) == 0 {
		f := new(Flow)
		from := Origin{Client: flowClient(s.IntN(1 << 16)), Local: flowClient(80)}
		id, ent := s.table.Insert(conntrack.NewKey(conntrack.TCP, from.Client, from.Local), s.Settings.Service, s.now)
		f.GiveTicket(func() { s.woken = append(s.woken, f) })
		f.Begin(s.Settings, id, ent, &from, s.now)
		s.flows = append(s.flows, f)
		s.follow(f, f.Next(s.now))
	}
	for _, f := range s.woken {
		if f.ent != nil {
			s.follow(f, f.Woken(s.now))
		}
	}
	s.woken = nil
	if len(s.flows) == 0 {
		return
	}
	f := s.flows[s.IntN(len(s.flows))]
	if s.follow(f, s.event(f)); s.t.Failed() {
		return
	}
	for _, f := range s.flows {
		if err := f.CheckInvariants(); err != nil {
			s.t.Error(err)
		}
	}
	if err := s.Settings.queue.CheckInvariants(); err != nil {
		s.t.Error(err)
	}
}

// event reports something that may happen to a flow in its phase.
func (s *flowSimulation) event(f *Flow) Action {
	switch n := s.IntN(8); {
	case s.now >= f.Deadline():
		return f.Expired(s.now)
	case n == 0:
		return f.Cut(CutTarget{Backend: f.backend}, Fin, s.now)
	case f.phase != relaying && n == 1:
		return f.ClientEnded()
	case f.phase == connecting && f.redial == 0 && n < 5:
		return f.DialFailed(Class(s.IntN(int(ClassTransient)+1)), s.now)
	case f.phase == connecting && f.redial == 0:
		return f.Connected(s.now)
	case f.phase == relaying && n < 5:
		f.Passed(Side(s.IntN(2)), 100, s.now)
	case f.phase == relaying && n == 5:
		return f.SideFailed(Side(s.IntN(2)), BackendReset, s.now)
	case f.phase == relaying:
		if from := Side(s.IntN(2)); !f.HasPassedFIN(from) && !f.IsDelivering() {
			return f.PassedFIN(from, s.now)
		}
	}
	return Action{Until: f.Deadline()}
}

func (s *flowSimulation) follow(f *Flow, a Action) {
	if a.Do == Inspect || a.Do == Deliver {
		a = f.Inspected(&[2]PeerState{{Unacked: s.IntN(2)}, {HasFinished: s.IntN(4) == 0}}, s.now)
	}
	if a.Do == End {
		s.end(f, a.Outcome)
		return
	}
	if f.Arm(s.table, s.now); f.Deadline() <= s.now-time.Millisecond {
		s.t.Errorf("%+v at %v sets the timer to %v", a, s.now, f.Deadline())
	}
}

func (s *flowSimulation) end(f *Flow, o Outcome) {
	f.account(o, s.now)
	s.table.Remove(f.ID)
	f.ent = nil
	for i := range s.flows {
		if s.flows[i] == f {
			s.flows = append(s.flows[:i:i], s.flows[i+1:]...)
			break
		}
	}
}

func flowClient(port int) netip.AddrPort {
	return netip.AddrPortFrom(netip.AddrFrom4([4]byte{192, 0, 2, 1}), uint16(port))
}
