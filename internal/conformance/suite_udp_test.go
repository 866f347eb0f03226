//go:build linux

package conformance_test

import "testing"

// TestUDPSuite tests the cases about datagrams: each flaw must make those
// beside it fail.
func TestUDPSuite(t *testing.T) {
	t.Parallel()
	catches(t, []flaw{
		{"merges", "came where one of", []string{"udp-bursts-keep-their-boundaries"}},
		{"merges", "others were due|came where|begins with|after the end", []string{"udp-bursts-of-many-flows"}},
		{"truncates", "a datagram of 4096 bytes came where", []string{"udp-every-size", "udp-every-size-ipv6", "udp-bursts-keep-their-boundaries"}},
		{"drops-empty", "a datagram of 0 bytes", []string{"udp-empty-datagrams"}},
		{"crosses-replies", "client", []string{"udp-replies-of-2000-clients-never-cross"}},
		{"crosses-replies", "got a reply to|the reply came from", []string{"udp-churn-never-crosses"}},
		{"first-reply-only", "timeout", []string{"udp-many-replies-to-one-request"}},
		{"small-buffer", "reply .* of 150: .*timeout", []string{"udp-burst-of-replies-waits-for-a-busy-proxy"}},
		{"dies-of-size", "small|not|timeout|last", []string{"udp-too-big-for-the-backend", "udp-too-big-for-the-client"}},
		{"wrong-address", "the reply came from 127.0.0.1", []string{"udp-reply-comes-from-the-address-asked"}},
		{"hears-strangers", "nothing was due|forged", []string{"udp-strangers-cannot-answer"}},
		{"mixes-addresses", "the reply came from|one flow", []string{"udp-reply-comes-from-the-address-asked"}},
		{"schedules-anew", "the flow went to|come from", []string{"udp-flows-stick-and-new-ones-spread"}},
		{"schedules-anew", "hear", []string{"udp-workers-share-a-port"}},
		{"first-backend-only", "not in turn", []string{"udp-flows-stick-and-new-ones-spread", "udp-one-packet-scheduling"}},
		{"never-expires", "waited", []string{"udp-idle-flow-expires", "udp-reused-client-port-sees-no-old-reply", "udp-back-to-start-after-10000-flows"}},
		{"leaks", "waited", []string{"udp-idle-flow-expires"}},
		{"only-clients-count", "timeout", []string{"udp-use-keeps-a-flow"}},
		{"one-timeout", "unreplied flow to end", []string{"udp-unreplied-flow-expires-sooner"}},
		{"counts-no-replies", "nothing was due|the flow to end", []string{"udp-flow-ends-after-its-replies"}},
		{"counts-no-requests", "hear", []string{"udp-two-questions-at-once"}},
		{"old-replies", "where nothing was due|waited", []string{"udp-reused-client-port-sees-no-old-reply"}},
		{"dies-at-once", "timeout|waited|died", []string{"udp-drain-lets-flows-finish"}},
		{"dies-at-once", "ended after", []string{"udp-drain-deadline-cuts"}},
		{"keeps-listening", "turned away", []string{"udp-drain-lets-flows-finish"}},
		{"keeps-listening", "address to be given up", []string{
			"udp-drain-gives-the-address-up", "udp-drain-gives-all-addresses-up", "udp-drain-gives-the-address-up-ipv6"}},
		{"never-cuts", "lives on|still runs", []string{"udp-drain-deadline-cuts"}},
		{"keeps-the-dead", "a flow to leave", []string{"udp-refused-backend-is-passed-over", "udp-backend-vanishes"}},
		{"one-budget", "is turned away", []string{"udp-flood-leaves-other-services-room", "udp-flood-of-many-addresses-leaves-room"}},
		{"evicts-nobody", "the place of an idle flow", []string{"udp-idle-flow-makes-room"}},
		{"evicts-anybody", "has lost its place|the flow went to|timeout", []string{"udp-idle-flow-makes-room"}},
		{"no-limit", "got through|where nothing was due", []string{"udp-flow-limit", "udp-connection-limit", "udp-client-flow-limit", "udp-oldest-unreplied-flow-goes-first"}},
		{"evicts-nobody", "a new client to be served", []string{"udp-oldest-unreplied-flow-goes-first", "udp-clients-of-all-workers-find-room"}},
		{"evicts-at-once", "timeout|evicted before|got through", []string{"udp-newcomers-leave-young-flows-alone"}},
		{"evicts-at-once", "never answered", []string{"udp-crowd-beyond-the-limit-is-served"}},
		{"none", "the checks to take both down", []string{"udp-flow-leaves-a-backend-that-is-down-for-another"}},
		{"evicts-anybody", "the flow went to|where nothing was due|evicted|got through|timeout", []string{"udp-flow-limit", "udp-oldest-unreplied-flow-goes-first"}},
		{"next-port", "timeout|answered by", []string{"udp-port-range"}},
		{"hashes-the-port", "hear|spread", []string{"udp-hash-agrees-with-tcp"}},
		{"forgets", "timeout", []string{"udp-one-packet-late-replies"}},
		{"first-backend-only", "with weights of", []string{"udp-one-packet-weights"}},
		{"black-hole", "backend that is back", []string{"udp-only-backend-comes-back"}},
		{"none", "the checks to take the backend down", []string{
			"udp-down-backend-loses-its-flows", "udp-down-backend-may-keep-its-flows", "udp-check-wants-its-reply"}},
		{"none", "ask|died", []string{"udp-flow-outlives-a-reload"}}, // it ends with a hangup
		{"none", "the check to end|the checks to take", []string{"udp-check-hears-the-refusal"}},
		{"none", "timeout", []string{
			"udp-refused-datagram-is-not-lost", "udp-refused-by-the-first", "udp-refused-where-load-is-least",
			"udp-refused-by-the-hash", "udp-refused-before-a-backup", "udp-refused-with-persistence",
			"udp-refusing-backend-comes-back"}},
		{"none", "hear", []string{"udp-refused-burst-is-not-lost"}},
		{"memory", "private memory", []string{"udp-back-to-start-after-10000-flows"}},
		{"spins", "spins", []string{"udp-descriptors-run-out"}},
		{"restarts", "one flow goes to", []string{"udp-clients-before-the-proxy"}},
		{"starves", "is not answered while|tries beside a flood", []string{"udp-flood-starves-nobody"}},
	})
}
