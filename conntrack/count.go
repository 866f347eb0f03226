package conntrack

import (
	"iter"
	"net/netip"
)

// Count says how many rows there are of each kind, as by tells them apart: one of
// [ByService], [ByBackend], [ByClient] and [ByState], or a function of the caller's.
//
//	flows := conntrack.Count(table.Rows(), conntrack.ByBackend)
//
// It may run in any goroutine while the owner goes on, like the rows that it
// counts. Its memory grows with the number of kinds.
func Count[R any, K comparable](rows iter.Seq[R], by func(R) K) map[K]int {
	counts := make(map[K]int)
	for r := range rows {
		counts[by(r)]++
	}
	return counts
}

// ByService tells rows apart by what their flows belong to.
func ByService[S, B any](r Row[S, B]) *S { return r.Service }

// ByBackend tells rows apart by what their flows were given, nil if nothing yet.
func ByBackend[S, B any](r Row[S, B]) *B { return r.Backend }

// ByClient tells rows apart by the address of the client, whatever its port. It is
// invalid for clients that have none.
func ByClient[S, B any](r Row[S, B]) netip.Addr { return r.Key.Client().Addr() }

// ByState tells rows apart by how far their flows have come.
func ByState[S, B any](r Row[S, B]) State { return r.State }
