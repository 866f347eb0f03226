package app

import (
	"errors"
	"net/netip"
	"strings"
	"testing"

	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"

	"usher/health"
	"usher/internal/config"
)

// targetOf returns what is checked of a backend.
func targetOf(t *testing.T, k *keeper, backend string) health.Target {
	t.Helper()
	for target, b := range k.targets {
		if b.String() == backend {
			return target
		}
	}
	t.Fatalf("no backend %s in %s", backend, table(k.pool))
	return health.Target{}
}

func TestConsequences(t *testing.T) {
	t.Parallel()
	const wait, closed, udp = "wait", "closed", "udp"
	for _, tt := range []struct {
		why     outage
		options string
		want    string
	}{
		{allDown, "", "clients are sent to them anyway (--fail open)"},
		{allDown, wait, "clients are sent to them anyway, for up to 30s (--fail open, --wait)"},
		{allDown, closed, "clients are refused (--fail closed)"},
		{allDown, closed + wait, "clients wait up to 30s for one, and are refused then (--fail closed, --wait)"},
		{noAddress, "", "none has an address, clients are refused"},
		{noAddress, closed, "none has an address, clients are refused"},
		{noAddress, wait, "none has an address, clients wait up to 30s for one, and are refused then (--wait)"},
		{noBackend, "", "none is left, clients are refused"},
		{noWeight, "", "clients are refused"},
		{noService, "", "clients are refused"},
		{allDown, udp, "clients are sent to them anyway (--fail open)"},
		{allDown, udp + closed, "datagrams are dropped (--fail closed)"},
		{noAddress, udp, "none has an address, datagrams are dropped"},
		{noWeight, wait, "clients wait up to 30s for one, and are refused then (--wait)"},
	} {
		s := config.DefaultServiceOptions()
		s.FailClosed = strings.Contains(tt.options, closed)
		if strings.Contains(tt.options, wait) {
			s.Wait = 30e9
		}
		if strings.Contains(tt.options, udp) {
			s.Listeners = []config.Addr{{Network: config.UDP}}
		}
		if got := consequence(tt.why, s); got != tt.want {
			t.Errorf("%d with %q: %s, want %s", tt.why, tt.options, got, tt.want)
		}
	}
}

// No alarm while a name or a check may still bring good news, and none before begin.
func TestOutageIsToldWhenItIsKnown(t *testing.T) {
	t.Parallel()
	c := parse(t, config.Words{Mappings: []string{"8080=a.test:1,b.test:1,127.0.0.1:1@0"}})
	core, logs := observer.New(zap.DebugLevel)
	var j journal
	k, err := newKeeper(c.Services[0], zap.New(core), &j, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer k.close()
	k.monitor.Close() // checks nothing any more: reports come from here
	expect := func(step string, want ...string) {
		t.Helper()
		var got []string
		for _, e := range logs.TakeAll() {
			got = append(got, e.Message+" "+e.ContextMap()["service"].(string))
			if so, ok := e.ContextMap()["so"]; ok {
				got[len(got)-1] += ": " + so.(string)
			}
		}
		if strings.Join(got, "\n") != strings.Join(want, "\n") {
			t.Errorf("%s: logged\n%s\nwant\n%s", step, strings.Join(got, "\n"), strings.Join(want, "\n"))
		}
	}
	ip := netip.MustParseAddr
	k.apply()
	k.resolved("a.test", nil)
	j.begin()
	expect("b.test has not answered")
	k.resolved("b.test", []netip.Addr{ip("10.0.0.1")})
	expect("10.0.0.1 is not checked yet")
	k.report(targetOf(t, k, "10.0.0.1:1"), false, errors.New("refused"))
	expect("10.0.0.1 is down", "backend down 8080",
		"all backends of service 8080 are down 8080: clients are sent to them anyway (--fail open)")
	k.resolved("b.test", nil)
	expect("no address is left",
		"all backends of service 8080 are down 8080: none has an address, clients are refused")
	k.resolved("a.test", []netip.Addr{ip("10.0.0.2")})
	expect("10.0.0.2 is not checked yet")
	k.report(targetOf(t, k, "10.0.0.2:1"), true, nil)
	expect("10.0.0.2 is up", "backend up 8080", "service 8080 has a backend again 8080")
	// That the one without weight is up helps no client.
	k.report(targetOf(t, k, "127.0.0.1:1"), true, nil)
	k.report(targetOf(t, k, "10.0.0.2:1"), false, errors.New("refused"))
	expect("10.0.0.2 is down", "backend up 8080", "backend down 8080",
		"all backends of service 8080 are down 8080: clients are sent to them anyway (--fail open)")
}

// A problem found before begin is told by begin.
func TestJournalHoldsBack(t *testing.T) {
	t.Parallel()
	var j journal
	var got []string
	say := func(s string) { j.add(func() { got = append(got, s) }) }
	say("one")
	j.flush()
	say("two")
	if len(got) > 0 {
		t.Errorf("logged %q before begin", got)
	}
	j.begin()
	say("three")
	j.flush()
	j.flush()
	if strings.Join(got, " ") != "one two three" {
		t.Errorf("logged %q", got)
	}
}
