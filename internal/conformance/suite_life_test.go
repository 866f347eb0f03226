//go:build linux

package conformance_test

import "testing"

// TestLifeSuite tests the cases about the choice and the life of backends: each
// flaw must make those beside it fail. A forwarder without any flaw has no health
// checks.
func TestLifeSuite(t *testing.T) {
	t.Parallel()
	catches(t, []flaw{
		{"no-failover", "that came after the failure", []string{
			"backend-is-killed-under-load", "backend-blackholes-under-load", "backend-refuses-under-load"}},
		{"none", "the checks to take the paused backend down", []string{"backend-is-paused-under-load"}},
		{"none", "the checks to take the backend down", []string{
			"check-http", "check-grpc", "check-conversation", "check-program",
			"down-backend-keeps-its-flows", "down-backend-ends-its-flows", "down-backend-resets-its-flows", "slow-start",
			"backend-marked-down-is-the-last-resort"}},
		{"none", "a client that waits to leave", []string{
			"client-that-closes-leaves-the-queue", "client-that-closes-is-held-no-longer", "client-that-resets-is-held-no-longer"}},
		{"none", "the place of an idle connection", []string{"idle-connection-makes-room"}},
		{"none", "the backend to be ejected", []string{"resetting-backend-is-ejected"}},
		{"none", "two backends to be used", []string{"panic-uses-those-that-are-down"}},
		{"none", "upper threshold", []string{"thresholds-have-hysteresis"}},
		{"none", "led past|asked [2-9] times|got no answer", []string{"udp-backend-is-paused-under-load"}},
		{"keeps-the-dead", "led past|got no answer", []string{"udp-backend-is-killed-under-load"}},
		{"uses-backups", "the backup serves", []string{"backup-waits"}},
		{"never-ages", "clean end", []string{"old-flows-end-in-order"}},
		{"ages-all", "short clients|hear|say|ended after", []string{"old-flows-end-in-order"}},
		{"max-and-one", "up to 4 flows", []string{"backend-maximum-is-never-exceeded"}},
		{"no-max", "up to|one client more|in the order|reset|to take a client", []string{
			"backend-maximum-is-never-exceeded", "full-backend-refuses", "queue-is-in-order", "queue-is-bounded", "queue-times-out"}},
		{"last-come-first-served", "not in the order", []string{"queue-is-in-order"}},
		{"endless-queue", "one client more", []string{"queue-is-bounded"}},
		{"waits-for-ever", "wait for a reset", []string{"queue-times-out"}},
		{"keeps-no-clients", "was at backend|went from backend", []string{
			"persist-by-address", "persist-by-prefix", "persist-survives-a-failure",
			"udp-persist-by-address", "udp-persist-by-prefix", "udp-persist-survives-a-failure"}},
		{"ignores-the-prefix", "was at backend", []string{"persist-by-prefix", "udp-persist-by-prefix"}},
		{"ignores-the-prefix", "one /24", []string{"hash-of-a-prefix"}},
		{"keeps-for-ever", "always goes back", []string{"persist-ends"}},
		{"ignores-weights", "of weights|by weights", []string{"weights-share-the-clients"}},
		{"first-backend-only", "by weights", []string{"weights-share-the-flows", "two-draws-share-the-flows"}},
		{"none", "a backend that is slow", []string{"latency-shares-the-clients"}},
		{"none", "at the most", []string{"hash-with-bounded-load"}},
		{"hashes-by-process", "of one process", []string{
			"hash-agrees-between-processes-mh", "hash-agrees-between-processes-sh",
			"hash-agrees-between-processes-ring", "hash-agrees-between-processes-hrw"}},
	})
}
