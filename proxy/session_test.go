package proxy

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
)

var seedFlag = flag.Uint64("seed", 0, "replay this seed of the session simulation")

// shadow is what the model knows of a session. Shadows lie in order of their begin.
type shadow struct {
	x              *session
	began          time.Duration
	svc            *Service
	client, local  netip.AddrPort
	backend        *balancer.Backend
	touched        time.Duration
	assured        bool
	chosenDown     bool // began, or came to its backend, when that was down
	asked, replies int
	tried          map[*balancer.Backend]bool
}

// simulation drives sessions as an engine would, and a slow model beside it.
type simulation struct {
	*rand.Rand
	t        *testing.T
	now      time.Duration
	server   *Server
	m        *sessions
	services []*Service
	live     []*shadow
	cut      []*session // by the sessions, since the step began
	ended    map[*Service]*[outcomes]uint64
	ports    uint16        // of backends so far
	asked    time.Duration // when other workers were last asked to yield
	calls    []string      // what they were asked since the step began
	closed   bool
	drained  time.Duration // when it was closed
	log      []string
}

func TestSessionsAgainstModel(t *testing.T) {
	t.Parallel()
	seeds, steps := 30, 1500
	if raceEnabled || testing.Short() {
		seeds = 6
	}
	first := rand.Uint64()
	if *seedFlag != 0 {
		first, seeds = *seedFlag, 1
	}
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
		s.m.endAll(Drained, s.now, func(*session) bool { return true })
		for _, x := range s.live {
			s.ended[x.svc][Drained]++
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
	c := udpService(t, UDPConfig{Replies: 1_000_000_000}, netip.MustParseAddrPort("10.0.0.1:53"))
	m := newSessions(&Server{maxConns: 1}, func(*session) {})
	x, _, o := m.route(&Service{ServiceConfig: c}, netip.MustParseAddrPort("192.0.2.1:1"), netip.MustParseAddrPort("192.0.2.2:53"), 0, 0)
	if x == nil {
		t.Fatal(o)
	}
	x.asked = math.MaxInt / 2
	for range 3 {
		if m.replied(x, 1, 0) {
			t.Errorf("the flow is over with reply %d", x.replies)
		}
	}
}

func newSimulation(t *testing.T, seed uint64) *simulation {
	s := &simulation{Rand: rand.New(rand.NewPCG(seed, 1)), t: t, ended: map[*Service]*[outcomes]uint64{}}
	pick := func(n ...int) int { return n[s.IntN(len(n))] }
	s.server = &Server{maxConns: int64(pick(3, 20, 60)), idle: make(chan struct{}, 1)}
	for i := range 2 {
		pool, err := balancer.NewPool(balancer.Options{Scheduler: []string{"rr", "lc", "mh"}[s.IntN(3)], Initial: balancer.Up})
		if err != nil {
			t.Fatal(err)
		}
		svc := &Service{ServiceConfig: ServiceConfig{Name: fmt.Sprint(i), Pool: pool, UDP: UDPConfig{
			IdleTimeout: 20 * time.Second, UnrepliedTimeout: time.Duration(pick(0, 5, 40)) * time.Second,
			Replies: pick(0, 0, 1, 3), OnePacket: s.IntN(4) == 0,
			MaxFlows: pick(0, 1, 8, 30), MaxClientFlows: pick(0, 0, 1, 6),
		}}}
		s.services = append(s.services, svc)
		s.ended[svc] = new([outcomes]uint64)
		for range s.IntN(4) {
			s.addBackend(svc)
		}
	}
	s.m = newSessions(s.server, func(x *session) { s.cut = append(s.cut, x) })
	s.m.others = func(crowd *Service, short bool) { s.calls = append(s.calls, asking(crowd, short)) }
	return s
}

func (s *simulation) addBackend(svc *Service) {
	s.ports++
	all := []balancer.Spec{{Endpoint: balancer.Endpoint{Addr: netip.AddrPortFrom(netip.MustParseAddr("10.0.0.1"), s.ports)}, Weight: 1}}
	for _, b := range svc.Pool.Backends() {
		all = append(all, balancer.Spec{Endpoint: b.Endpoint(), Weight: 1})
	}
	svc.Pool.Update(all)
}

func (s *simulation) note(format string, a ...any) {
	s.log = append(s.log, fmt.Sprintf("\n%v: ", s.now)+fmt.Sprintf(format, a...))
}

func (s *simulation) step() {
	svc := s.services[s.IntN(2)]
	backends := svc.Pool.Backends()
	switch n := s.IntN(100); {
	case n < 50:
		s.datagram(svc)
	case n < 65 && len(s.live) > 0:
		s.reply(s.live[s.IntN(len(s.live))])
	case n < 72 && len(s.live) > 0:
		s.refusal(s.live[s.IntN(len(s.live))])
	case n < 84:
		s.now += time.Duration(s.IntN(3000)) * time.Millisecond
		if s.IntN(20) == 0 {
			s.now += time.Minute
		}
		s.expire()
	case n < 87 && len(backends) < 6:
		s.note("a backend more of %s", svc.Name)
		s.addBackend(svc)
	case n < 90 && len(backends) > 0:
		s.remove(svc, backends[s.IntN(len(backends))])
	case n < 96 && len(backends) > 0:
		svc.Pool.SetStatus(backends[s.IntN(len(backends))], []balancer.Status{balancer.Up, balancer.Unknown, balancer.Down}[s.IntN(3)])
	case n < 97 && len(s.live) > 0:
		s.relieve(s.live[s.IntN(len(s.live))])
	case n < 98:
		s.yield(svc)
	case n == 99 && s.IntN(20) == 0:
		s.note("drain")
		if !s.closed {
			s.closed, s.drained = true, s.now
		}
		s.m.drain()
	}
}

// datagram routes one, and predicts who has to make room for it.
func (s *simulation) datagram(svc *Service) {
	client := netip.AddrPortFrom(netip.AddrFrom4([4]byte{192, 0, 2, byte(s.IntN(6))}), uint16(1+s.IntN(6)))
	local := netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 0, 0, byte(1 + s.IntN(2))}), 53+uint16(slices.Index(s.services, svc)))
	var known []*shadow
	ofService, ofClient := 0, 0
	for _, x := range s.live {
		if x.svc != svc {
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
	stranded := len(known) == 1 && s.stranded(known[0])
	x, fresh, o := s.m.route(svc, client, local, 0, s.now)
	s.note("%v asks %v: %v, fresh %v, cut %d", client, local, o, fresh, len(s.cut))
	c := &svc.UDP
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
		if i < 0 || o != Running || x.client != client || x.local != local {
			s.t.Errorf("a datagram of %v to %v got a session of %v to %v, %v", client, local, x.client, x.local, o)
			return
		}
		s.sent(known[i])
		return
	}
	want, victim, asks := Running, (*shadow)(nil), ""
	switch full := c.MaxFlows > 0 && ofService >= c.MaxFlows; {
	case len(known) > 0 && !c.OnePacket:
		s.t.Error("the flow's session was not found")
	case s.closed:
		want = Drained
	case len(svc.Pool.Backends()) == 0:
		want = NoBackend
	case c.MaxClientFlows > 0 && ofClient >= c.MaxClientFlows:
		want = LimitReached
	case full || len(s.live) >= int(s.server.maxConns):
		crowd := svc
		if !full {
			crowd = nil
		}
		if victim = s.victim(crowd); victim == nil {
			want, asks = LimitReached, asking(crowd, false)
		}
	}
	s.asks(asks)
	if victim != nil {
		s.gone(victim, Evicted)
	}
	if o != want || (x != nil) != (want == Running) {
		s.t.Errorf("a new session: %v, %v, want %v", x != nil, o, want)
		return
	}
	if x == nil {
		s.ended[svc][o]++
		return
	}
	if slices.ContainsFunc(known, func(k *shadow) bool { return k.backend == x.backend }) {
		s.t.Error("one more session between the same two")
	}
	n := &shadow{x: x, began: s.now, chosenDown: x.backend.Status() == balancer.Down, svc: svc, client: client, local: local, backend: x.backend, tried: map[*balancer.Backend]bool{}}
	s.live = append(s.live, n)
	s.sent(n)
}

// asking is what other workers are asked.
func asking(crowd *Service, short bool) string {
	if crowd == nil {
		return fmt.Sprintf("of all, short %v", short)
	}
	return fmt.Sprintf("of %s, short %v", crowd.Name, short)
}

// asks checks what other workers were asked: what is due, or nothing if they have
// just been asked.
func (s *simulation) asks(due string) {
	want := []string{due}
	if due == "" || s.now < s.asked+askEvery {
		want = nil
	} else {
		s.asked = s.now
	}
	if !slices.Equal(s.calls, want) {
		s.t.Errorf("other workers are asked to yield %q, want %q", s.calls, want)
	}
}

// victim returns the oldest unreplied session of svc, or of all if that is nil; none
// if it is in its time of grace.
func (s *simulation) victim(svc *Service) *shadow {
	i := slices.IndexFunc(s.live, func(x *shadow) bool { return !x.assured && (x.svc == svc || svc == nil) })
	if i < 0 || s.now-s.live[i].began < time.Second {
		return nil
	}
	return s.live[i]
}

// stranded reports whether a session's next datagram must go elsewhere.
func (s *simulation) stranded(x *shadow) bool {
	better := slices.ContainsFunc(x.svc.Pool.Backends(), func(b *balancer.Backend) bool { return b.Status() != balancer.Down })
	if s.closed || x.svc.UDP.OnePacket {
		return false
	}
	if x.backend.Status() != balancer.Down {
		x.chosenDown = false
	}
	return x.chosenDown && better
}

func (s *simulation) sent(x *shadow) {
	s.m.sent(x.x, 1, 10, s.now)
	x.touched = s.now
	x.asked++
}

func (s *simulation) reply(x *shadow) {
	last := s.m.replied(x.x, 10, s.now)
	x.assured, x.touched = true, s.now
	x.replies++
	want := x.svc.UDP.Replies > 0 && x.replies >= x.svc.UDP.Replies*max(x.asked, 1)
	s.note("reply %d to %d for %v, last %v", x.replies, x.asked, x.client, last)
	if last != want {
		s.t.Errorf("last reply: %v, want %v", last, want)
	}
	if last {
		s.m.end(x.x, Replied, s.now)
		s.gone(x, Replied)
	}
}

func (s *simulation) refusal(x *shadow) {
	x.tried[x.backend] = true
	untried := false
	for _, status := range []balancer.Status{balancer.Up, balancer.Unknown, balancer.Down} {
		eligible := slices.DeleteFunc(slices.Clone(x.svc.Pool.Backends()), func(b *balancer.Backend) bool { return b.Status() != status })
		if len(eligible) > 0 {
			untried = slices.ContainsFunc(eligible, func(b *balancer.Backend) bool { return !x.tried[b] })
			break
		}
	}
	failures := x.backend.Failures()
	moved := s.m.unreachable(x.x)
	s.note("%v refuses %v, moved %v", x.backend, x.client, moved)
	if x.backend.Failures() != failures+1 {
		s.t.Error("the failure was not counted")
	}
	if want := untried && !x.svc.UDP.OnePacket; moved != want {
		s.t.Errorf("moved: %v, want %v", moved, want)
	}
	if !moved {
		s.m.end(x.x, Refused, s.now)
		s.gone(x, Refused)
		return
	}
	if x.backend = x.x.backend; x.tried[x.backend] {
		s.t.Errorf("moved to %v, which has refused it", x.backend)
	}
	x.asked, x.replies = 0, 0
	x.chosenDown = x.backend.Status() == balancer.Down
}

func (x *shadow) deadline(closed bool) time.Duration {
	c := &x.svc.UDP
	d := c.IdleTimeout
	if !x.assured && c.UnrepliedTimeout > 0 {
		d = min(d, c.UnrepliedTimeout)
	}
	if closed {
		d = min(d, drainSilence)
	}
	return x.touched + d
}

func (s *simulation) expire() {
	s.m.expire(s.now)
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
	for _, other := range svc.Pool.Backends() {
		if other != b {
			left = append(left, balancer.Spec{Endpoint: other.Endpoint(), Weight: 1})
		}
	}
	svc.Pool.Update(left)
	for from, more := 0, true; more; from += cutShare {
		more = s.m.cutBackend(b, from, s.now)
	}
	for _, x := range slices.Clone(s.live) {
		if x.backend == b {
			s.gone(x, BackendDown)
		}
	}
}

func (s *simulation) relieve(x *shadow) {
	first := slices.IndexFunc(s.live, func(x *shadow) bool { return !x.assured })
	victim, asks := s.victim(nil), asking(nil, true)
	if first >= 0 && s.live[first] == x {
		victim, asks = nil, ""
	} else if victim != nil {
		asks = ""
	}
	starved := x.svc.Starved()
	got := s.m.relieve(x.x, s.now)
	s.note("%v finds no socket, relieved %v", x.client, got)
	s.asks(asks)
	if got != (victim != nil) || x.svc.Starved() != starved+1 {
		s.t.Errorf("relieved: %v, want %v; %d times starved", got, victim != nil, x.svc.Starved()-starved)
	}
	if victim != nil {
		s.gone(victim, Evicted)
	}
}

// yield is what another worker asks for, which has found the service full, or the
// server, or itself short of sockets.
func (s *simulation) yield(svc *Service) {
	short, ofService := s.IntN(2) == 0, 0
	for _, x := range s.live {
		if x.svc == svc {
			ofService++
		}
	}
	full := svc.UDP.MaxFlows > 0 && ofService >= svc.UDP.MaxFlows
	if s.IntN(2) == 0 {
		svc, full = nil, len(s.live) >= int(s.server.maxConns)
	}
	victim := s.victim(svc)
	s.m.yield(svc, short, s.now)
	s.note("yield %s", asking(svc, short))
	if victim != nil && (short || full) {
		s.gone(victim, Evicted)
	}
}

// gone takes a session out of the model that must have been cut in this step.
func (s *simulation) gone(x *shadow, o Outcome) {
	i := slices.Index(s.cut, x.x)
	if i < 0 {
		s.t.Errorf("the session of %v should have ended: %v", x.client, o)
		return
	}
	s.cut = slices.Delete(s.cut, i, i+1)
	s.live = slices.DeleteFunc(s.live, func(other *shadow) bool { return other == x })
	s.ended[x.svc][o]++
}

// check compares all that is counted with the model.
func (s *simulation) check() {
	if len(s.live) > 0 && len(s.cut) > 0 || len(s.live) != s.m.table.Len() || len(s.live) != int(s.server.open.Load()) {
		s.t.Errorf("%d sessions, want %d; %d places taken; %d cut for no reason", s.m.table.Len(), len(s.live), s.server.open.Load(), len(s.cut))
	}
	active := map[*Service]int64{}
	held := map[*balancer.Backend]int64{}
	ofClient := map[clientOf]int{}
	once := 0
	for _, x := range s.live {
		active[x.svc]++
		held[x.backend]++
		if x.svc.UDP.MaxClientFlows > 0 {
			ofClient[clientOf{x.svc, x.client.Addr()}]++
		}
		if x.svc.UDP.OnePacket {
			once++
		}
		if x.x.svc != x.svc || x.x.client != x.client || x.x.local != x.local || x.x.backend != x.backend || x.x.ent.Backend() != x.backend || !x.x.holding {
			s.t.Errorf("a session of %v to %v by %v, want %v to %v by %v", x.x.client, x.x.local, x.x.backend, x.client, x.local, x.backend)
		}
	}
	for _, svc := range s.services {
		if svc.Active() != active[svc] || svc.UDP.MaxFlows > 0 && svc.Active() > int64(svc.UDP.MaxFlows) {
			s.t.Errorf("service %s: %d active, want %d", svc.Name, svc.Active(), active[svc])
		}
		total := uint64(svc.Active())
		for o := range outcomes {
			if got := svc.Ended(o); got != s.ended[svc][o] {
				s.t.Errorf("service %s: %d %v, want %d", svc.Name, got, o, s.ended[svc][o])
			}
			total += svc.Ended(o)
		}
		if svc.Accepted() != total {
			s.t.Errorf("service %s: %d accepted, %d active or ended", svc.Name, svc.Accepted(), total)
		}
		for _, b := range svc.Pool.Backends() {
			if b.Active() != held[b] {
				s.t.Errorf("%v: %d reserved, want %d", b, b.Active(), held[b])
			}
		}
	}
	for k, n := range ofClient {
		if s.server.clients.count[k] != n || n > k.svc.UDP.MaxClientFlows {
			s.t.Errorf("client %v: %d flows counted, want %d", k.addr, s.server.clients.count[k], n)
		}
	}
	if len(s.server.clients.count) != len(ofClient) || len(s.m.once) != once {
		s.t.Errorf("%d clients, want %d; %d sessions by backend, want %d", len(s.server.clients.count), len(ofClient), len(s.m.once), once)
	}
}
