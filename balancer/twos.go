package balancer

// newTwos draws two members by weight, which may be the same one, and takes the one
// with fewer active flows for its weight; of equal ones the first.
//
// The kernel compares active*256 + total connections. Here no flow is inactive, so
// that is 257 times the active ones and says the same.
//
// With ipvs the newest backend has the kernel's one draw more than its weight; see
// lots.draw. Where the kernel leaves out overloaded servers before it draws, a draw
// that falls on one is repeated: so it is the newest in the list that has the one draw
// more, not the newest with room.
func newTwos(s settings) scheduler {
	table := newLots
	if s.ipvs {
		table = newKernelLots
	}
	return &lottery{random: s.random, table: table, better: fewerActive}
}

// fewerActive reports whether x has fewer active flows for its weight than y.
func fewerActive(x, y *lot) bool {
	return lighter(uint64(x.backend.Active()), x.weight, uint64(y.backend.Active()), y.weight)
}
