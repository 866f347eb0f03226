package reconcile

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"net/netip"
	"slices"
	"testing"
	"time"

	"go.uber.org/zap"

	"usher/balancer"
	"usher/internal/config"
	"usher/internal/discovery"
)

// What Set keeps between two calls is what the last list says, whatever the lists before were: services come, go, change
// and trade places, some with equal configs under other pointers.
func TestRandomSets(t *testing.T) {
	t.Parallel()
	const seed = 1 // another one tests other cases
	rnd := rand.New(rand.NewPCG(seed, 0))
	r, c, _ := run(t, zap.NewNop())
	host := func() string { return fmt.Sprintf("h%d.test", rnd.IntN(4)) }
	answer := func(host string) {
		at := netip.AddrFrom4([4]byte{10, 0, 0, host[1]})
		r.names.onUpdate(discovery.Update{Name: host, Records: recordsOf(host, at)})
	}
	made := 0
	random := func() *config.Service {
		made++
		words := fmt.Sprintf("127.1.0.%d:80=10.0.1.%d:1", 1+made%250, 1+rnd.IntN(5))
		for _, h := range []string{host(), host()}[:rnd.IntN(3)] {
			words += "," + h + fmt.Sprint(":", 1+rnd.IntN(60000))
		}
		return parse(t, words, "health=off")
	}
	var now []Desired
	for range 300 {
		answer(host())
		next := slices.Clone(now)
		for range rnd.IntN(3) {
			switch at := rnd.IntN(len(next) + 1); {
			case at == len(next) || rnd.IntN(3) == 0 && len(next) < 12:
				s := newService(t, r, random())
				next = slices.Insert(next, at, Desired{s, s.config})
			case rnd.IntN(3) == 0:
				next = slices.Delete(next, at, at+1)
			case rnd.IntN(2) == 0:
				one := *next[at].Config
				next[at].Config = &one
			default:
				one := *random()
				one.Name = next[at].Config.Name
				one.Listeners = [][]config.Addr{one.Listeners, next[at].Config.Listeners}[rnd.IntN(2)]
				next[at].Config = &one
			}
		}
		if rnd.IntN(4) == 0 {
			rnd.Shuffle(len(next), func(i, j int) { next[i], next[j] = next[j], next[i] })
		}
		r.Set(t.Context(), c, next)
		r.flush(t.Context())
		checkSet(t, r, next)
		if now = next; t.Failed() {
			return
		}
	}
}

func checkSet(t *testing.T, r *Reconciler, desired []Desired) {
	t.Helper()
	if !slices.Equal(r.desired, desired) || len(r.routes.of) != len(desired) {
		t.Errorf("%d services and %d routes, want %d", len(r.desired), len(r.routes.of), len(desired))
	}
	users := make(map[string]map[*Service]bool)
	for _, d := range desired {
		for host := range hostsOf(d.Config.Backends) {
			if users[host] == nil {
				users[host] = make(map[*Service]bool)
			}
			users[host][d.Service] = true
		}
		l := d.Config.Listeners[0]
		if name, _, ok := r.routes.routes.Listener(l); !ok || name != d.Config.Name {
			t.Errorf("%s is the listener of %q, want %q", l, name, d.Config.Name)
		}
		backends, _ := resolve(d.Config.Backends, d.Service.seen.names)
		candidates, _ := newCandidates(d.Config, backends, nil)
		for _, b := range d.Service.pool.Backends() {
			if len(candidates) == 0 || candidates[0].spec.Endpoint != b.Endpoint() {
				t.Fatalf("%s has the backend %v, want %v", d.Config.Name, b, d.Config.Backends)
			}
			candidates = candidates[1:]
		}
		if len(candidates) > 0 {
			t.Errorf("%s lacks the backend %v", d.Config.Name, candidates[0].spec.Endpoint)
		}
		for host := range hostsOf(d.Config.Backends) {
			if answer, has := r.names.answers[host]; has && len(d.Service.seen.names[host]) != len(answer.Records) {
				t.Errorf("%s has not got the answer for %s", d.Config.Name, host)
			}
		}
	}
	if !maps.EqualFunc(users, r.names.users, func(want map[*Service]bool, got []*Service) bool {
		return len(got) == len(want) && !slices.ContainsFunc(got, func(s *Service) bool { return !want[s] })
	}) {
		t.Errorf("users of names %v, want %v", r.names.users, users)
	}
}

// Only those services look at their backends again that may lead to a listener that comes or goes.
func TestListenersConcernFew(t *testing.T) {
	t.Parallel()
	r, c, services := run(t, zap.NewNop(), parse(t, "127.0.0.1:8000=10.0.0.1:1", "health=off"), parse(t, "127.0.0.1:8001=127.0.0.1:9000,10.0.0.1:1", "health=tcp"))
	var runs [2]int
	for i, s := range services {
		update := s.update
		s.update = func(specs []balancer.Spec, now time.Duration) ([]*balancer.Backend, time.Duration) {
			runs[i]++
			return update(specs, now)
		}
	}
	checks := func() int { return len(services[1].seen.checks) }
	if n := checks(); n != 2 {
		t.Fatalf("%d checks", n)
	}
	third := newService(t, r, parse(t, "127.0.0.1:9000=10.0.0.2:1", "health=off"))
	r.Set(t.Context(), c, desired(services[0], services[1], third))
	r.flush(t.Context())
	if n := checks(); n != 1 || runs != [2]int{0, 1} {
		t.Errorf("with the listener: %d checks, reconciled %v times", n, runs)
	}
	r.Set(t.Context(), c, desired(services...))
	r.flush(t.Context())
	if n := checks(); n != 2 || runs != [2]int{0, 2} {
		t.Errorf("without it: %d checks, reconciled %v times", n, runs)
	}
}
