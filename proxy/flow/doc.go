// Package flow is the policy of the data path: who may come in, which backend a flow gets,
// what an error or an end means, when a flow is over, and what is counted. It does no I/O,
// reads no clock and has no randomness: times, and what the kernel says, are arguments.
//
// An engine embeds a [Flow] in each connection, and has one [Sessions] a worker for
// datagrams. It reports what happened, and each report answers with an [Action] to carry
// out. Engines decide nothing themselves.
//
//	report                                      action
//	Flow.Begin, Next                            Dial, Wait or End
//	Flow.Greet, Peeked, Named                   Peek, Discard, Hold, Dial, Wait or End
//	Flow.Silence                                Hold or End
//	Flow.DialFailed, Woken, Cut, Expired        Dial, Wait, GoOn, Inspect or End
//	Flow.Connected                              Relay
//	Flow.PassedFIN, Inspected, Reclaim          GoOn or End
//	Flow.SideFailed                             Deliver or End
//	Flow.Terminate                              GoOn, Deliver or End
//	Sessions.Route                              Send, Open or End
//	Sessions.OpenFailed, PeerAbsent             Open or End
//	Sessions.Replied                            GoOn or End
//
// # Map
//
//   - access.go, screen.go: who may come in, and who may not; greeting.go: what a client has to
//     say before that is known; silence.go: who gets no answer
//   - origin.go, sendproxy.go: how a client came, and what a backend is told of that
//   - flow.go: one connection until a backend has accepted; ending.go: its relay and end
//   - arrival.go: which session a datagram belongs to, or whether it may begin one; session_named.go:
//     of which client, where a peer names it; session_header.go: which datagrams name it to the backend
//   - session.go: the sessions of a worker; session_end.go: when they end; session_room.go: whose
//     end makes room; onepacket.go: each datagram scheduled by itself; refusal.go, resend.go: what a backend
//     refuses goes to the next one
//   - cut.go: flows that end with their backend or service, or by an operator
//   - queue.go: clients that wait for a backend with room
//   - admission.go, quota.go, clientflows.go: places, reserves and shares
//   - class.go: what an error means for a dial, a relay, a datagram, an accept: one table
//   - accounts.go, outcome.go: what is counted and recorded when a flow has ended
//   - service.go, listener.go, binding.go, choice.go: what is served, and the choice of a backend
//   - routes.go: which service has a client, of several that share an address by server names
//   - handover.go, handover_service.go, handover_binding.go, handover_session.go: what is saved for another process
//   - invariants.go: what must hold between two reports; a binary with the build tag
//     invariants checks it
//
// One goroutine at a time uses a Flow, a Door, or a worker's Sessions. Services, queues and
// [Admission] are for all goroutines.
package flow
