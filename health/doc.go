// Package health finds out which backends can be used.
//
// # What it owns
//
//	Checker          checks one target once; one file per kind of check
//	  TCP            connects and closes; ConnectLoop does it for many targets at once
//	  HTTP           one HTTP/1.1 request: status and, if wanted, a text in the body
//	  SendExpect     a script: what to send, and what the answer must hold
//	  GRPC           grpc.health.v1.Health over HTTP/2
//	  UDP, DNS       one datagram and its reply
//	  Exec           a program: exit status 0 is good
//	Monitor          checks a set of targets again and again, reports changes
//	OutlierDetector  ejects backends whose flows fail in a row
//	WithPreface      has the connections of a check begin with a PROXY header
//	Agent            asks a server beside a backend for weight, limit and state
//
// internal/reconcile makes one Monitor per service with checks and one per service with
// agents. It stores their reports as observations, of which it makes the state of backends.
//
// # States of a target
//
//	unknown ──first result──▶ up or down
//	down ──Policy.Rise good results in a row──▶ up
//	up   ──Policy.Fall bad results in a row───▶ down
//
// A check that cannot be made on this host ([ErrInconclusive]) changes no state.
//
// # Checks
//
// HTTP, SendExpect and GRPC speak TLS ([TLS]) over TCP and unix sockets. Each check is a
// new connection: a kept one would prove that a process lives, not that it accepts. It
// ends with a FIN after the whole answer is read. Bytes and time of a check are
// bounded. Errors quote targets only in part, and sanitized.
//
// # Schedule
//
// A [Policy] has three intervals: while a target is up, while it is down, and while
// results contradict its state without changing it yet. A short last one finds an
// outage fast at little cost. Three rules spread checks over time:
//
//   - First checks: of the targets of one Set, 256 are checked at once, the others 1 ms
//     apart, or closer to finish within one interval.
//   - The second check comes at a random phase of the interval, later ones with a jitter
//     of 10 %.
//   - At most 256 checks are in flight (16 programs), or as many as shared [Slots] allow.
//     Others wait, the longest due first. None is skipped: too many targets that time
//     out stretch the interval for all.
//
// A waiting target costs about 1 KB, and neither goroutine nor descriptor.
package health
