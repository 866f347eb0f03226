package flow

import (
	"flag"
	"fmt"
	"math"
	"math/rand/v2"
	"net/netip"
	"slices"
	"testing"
	"time"

	"usher/balancer"
	"usher/conntrack"
	"usher/internal/race"
)

var seedFlag = flag.Uint64("seed", 1, "first seed of the session simulation")

// shadow is what the model knows of a session. Shadows lie in order of their begin.
type shadow struct {
	x              *Session
	began          time.Duration
	Service        *Service
	client, local  netip.AddrPort
	backend        *balancer.Backend
	touched        time.Duration
	assured        bool
	chosenDown     bool // began, or came to its backend, when that was down
	madeRoom       bool // another one has ended for its socket
	asked, replies int
	waiting        bool            // nothing came since it asked
	open           []time.Duration // when that was asked which was not answered since
	kept           []string        // what the backend may yet refuse
	since, heard   time.Duration   // when that began, and when it last answered
	bytes          int             // each way, with this backend
	unlisted       bool            // it moved to where there was a session already
	tried          map[*balancer.Backend]bool
}

// simulation drives sessions as an engine would, and a slow model beside it.
type simulation struct {
	*rand.Rand
	t         *testing.T
	now       time.Duration
	admission *Admission
	m         *Sessions
	services  []*Service
	live      []*shadow
	cut       []*Session // by the sessions, since the step began
	ended     map[*Service]*[outcomes]uint64
	ports     uint16   // of backends so far
	calls     []string // what others were asked for since the step began
	lost      map[*Service]uint64
	closed    bool
	drained   time.Duration // when it was closed
	log       []string
}

func TestSessionsAgainstModel(t *testing.T) {
	t.Parallel()
	seeds, steps := 30, 1500
	if race.Enabled || testing.Short() {
		seeds = 6
	}
	first := *seedFlag
	for i := range uint64(seeds) {
		s := newSimulation(t, first+i)
		for range steps {
			s.cut, s.calls = s.cut[:0], nil
			s.step()
			s.check()
			if t.Failed() {
				t.Fatalf("replay with -seed %d; the last steps:\n%v", first+i, s.log[max(0, len(s.log)-12):])
			}
		}
		s.m.Stop(s.now)
		for _, x := range s.live {
			s.ended[x.Service][Drained]++
		}
		s.live = nil
		if s.check(); t.Failed() {
			t.Fatalf("replay with -seed %d: not all ended", first+i)
		}
	}
}

// TestRepliesOwedDoNotOverflow: a client that has asked very often is owed more than
// a number can say.
func TestRepliesOwedDoNotOverflow(t *testing.T) {
	t.Parallel()
	c := testUDPService(t, UDPConfig{Replies: 1_000_000_000}, netip.MustParseAddrPort("10.0.0.1:53"))
	svc := testService(c)
	m := sessionsOf(admissionFor(t, 1, svc), func(*Session) {})
	x, a := m.route(testBinding(svc), netip.MustParseAddrPort("192.0.2.1:1"), netip.MustParseAddrPort("192.0.2.2:53"), 0)
	if x == nil {
		t.Fatal(a)
	}
	x.asked = math.MaxInt / 2
	for range 3 {
		if m.Replied(x, 1, 0).Do == End {
			t.Errorf("the flow is over with reply %d", x.replies)
		}
	}
}

// admissionFor has so many places for the flows of services, and does not run.
func admissionFor(t testing.TB, places int64, services ...*Service) *Admission {
	t.Helper()
	return dividing(t, places, 0, services...)
}

// dividing is admissionFor with so many local ports; zero is unknown.
func dividing(t testing.TB, places, ports int64, services ...*Service) *Admission {
	t.Helper()
	a := &Admission{Idle: make(chan struct{}, 1)}
	var all []*Settings
	for _, svc := range services {
		all = append(all, svc.Settings())
	}
	d, err := Divide(all, places, ports)
	if err != nil {
		t.Fatal(err)
	}
	a.Redivide(d, nil)
	return a
}

// sessionsOf returns the sessions of the only worker.
func sessionsOf(a *Admission, cut func(*Session)) *Sessions {
	return NewSessions(a, int(a.maxConns.Load()), cut, func(Shortage) bool { return false })
}

func newSimulation(t *testing.T, seed uint64) *simulation {
	s := &simulation{Rand: rand.New(rand.NewPCG(seed, 1)), t: t, ended: map[*Service]*[outcomes]uint64{}, lost: map[*Service]uint64{}}
	pick := func(n ...int) int { return n[s.IntN(len(n))] }
	places := int64(pick(3, 20, 60))
	for i := range 2 {
		pool, err := balancer.NewPool(balancer.Options{Scheduler: []string{"rr", "lc", "mh"}[s.IntN(3)]})
		if err != nil {
			t.Fatal(err)
		}
		svc := testService(ServiceConfig{Name: fmt.Sprint(i), Pool: pool, Reserve: pick(0, 0, 1), Listeners: []Listener{{Network: "udp"}}, UDP: UDPConfig{
			IdleTimeout: 20 * time.Second, UnrepliedTimeout: time.Duration(pick(0, 5, 40)) * time.Second,
			Replies: pick(0, 0, 1, 3), OnePacket: s.IntN(4) == 0,
			MaxFlows: pick(0, 1, 8, 30), MaxClientFlows: pick(0, 0, 1, 6),
		}})
		s.services = append(s.services, svc)
		s.ended[svc] = new([outcomes]uint64)
		for range s.IntN(4) {
			s.addBackend(svc)
		}
	}
	s.admission = dividing(t, places, int64(pick(0, 15, 50)), s.services...)
	s.m = sessionsOf(s.admission, func(x *Session) { s.cut = append(s.cut, x) })
	s.m.others = func(short Shortage) bool { s.calls = append(s.calls, short.text()); return false }
	return s
}

func (s *simulation) addBackend(svc *Service) {
	s.ports++
	all := []balancer.Spec{{Endpoint: balancer.Endpoint{Addr: netip.AddrPortFrom(netip.MustParseAddr("10.0.0.1"), s.ports)}, Weight: 1, Check: balancer.Up}}
	for _, b := range svc.Config().Pool.Backends() {
		all = append(all, balancer.Spec{Endpoint: b.Endpoint(), Weight: 1, Check: balancer.Up})
	}
	svc.Config().Pool.Update(all, 0)
}

func (s *simulation) note(format string, a ...any) {
	s.log = append(s.log, fmt.Sprintf("\n%v: ", s.now)+fmt.Sprintf(format, a...))
}

func (s *simulation) step() {
	svc := s.services[s.IntN(2)]
	backends := svc.Config().Pool.Backends()
	switch n := s.IntN(100); {
	case n < 50:
		s.datagram(svc)
	case n < 65 && len(s.live) > 0:
		s.reply(s.live[s.IntN(len(s.live))])
	case n < 72 && len(s.live) > 0:
		s.refusal(s.live[s.IntN(len(s.live))])
	case n < 84:
		until := s.now + time.Duration(s.IntN(3000))*time.Millisecond
		if s.IntN(20) == 0 {
			until += time.Minute
		}
		for s.now < until { // as an engine does, which never sleeps beyond a deadline
			s.now = min(s.now+conntrack.Tick, until)
			s.m.Expire(s.now)
		}
		s.expire()
	case n < 87 && len(backends) < 6:
		s.note("a backend more of %s", svc.Name)
		s.addBackend(svc)
	case n < 90 && len(backends) > 0:
		s.remove(svc, backends[s.IntN(len(backends))])
	case n < 96 && len(backends) > 0:
		setCheck(svc.Config().Pool, backends[s.IntN(len(backends))], []balancer.Status{balancer.Up, balancer.Unknown, balancer.Down}[s.IntN(3)])
	case n < 97 && len(s.live) > 0:
		s.noSocket(s.live[s.IntN(len(s.live))])
	case n < 98:
		s.remote(svc)
	case n == 99 && s.IntN(20) == 0:
		s.note("drain")
		if !s.closed {
			s.closed, s.drained = true, s.now
		}
		s.m.Drain()
	}
}

// datagram routes one, and predicts who has to make room for it.
func (s *simulation) datagram(svc *Service) {
	client := netip.AddrPortFrom(netip.AddrFrom4([4]byte{192, 0, 2, byte(s.IntN(6))}), uint16(1+s.IntN(6)))
	local := netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 0, 0, byte(1 + s.IntN(2))}), 53+uint16(slices.Index(s.services, svc)))
	var known []*shadow
	ofService, ofClient := 0, 0
	for _, x := range s.live {
		if x.Service != svc {
			continue
		}
		ofService++
		if x.client.Addr() == client.Addr() {
			ofClient++
		}
		if x.client == client && x.local == local {
			known = append(known, x)
		}
	}
	stranded := len(known) == 1 && s.isOnStaleBackend(known[0])
	x, a := s.m.route(testBinding(svc), client, local, s.now)
	fresh, o := a.Do == Open, a.Outcome
	s.note("%v asks %v: %v, fresh %v, cut %d", client, local, o, fresh, len(s.cut))
	c := &svc.Config().UDP
	if stranded {
		s.gone(known[0], BackendDown)
		known = nil
		ofService--
		if ofClient--; x == nil || !fresh {
			s.t.Error("no new session after one that was left with a backend that is down")
		}
	}
	if x != nil && !fresh {
		i := slices.IndexFunc(known, func(k *shadow) bool { return k.x == x })
		if i < 0 || o != Running || x.Client != client || x.Local != local {
			s.t.Errorf("a datagram of %v to %v got a session of %v to %v, %v", client, local, x.Client, x.Local, o)
			return
		}
		s.sent(known[i])
		return
	}
	want, asks := Running, ""
	switch full := s.full(svc, ofService); {
	case len(known) > 0 && !c.OnePacket:
		s.t.Error("the flow's session was not found")
	case s.closed:
		want = Draining
	case len(svc.Config().Pool.Backends()) == 0:
		want = NoBackend
	case c.MaxClientFlows > 0 && ofClient >= c.MaxClientFlows && svc.ClientShare() > 0:
		if !s.evictedOwn(svc, client.Addr()) {
			want = ClientFull
		} else if full = s.full(svc, ofService-1); full != Running && !s.evicted(Shortage{svc.Settings(), full}, nil) {
			want, asks = full, Shortage{svc.Settings(), full}.text()
		}
	case full != Running && !s.evicted(Shortage{svc.Settings(), full}, nil):
		want, asks = full, Shortage{svc.Settings(), full}.text()
	}
	s.asks(asks)
	if o != want || (x != nil) != (want == Running) {
		s.t.Errorf("a new session: %v, %v, want %v", x != nil, o, want)
		return
	}
	if x == nil {
		s.ended[svc][o]++
		return
	}
	if slices.ContainsFunc(known, func(k *shadow) bool { return k.backend == x.backend && !k.unlisted }) {
		s.t.Error("one more session between the same two")
	}
	n := &shadow{x: x, began: s.now, chosenDown: x.backend.Status() == balancer.Down, Service: svc, client: client, local: local, backend: x.backend, tried: map[*balancer.Backend]bool{}, heard: s.now - doubtAfter}
	s.live = append(s.live, n)
	s.sent(n)
}

// isOnStaleBackend reports whether a session's next datagram must go elsewhere.
func (s *simulation) isOnStaleBackend(x *shadow) bool {
	if s.closed || x.Service.Config().UDP.OnePacket {
		return false
	}
	if x.backend.Status() != balancer.Down {
		x.chosenDown = false
	}
	return x.chosenDown && s.better(x.Service)
}

// better reports whether a service has a backend that is not down.
func (s *simulation) better(svc *Service) bool {
	return slices.ContainsFunc(svc.Config().Pool.Backends(), func(b *balancer.Backend) bool { return b.Status() != balancer.Down })
}

func (s *simulation) sent(x *shadow) {
	data := fmt.Sprint(s.Uint64())
	s.m.Sent(x.x, 1, len(data), s.now)
	doubts := s.m.Doubts(x.x, s.now)
	if doubts {
		_, p := s.m.Keep(x.x, 1, len(data), 0, s.now)
		copy(p, data)
	}
	x.touched = s.now
	x.asked, x.waiting = x.asked+1, true
	x.open = append(x.open, s.now)
	x.bytes += len(data)
	if len(x.kept) > 0 && s.now >= x.since+doubtAfter {
		x.heard, x.kept = x.since+doubtAfter, nil
	}
	if want := s.now >= x.heard+doubtAfter; want != doubts {
		s.t.Errorf("in doubt: %v, want %v", doubts, want)
	} else if want {
		if len(x.kept) == 0 {
			x.since = s.now
		}
		x.kept = append(x.kept, data)
	}
}

func (s *simulation) reply(x *shadow) {
	last := s.m.Replied(x.x, 10, s.now).Do == End
	x.assured, x.touched = true, s.now
	x.heard, x.kept = s.now, nil
	x.bytes += 10
	x.replies, x.waiting = x.replies+1, false
	if len(x.open) > 0 {
		x.open = x.open[1:]
	}
	want := x.Service.Config().UDP.Replies > 0 && x.replies >= x.Service.Config().UDP.Replies*max(x.asked, 1)
	s.note("reply %d to %d for %v, last %v", x.replies, x.asked, x.client, last)
	if last != want {
		s.t.Errorf("last reply: %v, want %v", last, want)
	}
	if last {
		s.gone(x, Replied)
	}
}

func (s *simulation) refusal(x *shadow) {
	if x.replies > 0 {
		clear(x.tried)
	}
	x.tried[x.backend] = true
	untried := slices.ContainsFunc(x.Service.Config().Pool.Backends(), func(b *balancer.Backend) bool { return !x.tried[b] })
	failures := x.backend.Failures()
	moved := s.m.PeerAbsent(x.x, s.now).Do == Open
	s.note("%v refuses %v, moved %v", x.backend, x.client, moved)
	if x.backend.Failures() != failures+1 {
		s.t.Error("the failure was not counted")
	}
	if want := untried; moved != want {
		s.t.Errorf("moved: %v, want %v", moved, want)
	}
	if len(x.kept) > 0 {
		x.touched = s.now
	}
	if !moved {
		s.lost[x.Service] += uint64(len(x.kept))
		s.gone(x, Refused)
		return
	}
	if x.backend = x.x.backend; x.tried[x.backend] {
		s.t.Errorf("moved to %v, which has refused it", x.backend)
	}
	x.unlisted = x.Service.Config().UDP.OnePacket && slices.ContainsFunc(s.live, func(k *shadow) bool {
		return k != x && !k.unlisted && k.client == x.client && k.local == x.local && k.backend == x.backend
	})
	x.madeRoom = false
	x.asked, x.replies, x.waiting, x.open = 0, 0, false, []time.Duration{s.now}
	x.chosenDown = x.backend.Status() == balancer.Down && !s.better(x.Service)
	s.resend(x)
}

// resend sends to a session's new backend what the last one has refused.
func (s *simulation) resend(x *shadow) {
	for _, data := range x.kept {
		x.bytes -= len(data)
	}
	if x.bytes > 0 {
		x.bytes = 0 // what there was before is accounted for
	}
	var got []string
	for p := range s.m.Copies(x.x) {
		got = append(got, string(p))
		s.m.Resent(x.x, 1, len(p), s.now)
		x.asked, x.waiting, x.bytes = x.asked+1, true, x.bytes+len(p)
	}
	if !slices.Equal(got, x.kept) {
		s.t.Errorf("%q is sent again, want %q", got, x.kept)
	}
	x.heard, x.since = s.now-doubtAfter, s.now
}

func (s *simulation) expire() {
	s.m.Expire(s.now)
	s.note("expire: %d", len(s.cut))
	for _, x := range slices.Clone(s.live) {
		at := x.deadline(s.closed)
		switch gone := slices.Contains(s.cut, x.x); {
		case gone && s.now < at:
			s.t.Errorf("%v expired at %v, due at %v", x.client, s.now, at)
		case !gone && s.now >= max(at, s.drained)+conntrack.Tick: // draining makes deadlines pass
			s.t.Errorf("%v lives at %v, was due at %v", x.client, s.now, at)
		case gone:
			s.gone(x, IdleTimeout)
		}
	}
}

// remove takes a backend out, with its sessions as the service wants it.
func (s *simulation) remove(svc *Service, b *balancer.Backend) {
	s.note("%v is removed", b)
	var left []balancer.Spec
	for _, other := range svc.Config().Pool.Backends() {
		if other != b {
			left = append(left, balancer.Spec{Endpoint: other.Endpoint(), Weight: 1, Check: balancer.Up})
		}
	}
	svc.Config().Pool.Update(left, 0)
	for from, more := 0, true; more; {
		from, more = s.m.CutFlows(CutTarget{Backend: b}, from, s.now)
	}
	for _, x := range slices.Clone(s.live) {
		if x.backend == b {
			s.gone(x, BackendDown)
		}
	}
}
