package balancer

// neverQueue puts idle backends first, whatever their weights, and ranks the others as
// shortestDelay does. The idle ones take turns, with ipvs the newest goes first.
type neverQueue struct {
	shortestDelay
}

func (r neverQueue) rank(b *Backend) rank {
	if b.Active() == 0 {
		return rank{den: 1, turn: r.ties.turn(b)}
	}
	x := r.shortestDelay.rank(b)
	x.major = 1
	return x
}
