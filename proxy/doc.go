// Package proxy is the data path: it accepts clients on the listeners of
// services, has a backend chosen, and moves the bytes both ways.
//
// # The way of a connection
//
// The event loops' files are named here; the portable engine goes the same way
// in stream.go.
//
//  1. accept_linux.go: a worker's listening socket has a client. Server.admit
//     makes room for it or resets it (limit).
//  2. conn_linux.go: newConn gives it a row of the connection table and a slot
//     of the same number in the worker.
//  3. flow.go: flow.next chooses and reserves a backend in one step.
//     connect_linux.go: attempt starts to connect to it. An attempt that fails,
//     or takes longer than its step while there is another backend, moves on to
//     the next at once; the timer of the flow bounds all of them together.
//  4. connect_linux.go: connected registers the client with epoll as well.
//  5. relay_linux.go: move passes on what one side sent, by copying through the
//     loop's one buffer, or by splice through a borrowed pipe once reads fill
//     the buffer. What the other side has no room for waits, and nothing more is
//     read. The end of a direction is passed on alone (fin); a broken side ends
//     the flow (lastWords).
//  6. conn_linux.go: end closes both sockets and gives back pipes and buffers.
//     Server.settle releases the backend, counts the outcome and hands one record
//     to the access log. The row is removed.
//
// # The way of a datagram
//
//  1. udp_linux.go: a worker's listening socket has a batch (receive). portable_udp.go
//     goes the same way, one by one.
//  2. session.go: sessions.route finds the flow's session or begins one: it reserves
//     a backend, and where there is no room the oldest session that has waited for a
//     reply in vain makes place, at once if it is the worker's own, else for the next
//     datagram (askOthers).
//  3. udp_linux.go: a new session has a socket connected to its backend (open). What
//     the batch holds for one session leaves together (forward); datagram_linux.go
//     and udp_send_linux.go have the kernel cut what is of equal size.
//  4. udp_linux.go: replies of all sessions gather and leave by the listening socket,
//     from the address that was asked (readable, flush).
//  5. session.go: a backend that refuses is exchanged for another (unreachable).
//     Silence, the last reply or the want of a backend ends a session (end).
//
// # Policy and mechanism
//
// flow, sessions, Server.admit and Server.settle decide; they do no I/O on sockets.
// The engines epoll (Linux) and portable (goroutines and package net) carry out,
// and ask them. One suite in package conformance holds both to the same behaviour.
//
// # Time
//
// All times on the data path are durations since the server was made, on the
// monotonic clock. An event loop reads it once a turn.
//
// # Bounds
//
// A flow may keep one buffer of 64 KiB or one pipe of up to 1 MiB a direction,
// and only while the receiving side is full. Pipes are bounded by worker, flows by
// Options.MaxConns.
package proxy
