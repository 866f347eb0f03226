// Package health finds out which backends can be used.
//
// # Checks
//
// A [Checker] asks one target once; each kind of check is one file with one Checker:
//
//	TCP         connects and closes
//	HTTP        one request of HTTP/1.1: status, and a text in the body if wanted
//	SendExpect  a script of what is sent and what must come
//	GRPC        the standard health protocol of gRPC, over HTTP/2
//	UDP, DNS    one datagram and its reply, or silence where that must do
//	Exec        a program: exit status 0 is good
//
// HTTP, SendExpect and GRPC speak TLS too ([TLS]), and reach TCP and unix sockets alike.
// A check is a connection of its own, never kept for the next one: a kept one says that
// a process lives which has long stopped accepting. It ends with a FIN that comes after
// all that was asked for is read. What a target may send, and how long it may take, is bounded,
// whatever it sends; its words go into an error only in part, and escaped. Where a
// target is checked is [Target].Address, which need not be where its clients go: the Name
// says which backend is meant.
//
// A check that fails for want of something on this side is no result ([ErrInconclusive]):
// it neither brings a target up nor takes it down, and [Policy].Inconclusive hears of it.
//
// # Active health
//
// A [Tracker] turns results into up or down, counting consecutive ones (rise, fall); it is
// pure, without clock or socket. A [Monitor] puts checks and trackers together: it
// checks a set of targets again and again and reports a target's first result and every
// change after that. It knows nothing of pools: whoever owns it carries its
// reports there.
//
// A [Policy] has three intervals: Interval while a target is up, DownInterval while it is
// down, ChangeInterval while results contradict its state and do not change it yet. Short
// for changing and long for the others finds an outage fast at little cost.
// Checks are spread over time by three rules:
//
//   - First checks: of the targets that come with one Set, 256 are due at once, the others 1 ms
//     apart, or closer if that takes more than one interval. 256 targets start without
//     delay, 2,000 within 2 s, 10,000 with an interval of 2 s within 2 s.
//   - Second checks come at a random phase of the interval after the first one, and all
//     others with a jitter of 10 % to both sides.
//   - No more than 256 are in flight (16 programs), or as many as the monitors that share
//     [Slots] agree on. The others wait, the longest due first, and none is skipped: too many targets
//     that time out stretch the interval for all.
//
// A target that waits for its next check costs about 1 KB, and neither a goroutine nor
// a descriptor.
//
// # Passive health
//
// An [Ejector] learns from the flows of clients: a backend that fails for them several times in
// a row is ejected for a time that grows with each ejection and shrinks again in good times,
// up to a share of the pool. It is a state machine without clock, like Tracker.
//
// # Agents
//
// An [Agent] asks a small server beside a backend what the backend wants: a part of its
// weight, a limit, drain, maintenance, to be down. It is a Checker, so a Monitor asks, but
// whether there is an answer says nothing of the backend. [Advice] is what was said; its
// owner makes the pool follow it.
package health
