package app

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"

	"usher/balancer"
	"usher/health"
	"usher/internal/config"
	"usher/proxy"
)

// parse makes the config of a command line that is right.
func parse(t *testing.T, w config.Words) *config.Config {
	t.Helper()
	c, err := config.Parse(w)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// table writes a pool as "endpoint@weight status" words.
func table(p *balancer.Pool) string {
	var rows []string
	for _, b := range p.Backends() {
		rows = append(rows, fmt.Sprintf("%s@%d %s", b, b.Weight(), b.Status()))
	}
	return strings.Join(rows, ", ")
}

func TestKeeperFollowsNames(t *testing.T) {
	t.Parallel()
	c := parse(t, config.Words{
		Listen:  []string{":8000-8001"},
		Backend: []string{"db.test:5000-5001@2", "10.0.0.1", "unix:///run/x.sock@0", "db.test", "other.test:80"},
		Options: []config.Option{{Name: "health", Value: "off"}},
	})
	k, err := newKeeper(c.Services[0], zap.NewNop(), &journal{begun: true}, nil)
	if err != nil {
		t.Fatal(err)
	}
	if got := strings.Join(k.hosts(), " "); got != "db.test other.test" {
		t.Errorf("hosts: %s", got)
	}
	k.apply()
	want := "db.test:5000-5001@2 down, 10.0.0.1:0@1 up, unix:///run/x.sock@0 up, db.test@1 down, other.test:80@1 down"
	if got := table(k.pool); got != want {
		t.Errorf("before any name resolves:\n%s\n%s", got, want)
	}
	stays := k.pool.Backends()[1]

	k.resolved("db.test", []netip.Addr{netip.MustParseAddr("10.1.1.1"), netip.MustParseAddr("fd00::1")})
	want = "10.1.1.1:5000-5001@2 up, [fd00::1]:5000-5001@2 up, 10.0.0.1:0@1 up, unix:///run/x.sock@0 up, " +
		"10.1.1.1:0@1 up, [fd00::1]:0@1 up, other.test:80@1 down"
	if got := table(k.pool); got != want {
		t.Errorf("with addresses of db.test:\n%s\n%s", got, want)
	}
	if k.pool.Backends()[2] != stays {
		t.Error("a backend that stayed is not the same any more")
	}

	k.resolved("db.test", nil)
	want = "db.test:5000-5001@2 down, 10.0.0.1:0@1 up, unix:///run/x.sock@0 up, db.test@1 down, other.test:80@1 down"
	if got := table(k.pool); got != want {
		t.Errorf("without addresses again:\n%s\n%s", got, want)
	}
}

func TestKeeperTargets(t *testing.T) {
	t.Parallel()
	c := parse(t, config.Words{
		Listen:  []string{":8000-8009", "127.0.0.1:9000-9009"},
		Backend: []string{"10.0.0.1:5000-5009", "[fd00::1]", "10.0.0.1:5000", "unix:///run/x.sock", "db.test:1"},
	})
	// Targets are looked at, not checked: these addresses are not ours.
	k, err := newKeeper(c.Services[0], zap.NewNop(), &journal{begun: true}, nil)
	if err != nil {
		t.Fatal(err)
	}
	k.pool.Update(k.specs())
	var got []string
	for _, b := range k.pool.Backends() {
		target, ok := k.target(b)
		got = append(got, fmt.Sprint(target, ok))
	}
	want := []string{
		"{10.0.0.1:5000-5009 tcp 10.0.0.1:5000} true",
		"{[fd00::1]:0 tcp [fd00::1]:8000} true",
		"{10.0.0.1:5000 tcp 10.0.0.1:5000} true",
		"{unix:///run/x.sock unix /run/x.sock} true",
		"{  } false",
	}
	if strings.Join(got, "\n") != strings.Join(want, "\n") {
		t.Errorf("got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

// Of two words for one backend the first says where it is checked, as it says all else.
func TestKeeperTargetsOfOneBackendTwice(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct{ first, second, want string }{
		{"10.0.0.1:80", "db.test:80,check=81", "10.0.0.1:80"},
		{"db.test:80,check=81", "10.0.0.1:80", "10.0.0.1:81"},
		{"db.test:80,check=81", "10.0.0.1:80,check=10.0.0.9:82", "10.0.0.1:81"},
	} {
		c := parse(t, config.Words{Listen: []string{":8000"}, Backend: []string{tt.first, tt.second}})
		k, err := newKeeper(c.Services[0], zap.NewNop(), &journal{begun: true}, nil)
		if err != nil {
			t.Fatal(err)
		}
		k.names["db.test"] = []netip.Addr{netip.MustParseAddr("10.0.0.1")}
		k.pool.Update(k.specs())
		if got, _ := k.target(k.pool.Backends()[0]); got.Address != tt.want {
			t.Errorf("%s and %s: checked at %s, want %s", tt.first, tt.second, got.Address, tt.want)
		}
	}
}

func TestKeeperTellsEachChangeOnce(t *testing.T) {
	t.Parallel()
	c := parse(t, config.Words{Mappings: []string{"8080=9001,9002"}})
	core, logs := observer.New(zap.DebugLevel)
	k, err := newKeeper(c.Services[0], zap.New(core), &journal{begun: true}, nil)
	if err != nil {
		t.Fatal(err)
	}
	// What apply does, without a monitor that checks.
	k.pool.Update(k.specs())
	targets := make([]health.Target, 2)
	for i, b := range k.pool.Backends() {
		targets[i], _ = k.target(b)
		k.targets[targets[i]] = b
	}
	refused := errors.New("refused")
	for _, step := range []struct {
		target int
		up     bool
		want   string
	}{
		{0, true, "debug backend up"},
		{1, false, "warn backend down"},
		{0, false, "warn backend down, error all backends of service 8080 are down"},
		{1, true, "info backend up, info service 8080 has a backend again"},
		{1, false, "warn backend down, error all backends of service 8080 are down"},
		{0, true, "info backend up, info service 8080 has a backend again"},
		{1, true, "info backend up"},
	} {
		var err error
		if !step.up {
			err = refused
		}
		k.report(targets[step.target], step.up, err)
		var got []string
		for _, e := range logs.TakeAll() {
			got = append(got, e.Level.String()+" "+e.Message)
		}
		if strings.Join(got, ", ") != step.want {
			t.Errorf("%+v: logged %s", step, strings.Join(got, ", "))
		}
		want := balancer.Down
		if step.up {
			want = balancer.Up
		}
		if s := k.pool.Backends()[step.target].Status(); s != want {
			t.Errorf("%+v: the pool has %s", step, s)
		}
	}
	// A target that is no longer there.
	k.report(health.Target{Name: "gone"}, false, refused)
	if logs.Len() > 0 {
		t.Errorf("a report of an unknown target is logged: %v", logs.All())
	}
}

func TestKeeperTargetsOfUDP(t *testing.T) {
	t.Parallel()
	for health, want := range map[string]string{
		"tcp":       "{10.0.0.1:53 tcp 10.0.0.1:53} {[fd00::1]:0 tcp [fd00::1]:5353}",
		"udp":       "{10.0.0.1:53 udp 10.0.0.1:53} {[fd00::1]:0 udp [fd00::1]:5353}",
		"dns:a.com": "{10.0.0.1:53 udp 10.0.0.1:53} {[fd00::1]:0 udp [fd00::1]:5353}",
	} {
		c := parse(t, config.Words{
			Mappings: []string{"udp:5353=10.0.0.1:53,[fd00::1]"},
			Options:  []config.Option{{Name: "health", Value: health}},
		})
		k, err := newKeeper(c.Services[0], zap.NewNop(), &journal{begun: true}, nil)
		if err != nil {
			t.Fatal(err)
		}
		k.pool.Update(k.specs())
		var got []string
		for _, b := range k.pool.Backends() {
			target, _ := k.target(b)
			got = append(got, fmt.Sprint(target))
		}
		if strings.Join(got, " ") != want {
			t.Errorf("%s: %s, want %s", health, strings.Join(got, " "), want)
		}
	}
}

// Flows of a backend that health takes down or that is removed are cut, if the service wants that.
func TestKeeperCuts(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		mapping, onDown string
		want            bool
	}{
		{"udp:5353=10.0.0.1:53,db.test:53", "", true},
		{"udp:5353=10.0.0.1:53,db.test:53", "reset", true},
		{"udp:5353=10.0.0.1:53,db.test:53", "keep", false},
		{"5353=10.0.0.1:53,db.test:53", "", false},
	} {
		words := config.Words{Mappings: []string{tt.mapping}}
		if tt.onDown != "" {
			words.Options = []config.Option{
				{Name: "on-down", Value: tt.onDown}, {Name: "on-remove", Value: tt.onDown}, {Name: "health", Value: "tcp"},
			}
		}
		k, err := newKeeper(parse(t, words).Services[0], zap.NewNop(), &journal{begun: true}, nil)
		if err != nil {
			t.Fatal(err)
		}
		if k.monitor != nil { // of tcp, whose check is on by default: these addresses are not ours
			k.monitor.Close()
		}
		var cut []string
		k.cuts = newCuts(func(b *balancer.Backend, how proxy.Cut) {
			if how == proxy.Keep {
				return
			}
			// No new flow may come to a backend while its flows are cut.
			if b.Status() == balancer.Up && slices.Contains(k.pool.Backends(), b) {
				t.Errorf("%s is cut while it is up", b)
			}
			cut = append(cut, b.String())
		})
		expect := func(step string, want ...string) {
			t.Helper()
			if !tt.want {
				want = nil
			}
			if !slices.Equal(cut, want) {
				t.Errorf("%s %s, %s: cut %q, want %q", tt.mapping, tt.onDown, step, cut, want)
			}
			cut = nil
		}
		k.resolved("db.test", []netip.Addr{netip.MustParseAddr("10.1.1.1"), netip.MustParseAddr("10.1.1.2")})
		expect("all are new")
		k.resolved("db.test", []netip.Addr{netip.MustParseAddr("10.1.1.2")})
		expect("one is removed", "10.1.1.1:53")

		first, _ := k.target(k.pool.Backends()[0])
		k.report(first, true, nil)
		expect("one is up")
		k.report(first, false, errors.New("silent"))
		expect("it goes down", "10.0.0.1:53")
		k.report(health.Target{Name: "gone"}, false, errors.New("silent"))
		expect("an unknown one goes down")
	}
}
