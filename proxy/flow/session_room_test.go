package flow

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	"usher/balancer"
	"usher/conntrack"
)

// text is what others are asked for.
func (s Shortage) text() string { return fmt.Sprintf("%v of %s", s.Of, s.Settings.Service.Name) }

// asks checks what others were asked: what is due, or nothing.
func (s *simulation) asks(due string) {
	if got := strings.Join(s.calls, ", "); got != due {
		s.t.Errorf("others are asked for %q, want %q", got, due)
	}
}

// beyond is how many flows there are above the reserves of their services.
func (s *simulation) beyond(reserve func(*Service) int64) (n int64) {
	for _, svc := range s.services {
		n += max(s.flows(svc)-reserve(svc), 0)
	}
	return n
}

func (s *simulation) flows(svc *Service) (n int64) {
	for _, x := range s.live {
		if x.Service == svc {
			n++
		}
	}
	return n
}

func places(svc *Service) int64 { return svc.places.reserve() }

func ports(svc *Service) int64 { return svc.ports.reserve() }

// full says what a service with so many flows has no room for.
func (s *simulation) full(svc *Service, flows int) Outcome {
	n := int64(flows)
	gone := s.flows(svc) - n // evicted by the same datagram
	beyond := func(of func(*Service) int64) int64 {
		return s.beyond(of) - max(n+gone-of(svc), 0) + max(n-of(svc), 0)
	}
	switch {
	case svc.Config().UDP.MaxFlows > 0 && flows >= svc.Config().UDP.MaxFlows:
		return ServiceFull
	case n >= ports(svc) && beyond(ports) >= s.admission.ports.shared.Load():
		return NoLocalPort
	case n >= places(svc) && beyond(places) >= s.admission.places.shared.Load():
		return ServerFull
	}
	return Running
}

// evicted takes the session out of the model that had to make room, but for not, and
// reports whether there was one.
func (s *simulation) evicted(short Shortage, not *shadow) bool {
	may := func(x *shadow) bool { // before anything was evicted
		n := s.flows(x.Service)
		switch short.Of {
		case ServerFull:
			return x.Service == short.Settings.Service || n > places(x.Service)
		case NoLocalPort:
			return x.Service == short.Settings.Service || n > ports(x.Service)
		case NoResources:
			return true
		}
		return x.Service == short.Settings.Service
	}
	i := slices.IndexFunc(s.live, func(x *shadow) bool { return !x.assured && may(x) })
	if i >= 0 && s.now-s.live[i].began >= evictGrace {
		// Of two services, whose first ones began at the same time, it may be either.
		first := s.live[i]
		j := slices.IndexFunc(s.live, func(x *shadow) bool { return !x.assured && may(x) && x.Service != first.Service })
		if j >= 0 && s.live[j].began == first.began && slices.Contains(s.cut, s.live[j].x) {
			first = s.live[j]
		}
		if first != not && (not == nil || not.began != first.began || slices.Contains(s.cut, first.x)) {
			s.gone(first, Evicted)
			return true
		}
	}
	return s.evictedIdle(may, not)
}

// evictedIdle is evicted for an answered session: that which has been silent longest.
func (s *simulation) evictedIdle(may func(*shadow) bool, not *shadow) bool {
	oldest, victim := s.now, (*shadow)(nil)
	for _, x := range s.live {
		if !x.assured || !may(x) {
			continue
		}
		oldest = min(oldest, x.touched)
		if slices.Contains(s.cut, x.x) {
			victim = x
		}
	}
	if victim == nil {
		// One tick of the wheel may pass before its grace is over, and not may be the oldest.
		if s.now >= oldest+idleGrace+2*conntrack.Tick && not == nil {
			s.t.Errorf("nobody makes room, though one has been silent for %v", s.now-oldest)
		}
		return false
	}
	if victim == not || victim.touched+idleGrace > s.now || victim.touched > oldest+2*conntrack.Tick {
		s.t.Errorf("one makes room that was silent for %v, another was for %v", s.now-victim.touched, s.now-oldest)
	}
	s.gone(victim, Evicted)
	return true
}

// evictedOwn takes the session out of the model that made room for one of its own
// client's, and reports whether there was one.
func (s *simulation) evictedOwn(svc *Service, addr netip.Addr) bool {
	waiting, idle := 0, 0
	missed := false
	for _, x := range s.live {
		if x.Service != svc {
			continue
		}
		own := x.client.Addr() == addr
		over := s.now-x.began >= evictGrace
		if x.assured {
			idle++
			over = s.now-x.touched >= idleGrace+2*conntrack.Tick
		} else {
			waiting++
		}
		if own && over && (x.assured || waiting <= evictOwnSearch) {
			missed = true
		}
		if slices.Contains(s.cut, x.x) && own && (over || s.now-x.touched >= idleGrace) {
			s.gone(x, Evicted)
			return true
		}
	}
	if missed && idle <= evictOwnSearch {
		s.t.Error("a client's own session should have made room for it")
	}
	return false
}

// places bounds the reservations that a session has: one, or with each datagram scheduled
// by itself those of datagrams that may be answered yet.
func (x *shadow) places(now time.Duration) (least, most int) {
	if !x.Service.Config().UDP.OnePacket {
		return 1, 1
	}
	x.open = slices.DeleteFunc(x.open, func(at time.Duration) bool { return now >= at+2*lostAfter+2*conntrack.Tick })
	for _, at := range x.open {
		if now < at+lostAfter {
			least++
		}
	}
	return least, len(x.open)
}

func (x *shadow) deadline(closed bool) time.Duration {
	c := &x.Service.Config().UDP
	d := c.IdleTimeout
	if !x.assured && c.UnrepliedTimeout > 0 {
		d = min(d, c.UnrepliedTimeout)
	}
	owed := x.waiting
	if n := x.Service.Config().UDP.Replies; n > 0 {
		owed = x.replies < n*x.asked
	}
	if closed && !owed {
		d = min(d, drainSilence)
	}
	return x.touched + d
}

func (s *simulation) noSocket(x *shadow) {
	starved := x.Service.Starved()
	again := s.m.OpenFailed(x.x, ClassNoResources, s.now).Do == Open
	s.note("%v finds no socket, again %v", x.client, again)
	s.cut = slices.DeleteFunc(s.cut, func(cut *Session) bool { return cut == x.x })
	want, asks := false, ""
	if !x.madeRoom {
		starved++
		if want = s.evicted(Shortage{x.Service.Settings(), NoResources}, x); !want {
			asks = Shortage{x.Service.Settings(), NoResources}.text()
		}
	}
	s.asks(asks)
	if again != want || x.Service.Starved() != starved {
		s.t.Errorf("again: %v, want %v; %d times starved, want %d", again, want, x.Service.Starved(), starved)
	}
	if x.madeRoom = true; !again {
		s.cut = append(s.cut, x.x)
		s.gone(x, NoResources)
	}
}

// remote is what another worker asks for.
func (s *simulation) remote(svc *Service) {
	short := Shortage{svc.Settings(), []Outcome{ServerFull, ServiceFull, NoResources}[s.IntN(3)]}
	flows := s.flows(svc)
	lasts := short.Of == NoResources ||
		short.Of == ServiceFull && svc.Config().UDP.MaxFlows > 0 && flows >= int64(svc.Config().UDP.MaxFlows) ||
		short.Of == ServerFull && flows >= places(svc) && s.beyond(places) >= s.admission.places.shared.Load()
	if short.Of == ServiceFull && svc.Config().UDP.MaxFlows == 0 {
		return
	}
	if got := s.admission.Lasts(short); got != lasts {
		s.t.Errorf("%s lasts: %v, want %v", short.text(), got, lasts)
	}
	got := s.m.Evict(short, nil, s.now)
	s.note("evict for %s: %v", short.text(), got)
	if want := s.evicted(short, nil); got != want {
		s.t.Errorf("evicted: %v, want %v", got, want)
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
	s.ended[x.Service][o]++
}

// check compares all that is counted with the model.
func (s *simulation) check() {
	if err := s.m.CheckInvariants(); err != nil {
		s.t.Error(err)
	}
	if len(s.live) > 0 && len(s.cut) > 0 || len(s.live) != s.m.table.Len() || len(s.live) != int(s.admission.Open.Load()) {
		s.t.Errorf("%d sessions, want %d; %d places taken; %d cut for no reason", s.m.table.Len(), len(s.live), s.admission.Open.Load(), len(s.cut))
	}
	active := map[*Service]int64{}
	least, most := map[*balancer.Backend]int64{}, map[*balancer.Backend]int64{}
	ofClient := map[clientOf]int{}
	once := 0
	for _, x := range s.live {
		active[x.Service]++
		a, z := x.places(s.now)
		least[x.backend] += int64(a)
		most[x.backend] += int64(z)
		ofClient[clientOf{x.Service, x.client.Addr()}]++
		if x.Service.Config().UDP.OnePacket && !x.unlisted {
			once++
		}
		if n := x.x.ent.Up() + x.x.ent.Down(); n != uint64(x.bytes) {
			s.t.Errorf("%d bytes, want %d", n, x.bytes)
		}
		if x.x.Service != x.Service || x.x.Client != x.client || x.x.Local != x.local || x.x.backend != x.backend || x.x.ent.Backend() != x.backend {
			s.t.Errorf("a session of %v to %v by %v, want %v to %v by %v", x.x.Client, x.x.Local, x.x.backend, x.client, x.local, x.backend)
		}
	}
	for _, svc := range s.services {
		if svc.Active() != active[svc] || svc.Config().UDP.MaxFlows > 0 && svc.Active() > int64(svc.Config().UDP.MaxFlows) {
			s.t.Errorf("service %s: %d active, want %d", svc.Name, svc.Active(), active[svc])
		}
		if n := svc.Dropped(DropRefused); n != s.lost[svc] {
			s.t.Errorf("service %s: %d datagrams dropped, want %d", svc.Name, n, s.lost[svc])
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
		for _, b := range svc.Config().Pool.Backends() {
			if n := b.Active(); n < least[b] || n > most[b] {
				s.t.Errorf("%v: %d reserved, want %d to %d", b, n, least[b], most[b])
			}
		}
	}
	if got, want := s.admission.places.used.Load(), s.beyond(places); got != want || got > s.admission.places.shared.Load() {
		s.t.Errorf("%d shared places are taken of %d, want %d", got, s.admission.places.shared.Load(), want)
	}
	if got, want := s.admission.ports.used.Load(), s.beyond(ports); got != want || got > s.admission.ports.shared.Load() {
		s.t.Errorf("%d shared ports are taken of %d, want %d", got, s.admission.ports.shared.Load(), want)
	}
	for k, n := range ofClient {
		if s.admission.clients.count[k] != n || k.Service.ClientShare() > 0 && n > k.Service.ClientShare() {
			s.t.Errorf("client %v: %d flows counted, want %d", k.addr, s.admission.clients.count[k], n)
		}
	}
	if len(s.admission.clients.count) != len(ofClient) || len(s.m.once) != once {
		s.t.Errorf("%d clients, want %d; %d sessions by backend, want %d", len(s.admission.clients.count), len(ofClient), len(s.m.once), once)
	}
}
