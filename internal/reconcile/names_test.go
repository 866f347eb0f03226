package reconcile

import (
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	"go.uber.org/zap"

	"usher/internal/discovery"
)

// A few names have lines of their own; more are counted, and so are those that follow within ten seconds.
func TestNameNews(t *testing.T) {
	t.Parallel()
	var news nameNews
	gone := errors.New("lookup: name server 10.0.0.53:53: no answer")
	add := func(from, to int, is discovery.Update) {
		for i := from; i < to; i++ {
			is.Name = fmt.Sprintf("h%d", i)
			news.add(is)
		}
	}
	now := time.Now()
	expect := func(after time.Duration, again time.Duration, want ...string) {
		t.Helper()
		now = now.Add(after)
		lines, due := news.take(now)
		if due != again {
			t.Errorf("again in %v, want %v", due, again)
		}
		var got []string
		for _, l := range lines {
			got = append(got, l.level.String()+" "+words([]line{l})[0])
		}
		if strings.Join(got, "\n") != strings.Join(want, "\n") {
			t.Errorf("logged\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
		}
	}
	const s = time.Second
	one := recordsOf("h", netip.MustParseAddr("10.0.0.1"))
	expect(0, 0)
	add(0, 2, discovery.Update{Records: one})
	expect(0, 0, "info name resolves h0 [10.0.0.1]", "info name resolves h1 [10.0.0.1]")
	add(0, 1, discovery.Update{Records: one, Err: gone})
	expect(s/4, s*3/4)
	add(0, 1, discovery.Update{Records: one}) // and back: the last news counts
	expect(s*3/4, 0, "info name resolves h0 [10.0.0.1]")
	add(0, 1, discovery.Update{Records: one, Missing: gone})
	expect(s, 0, "warn name resolves in part h0 [10.0.0.1] lookup: name server 10.0.0.53:53: no answer")
	add(0, 1000, discovery.Update{Records: one, Err: gone})
	add(7, 9, discovery.Update{Err: gone})
	expect(s, 0,
		"warn names do not resolve, their last addresses stay 998 [h0 h1 h2 h3 h4 ...] lookup: name server 10.0.0.53:53: no answer",
		"warn names do not resolve, their backends are down [h7 h8] lookup: name server 10.0.0.53:53: no answer")
	add(0, 1000, discovery.Update{Records: one})
	expect(s, 9*s)
	expect(9*s, 0, "info names resolve 1000 [h0 h1 h2 h3 h4 ...]")
}

// SRV records give ports, shares of the weight, and backups.
func TestResolveServiceRecords(t *testing.T) {
	t.Parallel()
	s := parse(t, "8000=srv:_http._tcp.x.test@2,10.0.0.9:80,backup")
	if s.Scheduler.Name != "wrr" {
		t.Errorf("scheduler %s, want one that weighs", s.Scheduler.Name)
	}
	record := func(addr string, port, priority, weight uint16) discovery.Record {
		return discovery.Record{Addr: netip.MustParseAddr(addr), SRV: discovery.SRVRecord{Port: port, Priority: priority, Weight: weight}}
	}
	backends, leftOut := resolve(s.Backends, map[string][]discovery.Record{s.Backends[0].Addr.HostName(): {
		record("10.0.0.1", 0, 10, 5), record("10.0.0.1", 8001, 10, 60), record("10.0.0.2", 8003, 10, 0), record("fd00::2", 8002, 20, 1),
	}})
	if got, want := fmt.Sprint(backends), "[10.0.0.1:8001@120 10.0.0.2:8003@2 [fd00::2]:8002@2,backup 10.0.0.9:80,backup]"; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	if got := words(leftOut); len(got) != 1 || got[0] != "backend left out srv:_http._tcp.x.test resolves to 10.0.0.1 without a port" {
		t.Errorf("left out: %q", got)
	}
}

// A backend that was left out because it closed a loop comes back once a name of another service has opened the loop.
func TestLoopThatOpens(t *testing.T) {
	t.Parallel()
	r, _, services := run(t, zap.NewNop(), parse(t, "8000=a.test:8001", "health=off"), parse(t, "8001=b.test:8000", "health=off"))
	for _, step := range []struct{ name, addr, pools string }{
		{"b.test", "127.0.0.1", "a.test:8001@1 down; 127.0.0.1:8000@1 up"},
		{"a.test", "127.0.0.1", "; 127.0.0.1:8000@1 up"},
		{"b.test", "10.0.0.9", "127.0.0.1:8001@1 up; 10.0.0.9:8000@1 up"},
		{"b.test", "127.0.0.1", "127.0.0.1:8001@1 up; "},
	} {
		r.names.onUpdate(discovery.Update{Name: step.name, Records: recordsOf(step.name, netip.MustParseAddr(step.addr))})
		r.flush(t.Context())
		r.flush(t.Context())
		if got := table(services[0].pool) + "; " + table(services[1].pool); got != step.pools {
			t.Errorf("%s is %s: %s, want %s", step.name, step.addr, got, step.pools)
		}
	}
}
