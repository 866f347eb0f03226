// Package balancer decides which backend a new flow goes to.
//
// A [Pool] holds the backends of one service, each a [Backend] with a weight, a
// status and counters. Discovery calls [Pool.Update] and health checks call
// [Pool.SetStatus]; from these the pool derives the members, the backends that
// may get new flows, and hands them to its scheduler as one immutable list:
//
//   - backends that are up;
//   - if there is none, those whose status is still unknown;
//   - if there is none of these either, and the pool does not fail closed, those
//     that are down: a failed check may be wrong, an empty pool always is.
//
// Of each kind those that are no backups come first: backups are members only when
// there is nobody else of their kind or better. With [Options.Panic] the kinds are used
// together until enough of those that are no backups are in use.
//
// A backend in drain or maintenance, one of weight 0 and one whose name does not
// resolve is never a member.
//
// [Pool.Acquire] picks a member and reserves it in one step, so that two flows that
// start together see each other. Whoever acquired a backend gives it back
// with [Pool.Release] exactly once, when the flow ends or when the connect fails. A
// flow that goes on to another backend names those that it has been to in a [Tried].
//
// The schedulers, what one choice costs among n backends, and what they ignore:
//
//	rr  round robin               O(1)      weights
//	lc  least active flows        O(log n)  weights
//	mh  Maglev consistent hash    O(1)      load
//	    of the client address
//
// The package holds no socket, no clock, no goroutine and no randomness.
package balancer
