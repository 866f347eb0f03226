//go:build linux

package conformance_test

import "testing"

// TestUDPSuite tests the cases about datagrams: each flaw must make those
// beside it fail.
func TestUDPSuite(t *testing.T) {
	t.Parallel()
	catches(t, []flaw{
		{"merges", "came where one of", []string{"udp-bursts-keep-their-boundaries"}},
		{"merges", "others were due", []string{"udp-bursts-of-many-flows"}},
		{"truncates", "a datagram of 4096 bytes came where", []string{"udp-every-size", "udp-every-size-ipv6", "udp-bursts-keep-their-boundaries"}},
		{"drops-empty", "a datagram of 0 bytes", []string{"udp-empty-datagrams"}},
		{"crosses-replies", "client", []string{"udp-replies-of-2000-clients-never-cross"}},
		{"crosses-replies", "got a reply to|the reply came from", []string{"udp-churn-never-crosses"}},
		{"first-reply-only", "timeout", []string{"udp-many-replies-to-one-request"}},
		{"dies-of-size", "small|not|timeout|last", []string{"udp-too-big-for-the-backend", "udp-too-big-for-the-client"}},
		{"wrong-address", "the reply came from 127.0.0.1", []string{"udp-reply-comes-from-the-address-asked"}},
		{"hears-strangers", "nothing was due", []string{"udp-strangers-cannot-answer"}},
		{"mixes-addresses", "the reply came from", []string{"udp-reply-comes-from-the-address-asked"}},
		{"schedules-anew", "the flow went to", []string{"udp-flows-stick-and-new-ones-spread"}},
		{"schedules-anew", "hear", []string{"udp-workers-share-a-port"}},
		{"first-backend-only", "not in turn", []string{"udp-flows-stick-and-new-ones-spread", "udp-one-packet-scheduling"}},
		{"never-expires", "waited", []string{"udp-idle-flow-expires", "udp-reused-client-port-sees-no-old-reply", "udp-back-to-start-after-10000-flows"}},
		{"leaks", "waited", []string{"udp-idle-flow-expires"}},
		{"only-clients-count", "timeout", []string{"udp-use-keeps-a-flow"}},
		{"one-timeout", "unreplied flow to end", []string{"udp-unreplied-flow-expires-sooner"}},
		{"counts-no-replies", "nothing was due", []string{"udp-flow-ends-after-its-replies"}},
		{"counts-no-requests", "hear", []string{"udp-two-questions-at-once"}},
		{"old-replies", "where nothing was due|waited", []string{"udp-reused-client-port-sees-no-old-reply"}},
		{"dies-at-once", "timeout|waited|died", []string{"udp-drain-lets-flows-finish"}},
		{"dies-at-once", "ended after", []string{"udp-drain-deadline-cuts"}},
		{"keeps-listening", "turned away", []string{"udp-drain-lets-flows-finish"}},
		{"never-cuts", "lives on|still runs", []string{"udp-drain-deadline-cuts"}},
		{"keeps-the-dead", "a flow to leave", []string{"udp-refused-backend-is-passed-over", "udp-backend-vanishes"}},
		{"no-limit", "got through|where nothing was due", []string{"udp-flow-limit", "udp-connection-limit", "udp-client-flow-limit", "udp-oldest-unreplied-flow-goes-first"}},
		{"evicts-nobody", "a new client to be served", []string{"udp-oldest-unreplied-flow-goes-first", "udp-clients-of-all-workers-find-room"}},
		{"evicts-at-once", "timeout|evicted before|got through", []string{"udp-newcomers-leave-young-flows-alone"}},
		{"evicts-at-once", "never answered", []string{"udp-crowd-beyond-the-limit-is-served"}},
		{"none", "the checks to take both down", []string{"udp-flow-leaves-a-backend-that-is-down-for-another"}},
		{"evicts-anybody", "the flow went to|where nothing was due", []string{"udp-flow-limit", "udp-oldest-unreplied-flow-goes-first"}},
		{"next-port", "timeout|answered by", []string{"udp-port-range"}},
		{"hashes-the-port", "hear|spread", []string{"udp-hash-agrees-with-tcp"}},
		{"forgets", "timeout", []string{"udp-one-packet-late-replies"}},
		{"black-hole", "backend that is back", []string{"udp-only-backend-comes-back"}},
		{"none", "the checks to take the backend down", []string{
			"udp-down-backend-loses-its-flows", "udp-down-backend-may-keep-its-flows", "udp-check-wants-its-reply"}},
		{"none", "timeout", []string{"udp-check-hears-the-refusal"}},
		{"memory", "private memory", []string{"udp-back-to-start-after-10000-flows"}},
		{"spins", "spins", []string{"udp-descriptors-run-out"}},
		{"restarts", "one flow goes to", []string{"udp-clients-before-the-proxy"}},
		{"starves", "is not answered while|tries beside a flood", []string{"udp-flood-starves-nobody"}},
	})
}
