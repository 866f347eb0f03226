package balancer

// newP2C draws two different members by weight and takes the one with fewer active
// flows for its weight; of equal ones the first. That the other one is always another
// is what sets it apart from twos: with two backends it is least connections, and no
// flow is placed without a comparison.
//
// The most loaded of n backends is above the mean by about log log n flows, where one
// draw is above it by about log n / log log n: see Azar, Broder, Karlin and Upfal,
// Balanced Allocations.
func newP2C(s settings) scheduler {
	return &lottery{random: s.random, table: newLots, distinct: true, better: fewerActive}
}
