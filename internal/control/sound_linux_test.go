package control

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"usher/internal/api"
	"usher/internal/config"
	"usher/internal/discovery"
)

// take has someone else listen on free ports of 127.0.0.1, and returns their addresses.
func take(t *testing.T, n int) []string {
	t.Helper()
	var all []string
	for range n {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		must(t, err)
		t.Cleanup(func() { l.Close() })
		all = append(all, l.Addr().String())
	}
	return all
}

// free returns addresses that were free a moment ago, on an address of the machine that no other test uses.
func free(t *testing.T, ip string, n int) []string {
	t.Helper()
	var all []string
	for range n {
		l, err := net.Listen("tcp", ip+":0")
		must(t, err)
		defer l.Close()
		all = append(all, l.Addr().String())
	}
	return all
}

// one makes a service of a name, listeners and one backend.
func one(t *testing.T, name string, listen ...string) *config.Service {
	t.Helper()
	s := config.NewService(name, config.TCP)
	must(t, s.Set("health", "off"))
	for _, word := range listen {
		a, err := config.ParseListener(word)
		must(t, err)
		s.Listeners = append(s.Listeners, a)
	}
	b, err := config.ParseBackend("192.0.2.1:9", config.TCP)
	must(t, err)
	s.Backends = []config.Backend{b}
	return s
}

// served lists services with their listeners.
func served(c *Controller) string {
	var words []string
	for _, s := range c.Services() {
		words = append(words, s.Name+"="+strings.Join(s.Listen, "+"))
	}
	return strings.Join(words, " ")
}

// refusedText lists refusals as SERVICE[=LISTENER].
func refusedText(all []Refusal) string {
	var words []string
	for _, r := range all {
		word := r.Service
		if r.Listener != (config.Addr{}) {
			word += "=" + r.Listener.String()
		}
		words = append(words, word)
	}
	return strings.Join(words, " ")
}

// What cannot be had is left out, and everything else runs. What is bound stays where it is.
func TestReplaceSound(t *testing.T) {
	t.Parallel()
	c, ctx := newController(t, discovery.Resolver{}), t.Context()
	at := free(t, "127.81.0.1", 6)
	taken := take(t, 2)
	must(t, c.Add(ctx, API, one(t, "mine", at[0])))
	bad := one(t, "bad", at[1])
	bad.Backends = nil
	loop := one(t, "loop", at[2])
	back, err := config.ParseBackend(at[2], config.TCP)
	must(t, err)
	loop.Backends[0] = back
	_, port, _ := net.SplitHostPort(at[4])
	part := []*config.Service{
		one(t, "a", at[3], taken[0], at[0]), bad, one(t, "mine", at[5]), loop, one(t, "b", taken[1]), one(t, "c", at[4], at[3]),
		one(t, "a", at[5]), one(t, "twice", at[5], at[5], "198.51.100.78:1"), one(t, "all", ":"+port), one(t, "away", "198.51.100.77:80"),
	}
	check := func(all []Refusal, err error, wantServed, wantRefused string) {
		t.Helper()
		must(t, err)
		if got := served(c); got != wantServed {
			t.Errorf("runs    %s\nwant    %s", got, wantServed)
		}
		if got := refusedText(all); got != wantRefused {
			t.Errorf("refused %s\nwant    %s", got, wantRefused)
		}
	}
	all, err := c.ReplaceSound(ctx, Kube, Part{Services: part})
	runs := fmt.Sprintf("mine=%s a=%s c=%s twice=%s", at[0], at[3], at[4], at[5])
	refused := fmt.Sprintf("a=%s a=%s c=%s twice=%s twice=198.51.100.78:1 bad mine loop b=%s a all=:%s away=198.51.100.77:80",
		at[0], taken[0], at[3], at[5], taken[1], port)
	check(all, err, runs, refused)
	conflict := new(ConflictError)
	if !errors.As(all[0].Err, &conflict) || conflict.Owner != API || !strings.Contains(all[1].Err.Error(), "address already in use") {
		t.Errorf("why: %v; %v", all[0].Err, all[1].Err)
	}

	// The same pointers: nothing is tried again. A new listener does not push out one that is bound, though it comes first.
	kept := c.byName["a"]
	first := one(t, "first", at[4])
	all, err = c.ReplaceSound(ctx, Kube, Part{Services: append([]*config.Service{first}, part...)})
	refused = strings.Replace(refused, " bad", " first="+at[4]+" bad", 1)
	check(all, err, runs, refused)
	if c.byName["a"] != kept {
		t.Error("a service with the same pointer is another one")
	}
	moved := part[5].Clone()
	moved.Scheduler.Name = "lc"
	part[5] = moved
	all, err = c.ReplaceSound(ctx, Kube, Part{Services: append([]*config.Service{first}, part...)})
	check(all, err, runs, refused)

	// What is free again is had by trying again.
	must(t, c.Remove(ctx, API, "mine"))
	all, err = c.RetryRefused(ctx, Kube)
	must(t, err)
	if got, want := served(c), "a="+at[3]+"+"+at[0]; !strings.HasPrefix(got, want) {
		t.Errorf("runs %s, want %s and others", got, want)
	}
	if strings.Contains(refusedText(all), "mine") != strings.Contains(served(c), "twice="+at[5]) {
		t.Errorf("runs %s, refused %s", served(c), refusedText(all))
	}
	must(t, c.Replace(ctx, Kube, Part{}))
	if all, err := c.RetryRefused(ctx, Kube); err != nil || all != nil || served(c) != "" {
		t.Errorf("%v %v, runs %s", all, err, served(c))
	}
}

// Services whose backends lead back to them are found all at once.
func TestReplaceSoundWithManyLoops(t *testing.T) {
	t.Parallel()
	c, ctx := newController(t, discovery.Resolver{}), t.Context()
	const n = 50
	var part []*config.Service
	for i := range n {
		at := [2]string{fmt.Sprintf("127.85.0.%d:8080", 1+i), fmt.Sprintf("127.85.1.%d:8080", 1+i)}
		for k, name := range []string{"a", "b"} {
			s := one(t, fmt.Sprint("ns/", name, i), at[k])
			back, err := config.ParseBackend(at[1-k], config.TCP)
			must(t, err)
			s.Backends[0] = back
			part = append(part, s)
		}
	}
	d, err := c.replaceSound(ctx, Kube, Part{Services: part}, false)
	must(t, err)
	if all, _ := refusals(d, nil); len(all) != n || len(c.Services()) != n || d.checks != 2 {
		t.Errorf("%d refusals, %d services, %d checks", len(all), len(c.Services()), d.checks)
	}
}

// A service that reserves more flows than there are holds up no other, not even one that comes later.
func TestReplaceSoundWithTooLargeReserve(t *testing.T) {
	t.Parallel()
	c, ctx := newController(t, discovery.Resolver{}), t.Context()
	at := free(t, "127.84.0.1", 3)
	greedy := one(t, "greedy", at[1])
	greedy.Reserve = 1e9
	part := []*config.Service{one(t, "first", at[0]), greedy}
	for i, want := range []string{"first=" + at[0], "first=" + at[0] + " later=" + at[2]} {
		all, err := c.ReplaceSound(ctx, Kube, Part{Services: part})
		must(t, err)
		if served(c) != want || refusedText(all) != "greedy" || !strings.Contains(all[0].Err.Error(), "reserves") {
			t.Errorf("%d: runs %s, refused %v", i, served(c), all)
		}
		part = append(part, one(t, "later", at[2]))
	}
	if _, err := c.RetryRefused(ctx, Kube); err != nil {
		t.Error(err)
	}
	if err := c.Add(ctx, API, greedy); err == nil {
		t.Error("an owner who leaves nothing out has what cannot be had")
	}
}

// A cold start with many listeners that cannot be had binds the rest in two tries.
func TestReplaceSoundIsLinear(t *testing.T) {
	t.Parallel()
	c, ctx := newController(t, discovery.Resolver{}), t.Context()
	const n = 300
	var part []*config.Service
	for i := range n {
		at := netip.AddrFrom4([4]byte{127, 82, byte(i / 200), byte(1 + i%200)})
		if i%3 == 1 {
			at = netip.AddrFrom4([4]byte{198, 51, 100, byte(1 + i%200)}) // of no machine
		}
		word := netip.AddrPortFrom(at, 8080).String()
		if i%3 == 2 {
			word = "127.82.0.1:8080" // which the first one has
		}
		part = append(part, one(t, fmt.Sprintf("ns/s%d", i), word))
	}
	byName := func(a, b api.Service) int { return strings.Compare(a.Name, b.Name) }
	for _, tries := range []int{2, 1} { // the second time nothing is new
		d, err := c.replaceSound(ctx, Kube, Part{Services: part}, false)
		must(t, err)
		all, _ := refusals(d, nil)
		if len(all) != 2*n/3 || len(c.Services()) != n/3 || d.tries != tries || !slices.IsSortedFunc(c.Services(), byName) {
			t.Errorf("%d refusals, %d services, %d tries, want %d", len(all), len(c.Services()), d.tries, tries)
		}
	}
}

// A state keeps virtual addresses. Listeners that were refused are not bound by the next image before its owner is heard,
// who tries them by giving the service again.
func TestStateOfSoundParts(t *testing.T) {
	t.Parallel()
	c, ctx := newController(t, discovery.Resolver{}), t.Context()
	at := free(t, "127.83.0.1", 1)[0]
	s := one(t, "ns/s:p", at, take(t, 1)[0])
	s.Virtual = []config.Virtual{
		{Type: "ClusterIP", Address: "10.96.0.1:80", Listen: at}, {Type: "NodePort", Address: "192.0.2.1:30080", Listen: s.Listeners[1].HostPort()},
	}
	_, err := c.ReplaceSound(ctx, Kube, Part{Services: []*config.Service{s}})
	must(t, err)
	st := c.partState(Kube)
	next, err := newDetached(Options{Log: c.log, Process: c.Process()})
	must(t, err)
	defer next.release()
	part, _, err := next.restorePart(&st)
	must(t, err)
	if r := part[0]; len(r.wanted.Listeners) != 1 || r.plan.Virtual[0] != s.Virtual[0] || len(r.refused) != 1 || r.refused[0].Listener != s.Listeners[1] {
		t.Errorf("restored with %v, %v, refused %v", r.wanted.Listeners, r.plan.Virtual, r.refused)
	}
	for _, tt := range []struct {
		given *config.Service
		fresh int
	}{{part[0].given, 0}, {s, 1}} {
		d := &draft{owner: Kube}
		must(t, next.compare(d, []*config.Service{tt.given}))
		if len(d.fresh) != tt.fresh {
			t.Errorf("%d services are changed, want %d", len(d.fresh), tt.fresh)
		}
	}
	if view, err := c.Service("ns/s:p"); err != nil || len(view.Virtual) != 1 || view.Virtual[0].Address != "10.96.0.1:80" {
		t.Errorf("%+v, %v", view, err)
	}
}
