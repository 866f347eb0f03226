package reconcile

import (
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"

	"usher/balancer"
	"usher/internal/config"
	"usher/internal/discovery"
)

// TestOverride: it holds when SetOverride returns, ends by itself, and is reported in the order in which it was logged.
func TestOverride(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		core, logged := observer.New(zap.InfoLevel)
		var reported reader
		r := played(Options{Log: zap.New(core), Checks: 1, OnTransition: reported.take})
		defer r.Close()
		r.names.watcher.Close()
		s := newService(t, r, parse(t, "8080=10.0.0.1:1,x.test:2", "health=off"))
		r.Set(t.Context(), new(cutter), desired(s))
		r.flush(t.Context())
		if got := reported.read(); got != "" {
			t.Errorf("before Begin: %s", got)
		}
		r.Begin(t.Context())
		drain, weight := balancer.Drain, 7
		for _, address := range []string{"10.0.0.2:1", "10.0.0.1", "x.test", ""} {
			if err := s.SetOverride(t.Context(), address, Override{Admin: &drain}); !errors.Is(err, ErrNoBackend) {
				t.Errorf("%q: %v", address, err)
			}
		}
		negative, large := -1, config.MaxWeight+1
		for _, bad := range []Override{{Weight: &negative}, {Weight: &large}, {Admin: &drain, Timeout: -1}, {Admin: &drain, Timeout: 1<<63 - 1}} {
			if err := s.SetOverride(t.Context(), "10.0.0.1:1", bad); err == nil {
				t.Errorf("%+v is set", bad)
			}
		}
		set := func(address string, o Override) {
			t.Helper()
			if err := s.SetOverride(t.Context(), address, o); err != nil {
				t.Error(err)
			}
		}
		set("10.0.0.1:1", Override{Admin: &drain, Timeout: time.Minute})
		set("x.test:2", Override{Weight: &weight})
		r.names.onUpdate(discovery.Update{Name: "x.test", Records: recordsOf("x.test", netip.MustParseAddr("10.0.0.3"))})
		r.flush(t.Context())
		want := "10.0.0.1:1@1 drain drain override: drain, 10.0.0.3:2@7 up weight=7 not checked"
		show := func() string {
			var rows []string
			for _, b := range s.Backends() {
				rows = append(rows, fmt.Sprintf("%s@%d %s %s %s", b.Backend, b.Weight, b.Status, b.Override, b.Reason))
			}
			return strings.Join(rows, ", ")
		}
		if got := show(); got != want || table(s.pool) != "10.0.0.1:1@1 drain, 10.0.0.3:2@7 up" || s.Status() != ServiceUp {
			t.Errorf("%s; service %s", got, s.Status())
		}
		time.Sleep(time.Minute)
		synctest.Wait()
		if err := s.ClearOverride(t.Context(), "x.test:2"); err != nil {
			t.Error(err)
		}
		if got := show(); got != "10.0.0.1:1@1 up  not checked, 10.0.0.3:2@1 up  not checked" {
			t.Error(got)
		}
		if since := time.Since(s.Backends()[0].Since); since > time.Second {
			t.Errorf("up since %s", since)
		}
		all := strings.Join([]string{
			"status x.test:2 unknown>down name does not resolve yet",
			"override 10.0.0.1:1 >drain", "status 10.0.0.1:1 up>drain override: drain",
			"override x.test:2 >weight=7", "weight x.test:2 1>7",
			"added 10.0.0.3:2 >up not checked", "override 10.0.0.3:2 >weight=7", "removed x.test:2 down>",
			"override 10.0.0.1:1 drain> its time is over", "status 10.0.0.1:1 drain>up not checked",
			"override 10.0.0.3:2 weight=7>", "weight 10.0.0.3:2 7>1",
		}, ", ")
		if got := reported.read(); got != all {
			t.Errorf("reported\n%s\nwant\n%s", got, all)
		}
		if n := logged.FilterMessageSnippet("override ended").Len(); n != 1 {
			t.Errorf("%d overrides have ended: %v", n, logged.All())
		}
	})
}

// TestOverrideOfWhatIsGone: an override ends with its backend, and that of an address of a name stays for its return, also
// after a restart.
func TestOverrideOfWhatIsGone(t *testing.T) {
	t.Parallel()
	named := func(r *Reconciler, ip string) {
		r.names.onUpdate(discovery.Update{Name: "x.test", Records: recordsOf("x.test", netip.MustParseAddr(ip))})
		r.flush(t.Context())
	}
	start := func(line string) (*Reconciler, *Service) {
		r := played(Options{Log: zap.NewNop(), Checks: 1})
		t.Cleanup(r.Close)
		r.names.watcher.Close()
		r.begun.Store(true)
		return r, newService(t, r, parse(t, line, "health=off"))
	}
	all, some := "8080=10.0.0.1:1,x.test:2,y.test:2", "8080=x.test:2"
	r, s := start(all)
	r.Set(t.Context(), new(cutter), desired(s))
	named(r, "10.0.0.3")
	drain := balancer.Drain
	for _, address := range []string{"10.0.0.1:1", "10.0.0.3:2", "y.test:2"} {
		if err := s.SetOverride(t.Context(), address, Override{Admin: &drain}); err != nil {
			t.Fatal(err)
		}
	}
	r.Set(t.Context(), new(cutter), []Desired{{s, parse(t, some, "health=off")}})
	named(r, "10.0.0.4")
	st := s.State()
	if n := len(st.Overrides); n != 1 {
		t.Fatalf("%d overrides are left: %+v", n, st.Overrides)
	}
	r, s = start(some)
	if err := s.Restore(&st, nil); err != nil {
		t.Fatal(err)
	}
	r.Set(t.Context(), new(cutter), desired(s))
	r.Set(t.Context(), new(cutter), []Desired{{s, parse(t, all, "health=off")}})
	named(r, "10.0.0.3")
	if got, want := table(s.pool), "10.0.0.1:1@1 up, 10.0.0.3:2@1 drain, y.test:2@1 down"; got != want {
		t.Errorf("%s, want %s", got, want)
	}
}

// TestAddressesOfOverrides: a backend is called as it is shown, and that is as it is configured.
func TestAddressesOfOverrides(t *testing.T) {
	t.Parallel()
	r := played(Options{Log: zap.NewNop(), Checks: 1})
	defer r.Close()
	addresses := []string{"10.0.0.1:1", "10.0.0.2", "[fd00::1]", "[fd00::1]:80", "10.0.0.3:8000-8009", "unix:///run/x", "x.test:2", "srv:_x._tcp.x.test"}
	s := newService(t, r, parse(t, "8000-8009="+strings.Join(addresses, ","), "health=off"))
	r.Set(t.Context(), new(cutter), desired(s))
	r.flush(t.Context())
	for i, b := range s.Backends() {
		if b.Backend.String() != addresses[i] {
			t.Errorf("%s is shown as %s", addresses[i], b.Backend)
		}
		if _, has := s.endpoint(addresses[i]); !has {
			t.Errorf("there is no %s", addresses[i])
		}
	}
}
