//go:build linux

package conformance_test

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"usher/proxy/conformance"
)

// flaw is a way in which a proxy misbehaves, and the cases that must see it.
type flaw struct {
	flaw  flawed
	why   string // expression that the reason matches
	cases []string
}

// TestSuite tests the suite: each flaw must make the cases beside it fail.
func TestSuite(t *testing.T) {
	t.Parallel()
	catches(t, []flaw{
		{"no-half-close", "EOF|broken pipe", []string{"client-half-close-and-a-late-reply", "backend-half-close-and-the-client-goes-on"}},
		{"reset-becomes-end", "a clean end came", []string{"client-reset-arrives-as-reset", "backend-reset-arrives-as-reset", "backend-reset-after-client-half-close", "client-reset-after-backend-half-close"}},
		{"reset-first", "receive byte 0", []string{"reply-before-a-reset-arrives"}},
		{"flips-a-bit", "byte 4999936 of 16777216 is wrong", []string{"bulk-both-ways"}},
		{"one-buffer-for-all", "client", []string{"no-cross-talk"}},
		{"corks", "took more than", []string{"no-stall-after-bulk"}},
		{"corks-the-tail", "took more than", []string{"no-stall-at-the-end-of-bulk"}},
		{"hoards", "nobody has read|stalled reader", []string{"stalled-reader"}},
		{"hoards", "stopped", []string{"both-sides-stalled"}},
		{"memory", "private memory", []string{"back-to-start-after-10000-flows"}},
		{"threads", "threads", []string{"back-to-start-after-10000-flows"}},
		{"leaks", "sockets", []string{"connect-and-close-flood", "back-to-start-after-10000-flows"}},
		{"no-failover", "client:", []string{"refused-backend-is-passed-over", "blackholed-backend-is-passed-over", "backend-vanishes"}},
		{"holds-the-refused", "not ended", []string{"all-backends-refuse", "connect-budget-ends"}},
		{"serial", "at once|served after|timeout", []string{"stuck-connect-delays-nobody"}},
		{"first-backend-only", "not in turn", []string{"round-robin-order"}},
		{"counts-nothing", "empty backend", []string{"least-connections"}},
		{"never-idle", "not ended", []string{"idle-timeout", "one-way-data-is-not-idle"}},
		{"only-clients-count", "EOF", []string{"one-way-data-is-not-idle"}},
		{"half-closed-for-ever", "not ended", []string{"half-close-timeout"}},
		{"dies-at-once", "EOF", []string{"drain-lets-flows-finish", "drain-with-unread-bytes"}},
		{"dies-at-once", "ended after", []string{"drain-deadline-cuts"}},
		{"keeps-listening", "listener to close", []string{"drain-lets-flows-finish"}},
		{"never-cuts", "lives on", []string{"drain-deadline-cuts"}},
		{"exits-with-1", "exit status 1", []string{"drain-lets-flows-finish", "drain-deadline-cuts"}},
		{"no-limit", "over the limit", []string{"connection-limit"}},
		{"spins", "spins", []string{"few-descriptors", "descriptors-run-out"}},
		{"next-port", "hear|port", []string{"port-range"}},
	})
}

// missed says which cases have not seen the flaw, or something else, and which have
// given no verdict.
func (f flaw) missed(r conformance.Report) (missed, open []string) {
	for _, name := range f.cases {
		x, ok := r.Result(name)
		switch {
		case !ok: // not selected by -run
		case x.Outcome == conformance.Skipped:
			open = append(open, x.Reason)
		case x.Outcome != conformance.Failed:
			missed = append(missed, fmt.Sprintf("%s does not see the flaw", name))
		case !regexp.MustCompile(f.why).MatchString(x.Reason):
			missed = append(missed, fmt.Sprintf("%s fails because %q, want %q", name, x.Reason, f.why))
		}
	}
	return missed, open
}

// catches runs a forwarder with each flaw through the cases that must fail.
func catches(t *testing.T, flaws []flaw) {
	o := conformance.Options{Short: true, Instrumented: raceEnabled, Patience: time.Second}
	judgedByCost := []string{"memory", "spins"} // see Options.Instrumented

	slots := make(chan struct{}, 6) // most of the time is waiting for what never comes
	var running sync.WaitGroup
	for _, f := range flaws {
		slots <- struct{}{}
		running.Go(func() {
			defer func() { <-slots }()
			t.Run(string(f.flaw), func(t *testing.T) {
				if raceEnabled && slices.Contains(judgedByCost, string(f.flaw)) {
					t.Skip("memory and processor time are not judged under the race detector")
				}
				o := o
				o.Only = func(x conformance.Case) bool { return slices.Contains(f.cases, x.Name) }
				// What a flaw shows first depends on the timing of a busy machine: there
				// a step that the flaw has no part in may take longer than there was
				// patience for it.
				const tries = 4
				var missed, open []string
				for range tries {
					if missed, open = f.missed(conformance.Run(t, f.flaw, o)); len(missed)+len(open) == 0 {
						return
					}
					o.Patience *= 3
				}
				if len(missed) > 0 {
					t.Fatal(strings.Join(missed, "\n"))
				}
				t.Skip(strings.Join(open, "\n"))
			})
		})
	}
	running.Wait()
}

// TestSuiteIsFair runs the forwarder without a flaw: what a plain proxy does
// right must pass.
func TestSuiteIsFair(t *testing.T) {
	t.Parallel()
	beyond := []string{ // what two blocking copies cannot see or do
		"client-reset-after-its-half-close", "backend-reset-after-its-half-close",
		"reset-while-the-reader-is-stalled", "health-check-spares-the-clients",
		"unix-listener", "unix-backend", "unix-to-unix", "wait-for-a-backend",
		"udp-down-backend-loses-its-flows", "udp-down-backend-may-keep-its-flows",
		"udp-check-hears-the-refusal", "udp-check-wants-its-reply",
		"udp-flow-leaves-a-backend-that-is-down-for-another",
		"backend-is-paused-under-load", "udp-backend-is-killed-under-load", "udp-backend-is-paused-under-load",
		"check-http", "check-grpc", "check-conversation", "check-program", "slow-start",
		"agent-drains", "agent-orders-maintenance", "agent-takes-down", "agent-weighs",
		"down-backend-keeps-its-flows", "down-backend-ends-its-flows", "down-backend-resets-its-flows",
		"resetting-backend-is-ejected", "panic-uses-those-that-are-down", "thresholds-have-hysteresis",
		"latency-shares-the-clients", "hash-with-bounded-load",
	}
	o := conformance.Options{
		Short: true, Instrumented: raceEnabled,
		Only: func(x conformance.Case) bool {
			return !x.Alone && !x.Heavy && !strings.HasSuffix(x.Group, "access log") && !slices.Contains(beyond, x.Name)
		},
	}
	// The forwarder is no better than it must be, and beside all the other suites a
	// busy machine may keep it from its socket for too long: what has failed is tried
	// again, with little beside it.
	const tries = 4
	for try := 1; try <= tries; try++ {
		var failed []string
		o.Strict = try == tries
		for _, x := range conformance.Run(t, flawed("none"), o).Results {
			if x.Outcome == conformance.Failed {
				failed = append(failed, x.Case.Name)
			}
		}
		if len(failed) == 0 {
			return
		}
		o.Only = func(x conformance.Case) bool { return slices.Contains(failed, x.Name) }
	}
}
