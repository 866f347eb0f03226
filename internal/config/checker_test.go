package config

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"testing"
)

// A Checker that has seen other plans says of one what a Checker says that has not.
func TestCheckerRemembersNothingWrong(t *testing.T) {
	t.Parallel()
	const seed = 1 // another one tests other cases
	r := rand.New(rand.NewPCG(seed, 0))
	pick := func(words ...string) string { return words[r.IntN(len(words))] }
	address := func() string {
		if r.IntN(12) == 0 {
			return pick("unix:///x", "unix:///y", "unix:///x,sni=a.test", "unix:///x,sni=a.test,mode=600")
		}
		names := pick("", "", "", "", ",sni=a.test", ",sni=b.test", ",alpn=h2")
		host := pick("127.0.0.1:", "127.0.0.1:", "10.0.0.7:", "10.0.0.8:", "db.test:", "[::1]:", "0.0.0.0:", ":", "[::]:")
		return host + pick("81", "82", "83", "84", "85-86", "86-88") + names
	}
	service := func(name string) *Service {
		s := serving(t, name, address())
		for range r.IntN(2) {
			if l, err := ParseListener(address()); err == nil && s.checkListener(l) == nil {
				s.Listeners = append(s.Listeners, l)
			}
		}
		if r.IntN(4) == 0 {
			s.Access.AcceptProxy = Prefixes{netip.MustParsePrefix(pick("127.0.0.1/32", "::/0", "10.0.0.0/8"))}
			s.Access.ProxyOnly = r.IntN(4) == 0
		}
		s.SendProxy.Version = r.IntN(3)
		if r.IntN(4) == 0 {
			s.Health.Port = 81
		}
		for range r.IntN(3) {
			if b, err := ParseBackend(pick("127.0.0.1", "10.0.0.7:81", address()), TCP); err == nil {
				s.Backends = append(s.Backends, b)
			}
		}
		return s
	}
	local := func(ip netip.Addr) bool { return ip.String() == "10.0.0.7" }
	c := NewChecker(local)
	var plan []*Service
	for i := range 8 { // that stay alone
		plan = append(plan, serving(t, fmt.Sprint("quiet", i), fmt.Sprint("10.0.1.1:", 9000+i), "10.0.0.9:9000"))
	}
	right, wrong, names := 0, 0, 0
	for range 4000 {
		next := slices.Clone(plan)
		for range 1 + r.IntN(3) {
			switch at := r.IntN(len(next)); {
			case len(next) < 14 && r.IntN(2) == 0:
				names++
				next = slices.Insert(next, at, service(fmt.Sprint("s", names)))
			case r.IntN(2) == 0:
				s := *next[at]
				other := service("other")
				s.Backends, s.Access = other.Backends, other.Access
				next[at] = &s
			case len(next) > 8:
				next = slices.Delete(next, at, at+1)
			default:
				next[at] = service(next[at].Name)
			}
		}
		if r.IntN(5) == 0 {
			r.Shuffle(len(next), func(i, j int) { next[i], next[j] = next[j], next[i] })
		}
		got, want := c.Check(next), NewChecker(local).Check(next)
		if fmt.Sprint(got) != fmt.Sprint(want) {
			t.Fatalf("got  %v\nwant %v", got, want)
		}
		if wrong++; got == nil {
			right, wrong, plan = right+1, wrong-1, next
		}
	}
	if right < 200 || wrong < 200 {
		t.Errorf("%d plans are right, %d wrong", right, wrong)
	}
}

// What one change costs does not grow with the plan, counted in allocations.
func TestCheckerOfOneChange(t *testing.T) {
	cost := func(n int) float64 {
		plan := make([]*Service, n)
		for i := range plan {
			plan[i] = serving(t, fmt.Sprint(i), fmt.Sprintf("127.0.%d.%d:80", i/250, 1+i%250), "10.0.0.1:81", "10.0.0.2:81")
		}
		changed, moved, fewer := slices.Clone(plan), slices.Clone(plan), slices.Delete(slices.Clone(plan), n/2, n/2+1)
		changed[n/2] = serving(t, fmt.Sprint(n/2), plan[n/2].Listeners[0].String(), "10.0.0.3:81")
		moved[n/2] = serving(t, fmt.Sprint(n/2), "127.1.1.1:80", "10.0.0.3:81")
		c := NewChecker(nil)
		return testing.AllocsPerRun(10, func() {
			for _, p := range [][]*Service{plan, changed, moved, fewer} {
				if err := c.Check(p); err != nil {
					t.Fatal(err)
				}
			}
		})
	}
	if few, many := cost(100), cost(2000); many > few+100 {
		t.Errorf("%.0f allocations with 2000 services, %.0f with 100", many, few)
	}
}
