package app

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"

	"usher/balancer"
	"usher/health"
	"usher/internal/config"
	"usher/proxy"
)

// advisedKeeper is a keeper with agents and checks that are played by its test.
func advisedKeeper(t *testing.T, log *zap.Logger, w config.Words) (k *keeper, say func(backend, words string)) {
	t.Helper()
	k, err := newKeeper(parse(t, w).Services[0], log, &journal{begun: true}, nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(k.close)
	if k.monitor != nil {
		k.monitor.Close()
	}
	k.agents.close()
	k.apply()
	say = func(backend, words string) {
		t.Helper()
		k.agents.heard(health.Target{Name: backend, Network: "tcp", Address: agentOf(k, backend)}, health.ParseAdvice(words))
		k.apply()
	}
	return k, say
}

func agentOf(k *keeper, backend string) string {
	for _, b := range k.pool.Backends() {
		if t, _ := k.agentTarget(b.Endpoint()); b.String() == backend {
			return t.Address
		}
	}
	return ""
}

func TestAgentsAreAtTheirBackends(t *testing.T) {
	t.Parallel()
	k, _ := advisedKeeper(t, zap.NewNop(), config.Words{
		Listen:  []string{":8080"},
		Backend: []string{"10.0.0.1:80", "10.0.0.2", "10.0.0.3:80,agent=5", "unix:///x,agent=[::1]:6", "db.test:80", "10.0.0.4:80-80"},
		Options: []config.Option{{Name: "agent", Value: "9100"}},
	})
	k.resolved("db.test", []netip.Addr{netip.MustParseAddr("fd00::1")})
	var got []string
	for _, b := range k.pool.Backends() {
		got = append(got, agentOf(k, b.String()))
	}
	want := []string{"10.0.0.1:9100", "10.0.0.2:9100", "10.0.0.3:5", "[::1]:6", "[fd00::1]:9100", "10.0.0.4:9100"}
	if !slices.Equal(got, want) {
		t.Errorf("agents at %q, want %q", got, want)
	}
	k, _ = advisedKeeper(t, zap.NewNop(), config.Words{
		Listen: []string{":8080"}, Backend: []string{"10.0.0.1:80", "10.0.0.2:80,agent=5", "other.test:80,agent=6", "far.test:80,agent=127.0.0.1:7"},
	})
	if len(k.agents.said) != 1 {
		t.Errorf("%d agents, want that of the one that has an address", len(k.agents.said))
	}
}

// TestAgentsAreObeyed: what the pool looks like after each word of an agent or a check.
func TestAgentsAreObeyed(t *testing.T) {
	t.Parallel()
	k, say := advisedKeeper(t, zap.NewNop(), config.Words{
		Listen:  []string{"8080"},
		Backend: []string{"10.0.0.1:1@3,max=50,upper=40,lower=20", "10.0.0.2:1"},
		Options: []config.Option{{Name: "agent", Value: "9100"}},
	})
	const a = "10.0.0.1:1"
	check := func(up bool) {
		t.Helper()
		k.report(targetOf(t, k, a), up, errors.New("refused"))
	}
	for _, tt := range []struct {
		do   func()
		want string // of the first backend
	}{
		{func() {}, "@3 unknown 50 40 20"},
		{func() { say(a, "50%") }, "@3 unknown 50 40 20"},
		{func() { check(true) }, "@3 up 50 40 20"},
		{func() { say(a, "drain") }, "@3 drain 50 40 20"},
		{func() { say(a, "maxconn:30") }, "@3 drain 30 30 20"},
		{func() { check(false) }, "@3 drain 30 30 20"},
		{func() { say(a, "ready") }, "@3 down 30 30 20"},
		{func() { say(a, "up") }, "@3 down 30 30 20"}, // the check still fails
		{func() { say(a, "down") }, "@3 down 30 30 20"},
		{func() { check(true) }, "@3 down 30 30 20"}, // the agent still says so
		{func() { say(a, "maint") }, "@3 maint 30 30 20"},
		{func() { say(a, "up ready 1%") }, "@3 up 30 30 20"},
		{func() { say(a, "0%") }, "@0 up 30 30 20"},
		{func() { say(a, "200% maxconn:10") }, "@3 up 10 10 10"},
		{func() { say(a, "maxconn:0 100%") }, "@3 up 0 40 20"},
		{func() { say(a, "sideways") }, "@3 up 0 40 20"},
		{func() { say("10.0.0.9:1", "down") }, "@3 up 0 40 20"}, // nobody's
		{func() { say("10.0.0.2:1", "down") }, "@3 up 0 40 20"}, // somebody else's
	} {
		tt.do()
		b := k.pool.Backends()[0]
		l := b.Limits()
		if got := fmt.Sprintf("@%d %s %d %d %d", b.Weight(), b.Status(), l.Max, l.Upper, l.Lower); got != tt.want {
			t.Errorf("got %s, want %s", got, tt.want)
		}
	}
	if s := k.pool.Backends()[1].Status(); s != balancer.Down {
		t.Errorf("the second backend is %s", s)
	}
}

// TestAgentsWeigh: half of a weight that is as small as can be is a half.
func TestAgentsWeigh(t *testing.T) {
	t.Parallel()
	k, say := advisedKeeper(t, zap.NewNop(), config.Words{
		Mappings: []string{"8080=10.0.0.1:1,10.0.0.2:1"},
		Options:  []config.Option{{Name: "agent", Value: "9100"}, {Name: "health", Value: "off"}},
	})
	for _, tt := range []struct {
		words string
		want  uint64 // of 60 flows
	}{{"up", 30}, {"50%", 20}, {"0%", 0}, {"500%", 50}, {"100%", 30}} {
		say("10.0.0.1:1", tt.words)
		b := k.pool.Backends()[0]
		before := b.Total()
		for range 60 {
			got, _ := k.pool.Acquire(balancer.Flow{}, nil)
			k.pool.Release(got)
		}
		if got := b.Total() - before; got+1 < tt.want || got > tt.want+1 {
			t.Errorf("%s: %d of 60 flows, want %d", tt.words, got, tt.want)
		}
	}
}

// TestAdviceGoesWithItsBackend: who comes back is not what he was.
func TestAdviceGoesWithItsBackend(t *testing.T) {
	t.Parallel()
	k, say := advisedKeeper(t, zap.NewNop(), config.Words{
		Mappings: []string{"8080=db.test:1"},
		Options:  []config.Option{{Name: "agent", Value: "9100"}, {Name: "health", Value: "off"}},
	})
	there := []netip.Addr{netip.MustParseAddr("10.0.0.1")}
	k.resolved("db.test", there)
	say("10.0.0.1:1", "maint 50%")
	late := health.Target{Name: "10.0.0.1:1", Network: "tcp", Address: "10.0.0.1:9100"}
	if got := table(k.pool); got != "10.0.0.1:1@1 maint" {
		t.Errorf("ordered: %s", got)
	}
	k.resolved("db.test", []netip.Addr{netip.MustParseAddr("10.0.0.2")})
	k.agents.heard(late, health.ParseAdvice("drain")) // asked before
	k.resolved("db.test", there)
	if got := table(k.pool); got != "10.0.0.1:1@1 up" {
		t.Errorf("come back: %s", got)
	}
	if len(k.obeyed) > 1 || len(k.found) > 1 {
		t.Errorf("%d words and %d findings are held for one backend", len(k.obeyed), len(k.found))
	}
}

// TestAdviceGoesWithItsAgent: of two words for one backend the first says where the agent is, and what another one said
// holds no longer.
func TestAdviceGoesWithItsAgent(t *testing.T) {
	t.Parallel()
	for _, first := range []string{"db.test:1", "db.test:1,agent=9200"} {
		k, say := advisedKeeper(t, zap.NewNop(), config.Words{
			Listen:  []string{":8080"},
			Backend: []string{first, "10.0.0.1:1,agent=9100"},
			Options: []config.Option{{Name: "health", Value: "off"}, {Name: "on-drain", Value: "fin,1h"}},
		})
		k.cuts = newCuts(func(*balancer.Backend, proxy.Cut) {})
		say("10.0.0.1:1", "drain 0%")
		if got := table(k.pool); got != "db.test:1@1 down, 10.0.0.1:1@0 drain" {
			t.Errorf("before %s resolves: %s", first, got)
		}
		k.resolved("db.test", []netip.Addr{netip.MustParseAddr("10.0.0.1")})
		if got := table(k.pool); got != "10.0.0.1:1@1 up" || len(k.cuts.planned) > 0 {
			t.Errorf("with the address of %s: %s, %d cuts planned", first, got, len(k.cuts.planned))
		}
	}
}

// TestAdviceIsNotLost: whatever happens meanwhile, what was said last counts in the end.
func TestAdviceIsNotLost(t *testing.T) {
	t.Parallel()
	seed := rand.Uint64()
	defer func() {
		if t.Failed() {
			t.Logf("seed %d", seed)
		}
	}()
	k, err := newKeeper(parse(t, config.Words{
		Mappings: []string{"8080=db.test:1"},
		Options:  []config.Option{{Name: "agent", Value: "9100"}, {Name: "on-drain", Value: "reset,1h"}, {Name: "on-down", Value: "reset,1h"}},
	}).Services[0], zap.NewNop(), &journal{begun: true}, nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(k.close)
	k.monitor.Close()
	k.agents.monitor.Close() // the errand goes on
	k.cuts = newCuts(func(*balancer.Backend, proxy.Cut) {})
	var addrs []netip.Addr
	for i := range 4 {
		addrs = append(addrs, netip.AddrFrom4([4]byte{10, 0, 0, byte(i + 1)}))
	}
	k.resolved("db.test", addrs)

	var running sync.WaitGroup
	for i, addr := range addrs[:3] { // the last one comes and goes
		running.Go(func() {
			rnd := rand.New(rand.NewPCG(seed, uint64(i)))
			name := netip.AddrPortFrom(addr, 1).String()
			agent := health.Target{Name: name, Network: "tcp", Address: netip.AddrPortFrom(addr, 9100).String()}
			check := health.Target{Name: name, Network: "tcp", Address: name}
			words := []string{"drain", "maint", "ready", "up", "down", "0%", "10%", "maxconn:3"}
			for range 300 {
				k.agents.heard(agent, health.ParseAdvice(words[rnd.IntN(len(words))]))
				k.report(check, rnd.IntN(2) == 0, errors.New("refused"))
			}
			k.report(check, true, nil)
			k.agents.heard(agent, health.ParseAdvice([]string{"up ready 50% maxconn:0", "up drain 100% maxconn:7", "down ready 0%"}[i]))
		})
	}
	running.Go(func() {
		for i := range 50 {
			k.resolved("db.test", addrs[:3+i%2])
		}
	})
	running.Wait()

	want := "10.0.0.1:1@1 up 0, 10.0.0.2:1@1 drain 7, 10.0.0.3:1@0 down 0; cuts 2"
	got := func() string {
		var rows []string
		for _, b := range k.pool.Backends()[:3] {
			limit := b.Limits().Max
			if b.Status() == balancer.Down { // its agent has said nothing of that in the end
				limit = 0
			}
			rows = append(rows, fmt.Sprintf("%s@%d %s %d", b, b.Weight(), b.Status(), limit))
		}
		k.cuts.mu.Lock()
		defer k.cuts.mu.Unlock()
		n := 0
		for r := range k.cuts.planned {
			if r.backend.String() != "10.0.0.4:1" {
				n++
			}
		}
		return fmt.Sprintf("%s; cuts %d", strings.Join(rows, ", "), n)
	}
	for deadline := time.Now().Add(10 * time.Second); got() != want; time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("got  %s\nwant %s", got(), want)
		}
	}
}

// TestOrdersLeaveNoGap: on the way from one reason to get no clients to another there is no moment without any.
func TestOrdersLeaveNoGap(t *testing.T) {
	t.Parallel()
	k, say := advisedKeeper(t, zap.NewNop(), config.Words{
		Mappings: []string{"8080=10.0.0.1:1,10.0.0.2:1"},
		Options:  []config.Option{{Name: "agent", Value: "9100"}, {Name: "health", Value: "off"}},
	})
	const a = "10.0.0.1:1"
	say(a, "down")
	b, done, clients := k.pool.Backends()[0], make(chan struct{}), make(chan struct{})
	before := b.Total()
	go func() {
		defer close(clients)
		for {
			select {
			case <-done:
				return
			default:
				got, _ := k.pool.Acquire(balancer.Flow{}, nil)
				k.pool.Release(got)
			}
		}
	}()
	for range 500 {
		say(a, "up drain")
		say(a, "down ready")
		say(a, "up maint")
		say(a, "down ready")
	}
	close(done)
	<-clients
	if n := b.Total() - before; n > 0 {
		t.Errorf("%d flows got through", n)
	}
}

// TestNoKeeperNoErrand: a keeper that cannot be made leaves nothing behind.
func TestNoKeeperNoErrand(t *testing.T) {
	t.Parallel()
	for _, spoil := range []func(*config.Service){
		func(s *config.Service) { s.Health.Kind, s.Health.CAFile = "https", "/nowhere/ca.pem" },
		func(s *config.Service) { s.Eject = config.Eject{Failures: 1<<31 - 1} },
	} {
		s := parse(t, config.Words{
			Mappings: []string{"8080=10.0.0.1:1"}, Options: []config.Option{{Name: "agent", Value: "9100"}},
		}).Services[0]
		spoil(&s)
		if k, err := newKeeper(s, zap.NewNop(), &journal{}, nil); err == nil {
			k.close()
			t.Error("a keeper of what cannot be")
		}
	}
}

// TestAgentsCut: the flows of a backend end as the service wants when its agent takes it out, and are spared when it is
// back before.
func TestAgentsCut(t *testing.T) {
	t.Parallel()
	k, say := advisedKeeper(t, zap.NewNop(), config.Words{
		Mappings: []string{"8080=10.0.0.1:1,10.0.0.2:1"},
		Options: []config.Option{
			{Name: "agent", Value: "9100"}, {Name: "health", Value: "off"}, {Name: "on-down", Value: "reset"},
			{Name: "on-drain", Value: "fin,1h"},
		},
	})
	const a = "10.0.0.1:1"
	var cut []string
	k.cuts = newCuts(func(b *balancer.Backend, how proxy.Cut) {
		if b.Status() == balancer.Up {
			t.Errorf("%s is cut while it is up", b)
		}
		cut = append(cut, b.String())
	})
	planned := func() int {
		k.cuts.mu.Lock()
		defer k.cuts.mu.Unlock()
		return len(k.cuts.planned)
	}
	say(a, "50%")
	say(a, "drain")
	if len(cut) != 0 || planned() != 1 {
		t.Errorf("drain: cut %q, %d planned", cut, planned())
	}
	say(a, "maint")
	say(a, "maint 20%")
	if len(cut) != 0 || planned() != 1 {
		t.Errorf("maint: cut %q, %d planned", cut, planned())
	}
	say(a, "ready")
	if len(cut) != 0 || planned() != 0 {
		t.Errorf("ready: cut %q, %d planned", cut, planned())
	}
	say(a, "down#full")
	say(a, "down#full")
	if !slices.Equal(cut, []string{a}) || planned() != 0 {
		t.Errorf("down: cut %q, %d planned", cut, planned())
	}
}

func TestAgentsAreTold(t *testing.T) {
	t.Parallel()
	core, logs := observer.New(zap.InfoLevel)
	k, say := advisedKeeper(t, zap.New(core), config.Words{
		Mappings: []string{"8080=10.0.0.1:1,10.0.0.2:1"},
		Options:  []config.Option{{Name: "agent", Value: "9100"}, {Name: "health", Value: "off"}},
	})
	for _, tt := range []struct{ backend, words, want string }{
		{"10.0.0.1:1", "up ready 70%", ""},
		{"10.0.0.1:1", "drain", "agent: drain, no new clients"},
		{"10.0.0.1:1", "drain", ""},
		{"10.0.0.1:1", "maint 10%", "agent: maintenance"},
		{"10.0.0.2:1", "drain", "agent: drain, no new clients; no backend of service 8080 is in service: clients are refused"},
		{"10.0.0.2:1", "ready", "agent: ready; service 8080 has a backend again"},
		{"10.0.0.2:1", "down#disk full", "agent: down: disk full; all backends of service 8080 are down: clients are sent to them anyway (--fail open)"},
		{"10.0.0.2:1", "up", "agent: no longer down; service 8080 has a backend again"},
		{"10.0.0.2:1", "sideways", "agent said a word that means nothing: sideways"},
		{"10.0.0.2:1", "sideways or so", ""},
	} {
		say(tt.backend, tt.words)
		var got []string
		for _, e := range logs.TakeAll() {
			line := e.Message
			for _, field := range []string{"reason", "so", "word"} {
				if v, ok := e.ContextMap()[field]; ok {
					line += ": " + fmt.Sprint(v)
				}
			}
			got = append(got, line)
		}
		if strings.Join(got, "; ") != tt.want {
			t.Errorf("%s says %s: logged %q, want %q", tt.backend, tt.words, strings.Join(got, "; "), tt.want)
		}
	}
	gone := health.Target{Name: "10.0.0.1:1"}
	k.agents.report(gone, false, errors.New("refused"))
	if e := logs.TakeAll(); len(e) != 1 || e[0].Message != "agent does not answer: what it said before holds" {
		t.Errorf("silent: %v", e)
	}
}
