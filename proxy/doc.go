// Package proxy is the data path: it accepts clients on the listeners of
// services, has a backend chosen, and moves the bytes both ways.
//
// # The way of a connection
//
// The event loops' files are named here; the portable engine goes the same way
// in portable_stream.go.
//
//  1. epoll_accept_linux.go: a worker's listening socket has a client. flow.Admission
//     has a place for it, or another flow ends for it, or it is reset.
//  2. epoll_conn_linux.go: newConn gives it a row of the connection table and a slot
//     of the same number in the worker.
//  3. flow.Flow: Next chooses and reserves a backend in one step, and the answer is to
//     dial it. epoll_connect_linux.go: follow carries out the answers, dial connects. An
//     attempt that fails, or takes longer than its step while there is another backend,
//     moves on to the next at once; the timer of the flow bounds all of them together.
//  4. epoll_connect_linux.go: connected registers the client with epoll as well.
//  5. epoll_relay_linux.go: move passes on what one side sent, by copying through the
//     loop's one buffer, or by splice through a borrowed pipe once reads fill
//     the buffer (epoll_splice_linux.go). What the other side has no room for waits, and
//     nothing more is read. The end of a direction is passed on alone (fin); a side that has failed
//     ends the flow (broken), at once or after what is left (deliver).
//  6. epoll_conn_linux.go: end closes both sockets and gives back pipes and buffers.
//     Admission.Settle releases the backend, counts the outcome, hands one record to
//     the access log and removes the row.
//
// # The way of a datagram
//
//  1. epoll_udp_linux.go: a worker's listening socket has a batch (receive). portable_udp.go
//     goes the same way, one by one.
//  2. flow.Sessions: Route finds the flow's session or begins one: it reserves
//     a backend, and where there is no room another flow ends, at
//     once if it is the worker's own, else for the next datagram (epoll_evict_linux.go).
//  3. epoll_udp_linux.go: a new session has a socket connected to its backend (open). What
//     the batch holds for one session leaves together (forward); sock_mmsg_linux.go
//     and epoll_udp_send_linux.go have the kernel cut what is of equal size.
//  4. epoll_udp_reply_linux.go: replies of all sessions gather and leave by the listening socket,
//     from the address that was asked (readable, flush).
//  5. Sessions.PeerAbsent: a backend that refuses is exchanged for another, which is sent
//     what the first one has refused, out of copies (failover, resend). Silence, the last
//     reply or the lack of a backend ends a session.
//  6. epoll_udp_drain_linux.go: an address that nobody wants any more is given up for a
//     successor, and flows go on (giveUpAddresses); sock_udp_owner_linux.go is how the
//     successor binds.
//
// # How services change
//
// Server.Apply (apply.go) takes all services that are wanted. plan (plan.go) compares them with those
// that run, by name and by listening address. bind opens what is new, and may fail: then
// nothing has changed. commit cannot fail. It shares the places out anew, points services
// at their new settings and bindings at their services, has the engine serve what is new,
// and then close what went. A binding that goes keeps the settings that its last clients get.
// Event loops change their sockets only by tasks that they run, a share in each turn.
//
// # How a server is handed over
//
// A new process image, after exec, can go on with all flows of a server: descriptors keep
// their numbers, and all else is in a [State].
//
//		Suspend ──▶ State ──Encode──▶ bytes ──exec──▶ DecodeState ──▶ Restore ──▶ Start
//		   └──────── Resume, if exec fails
//
//	 1. Server.Suspend (handover.go) parks each event loop between two turns, when all that it
//	    has read of datagrams is sent. Newcomers that wait for another worker get their answer.
//	    Clients that connect meanwhile wait in the accept queue, datagrams in their sockets.
//	 2. What flows refer to gets numbers: services, settings, backends, bindings. Those that are
//	    gone but for flows are among them. Then package flow saves its part of each flow
//	    (flow/handover*.go), and the engine its sockets, pipes and unsent bytes
//	    (epoll_handover_linux.go). Times stay as they are: the clock goes on over exec.
//	 3. Restore trusts nothing. State.Check looks at numbers, sizes and what contradicts itself;
//	    each descriptor has to be what it is said to be (epoll_handover_verify_linux.go). Then
//	    the server is made as it was, and the services that are given are applied to it. What
//	    can be counted is counted anew: places, reservations, clients.
//	 4. Every socket is registered with a new epoll instance, which tells what is ready. Flows
//	    that may go on without an event get a turn.
//
// The portable engine is not handed over: its sockets belong to the Go runtime. A test lists
// the fields of all that an event loop keeps, so that none is forgotten.
//
// # Policy and mechanism
//
// Package flow decides, and does no I/O. Each engine is a family of files: epoll_*.go
// (Linux) and portable_*.go (goroutines and package net). Engines report what happens and
// carry out the actions that are the answers. Raw sockets, batches of datagrams and pipes
// are beside them in sock_*.go. One suite in package conformance holds both engines to the
// same behaviour.
//
// # How a connection ends
//
// flow/ending.go says what an end means. A FIN is passed on as a FIN, behind all bytes; the
// second one ends the flow. A reset, or a peer that is lost, ends it with a reset of the
// other side. Two rules keep bytes that are still on their way to a slow reader.
//
// A side that has finished owes nothing. If it fails later, the other side first takes
// all that is left, in order and with the FIN, until its kernel has acknowledged it. Then
// the failure is passed on as any other. So a reset that a peer sends after its half-close
// arrives as a reset. It is the peer's own word, or its answer to bytes that were sent to
// it: usher sends no probe that could draw one. A closed peer's kernel forgets the
// connection after a minute (tcp_fin_timeout) and resets whatever comes then, so keepalive
// is switched off towards a side whose FIN was received, before its first probe. On Linux
// the FIN counts from when the kernel has it, read or not; elsewhere from when it is read.
//
// A timeout means no progress, and progress is what a peer has acknowledged. Before a
// timeout ends a flow the kernel is asked how much is not acknowledged (inspect: SIOCOUTQ
// and TCP_INFO, on Linux): while that gets less the flow goes on. An idle flow with all
// acknowledged is not asked again before it carries bytes. What a peer did not take by the
// end of --half-close-timeout, or before it was lost, does not count as passed on.
//
// # What can be seen and ended
//
// Readers walk the connection tables without a lock (rows.go). What only a loop knows it is
// asked for by a task: round trip times of up to 128 rows, or how many bytes flows in 4096
// slots have carried since they were last counted (stats.go). Kill and Rebalance choose rows
// first; then the loops end those that still live, up to 128 a turn. The generation of a
// slot tells a row's flow from later ones. CutBackend and CutService leave the choice to the
// loops, which also know of flows that are just about to connect.
//
// # Time
//
// All times on the data path are durations since the server was made, on the
// monotonic clock. An event loop reads it once a turn.
//
// # Bounds
//
// A flow may keep one buffer of 64 KiB or one pipe of up to 1 MiB a direction, and only
// while the receiving side is full. Bulk that the event loops copy is peeked at, and what
// the receiver has no room for stays in the queue of the sender's socket. The bulk of a
// turn of a loop takes 500 µs, and one splice more. Copies of datagrams that may yet be
// refused take 256 KiB a worker, and of one flow up to 65 KiB of that. Pipes are bounded by
// worker, flows by Options.MaxConns.
package proxy
