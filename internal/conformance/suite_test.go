//go:build linux

package conformance_test

import (
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"usher/internal/conformance"
	"usher/internal/race"
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
		{"no-half-close", "EOF|broken pipe|reset", []string{"client-half-close-and-a-late-reply", "backend-half-close-and-the-client-goes-on"}},
		{"reset-becomes-end", "a clean end came", []string{"client-reset-arrives-as-reset", "backend-reset-arrives-as-reset", "backend-reset-after-client-half-close", "client-reset-after-backend-half-close"}},
		{"reset-first", "receive byte", []string{"reply-before-a-reset-arrives"}},
		{"flips-a-bit", "byte 4999936 of 16777216 is wrong", []string{"bulk-both-ways"}},
		{"one-buffer-for-all", "client|wrong", []string{"no-cross-talk"}},
		{"corks", "took more than", []string{"no-stall-after-bulk"}},
		{"corks-the-tail", "took more than", []string{"no-stall-at-the-end-of-bulk"}},
		{"hoards", "without a reader|reader was stalled|stalled reader|spins", []string{"stalled-reader"}},
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
		{"only-clients-count", "EOF|broken pipe|reset", []string{"one-way-data-is-not-idle"}},
		{"half-closed-for-ever", "not ended|send byte", []string{"half-close-timeout", "half-close-timeout-ends-a-reader-that-has-stopped-down"}},
		{"resets-what-is-left", "reset", []string{
			"1-mib-down-survive-that-their-sender-is-gone", "1-mib-up-survive-that-their-sender-is-gone",
			"down-reset-after-the-end-comes-behind-the-bytes", "up-reset-after-the-end-comes-behind-the-bytes",
			"half-close-timeout-waits-for-a-slow-reader-down", "half-close-timeout-waits-for-a-slow-reader-up"}},
		{"none", "not been idle|receive byte", []string{"idle-timeout-waits-for-a-slow-reader-down", "idle-timeout-waits-for-a-slow-reader-up"}},
		{"dies-at-once", "EOF|broken pipe|reset", []string{"drain-lets-flows-finish", "drain-with-unread-bytes"}},
		{"dies-at-once", "ended after", []string{"drain-deadline-cuts"}},
		{"keeps-listening", "listener to close", []string{"drain-lets-flows-finish"}},
		{"never-cuts", "lives on", []string{"drain-deadline-cuts"}},
		{"exits-with-1", "exit status 1", []string{"drain-lets-flows-finish", "drain-deadline-cuts"}},
		{"no-limit", "over the limit|still there", []string{"connection-limit"}},
		{"spins", "spins", []string{"few-descriptors", "descriptors-run-out"}},
		{"restarts", "refused|reset|EOF|broken pipe", []string{"reload-under-load-loses-nobody", "reload-keeps-clients-that-wait"}},
		{"dies-of-a-bad-file", "refused|reset|EOF|died", []string{"bad-file-changes-nothing"}},
		{"none", "wait for a", []string{"removed-backend-ends-its-flows", "removed-backend-resets-its-flows"}},
		{"next-port", "hear|port", []string{"port-range"}},
	})
}

// missed returns why each case did not see the flaw: it passed, failed for another
// reason, or was skipped.
func (f flaw) missed(r conformance.Report) (passed, others, skipped map[string]string) {
	passed, others, skipped = make(map[string]string), make(map[string]string), make(map[string]string)
	for _, name := range f.cases {
		x, ok := r.Result(name)
		switch {
		case !ok: // not selected by -run
		case x.Outcome == conformance.Skipped:
			skipped[name] = x.Reason
		case x.Outcome != conformance.Failed:
			passed[name] = name + " does not see the flaw"
		case !regexp.MustCompile(f.why).MatchString(x.Reason):
			others[name] = fmt.Sprintf("%s fails because %q, want %q", name, x.Reason, f.why)
		}
	}
	return passed, others, skipped
}

// catches runs a forwarder with each flaw through the cases that must fail.
func catches(t *testing.T, flaws []flaw) {
	o := conformance.Options{Short: true, Instrumented: race.Enabled, Patience: time.Second}
	judgedByCost := []string{"memory", "spins"} // see Options.Instrumented

	slots := make(chan struct{}, 6) // they mostly wait
	var running sync.WaitGroup
	for _, f := range flaws {
		slots <- struct{}{}
		running.Go(func() {
			defer func() { <-slots }()
			t.Run(string(f.flaw), func(t *testing.T) {
				if race.Enabled && slices.Contains(judgedByCost, string(f.flaw)) {
					t.Skip("memory and processor time are not judged under the race detector")
				}
				o := o
				o.Only = func(x conformance.Case) bool { return slices.Contains(f.cases, x.Name) }
				// A busy machine changes which step fails first: a step without the
				// flaw may exceed the case's patience. So each case has several tries
				// to see the flaw.
				const tries = 4
				var passed, others, skipped map[string]string
				for range tries {
					passed, others, skipped = f.missed(conformance.Run(t, f.flaw, o))
					f.cases = slices.Concat(slices.Collect(maps.Keys(passed)), slices.Collect(maps.Keys(others)), slices.Collect(maps.Keys(skipped)))
					if len(f.cases) == 0 {
						return
					}
					o.Patience *= 3
				}
				// A case that always fails at another step sees the flaw as well:
				// without the flaw TestSuiteIsFair and TestTargets want it to pass.
				for _, why := range others {
					t.Log(why)
				}
				switch {
				case len(passed) > 0:
					t.Fatal(strings.Join(slices.Sorted(maps.Values(passed)), "\n"))
				case len(skipped) > 0:
					t.Skip(strings.Join(slices.Sorted(maps.Values(skipped)), "\n"))
				}
			})
		})
	}
	running.Wait()
}

// TestSuiteIsFair runs the forwarder without a flaw: what a plain proxy does
// right must pass.
func TestSuiteIsFair(t *testing.T) {
	t.Parallel()
	beyond := []string{ // beyond the abilities of two blocking copies
		"client-reset-after-its-half-close", "backend-reset-after-its-half-close",
		"down-reset-after-the-end-comes-behind-the-bytes", "up-reset-after-the-end-comes-behind-the-bytes",
		"idle-timeout-waits-for-a-slow-reader-down", "idle-timeout-waits-for-a-slow-reader-up",
		"reset-while-the-reader-is-stalled", "health-check-spares-the-clients",
		"unix-listener", "unix-backend", "unix-to-unix", "wait-for-a-backend",
		"rules-in-chains", "rules-count-what-they-decide", "client-on-a-unix-socket-has-no-address-v1", "client-on-a-unix-socket-has-no-address-v2",
		"udp-down-backend-loses-its-flows", "udp-down-backend-may-keep-its-flows",
		"udp-refused-datagram-is-not-lost", "udp-refused-by-the-first", "udp-refused-where-load-is-least",
		"udp-refused-by-the-hash", "udp-refused-before-a-backup", "udp-refused-with-persistence",
		"udp-refusing-backend-comes-back", "udp-refused-burst-is-not-lost", "udp-check-hears-the-refusal", "udp-check-wants-its-reply",
		"udp-flow-leaves-a-backend-that-is-down-for-another",
		"udp-drain-gives-the-address-up", "udp-drain-gives-all-addresses-up", "udp-drain-gives-the-address-up-ipv6",
		"backend-is-paused-under-load", "udp-backend-is-killed-under-load", "udp-backend-is-paused-under-load",
		"check-http", "check-grpc", "check-conversation", "check-program", "slow-start",
		"agent-drains", "agent-sets-maintenance", "agent-takes-down", "agent-weighs",
		"down-backend-keeps-its-flows", "down-backend-ends-its-flows", "down-backend-resets-its-flows",
		"resetting-backend-is-ejected", "panic-uses-those-that-are-down", "thresholds-have-hysteresis",
		"latency-shares-the-clients", "hash-with-bounded-load", "idle-connection-makes-room",
		"backend-marked-down-is-the-last-resort", "client-that-closes-leaves-the-queue",
		"silent-backend-has-its-share-of-turns", "silent-backend-has-its-share-of-the-least-loaded",
		"client-that-closes-is-held-no-longer", "client-that-resets-is-held-no-longer",
		"services-share-an-address-by-client", "client-of-no-service-is-refused", "services-by-client-change",
		"udp-services-share-an-address-by-client", "without-a-backend-closed", "without-a-backend-silent", "without-a-backend-refused", "without-a-backend-clients-wait",
		"udp-without-a-backend-closed", "udp-without-a-backend-silent", "udp-without-a-backend-ignored",
		"removed-backend-ends-its-flows", "removed-backend-resets-its-flows", "udp-flow-outlives-a-reload",
		"ipv6-alone-beside-ipv4",                    // its listeners on all addresses take both families
		"stalled-downloads-leave-room-unprivileged", // this binary may be another user's
	}
	o := conformance.Options{
		Short: true, Instrumented: race.Enabled,
		Only: func(x conformance.Case) bool {
			return !x.Alone && !x.Heavy && !strings.HasSuffix(x.Group, "access log") && !slices.Contains(beyond, x.Name)
		},
	}
	// The forwarder is simple, and a busy machine may keep it from its socket for too
	// long. Failed cases run again, with little beside them.
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
