package balancer

// leastConn ranks by active flows, whatever the weights; of equal ones the least
// recently picked goes first, with ipvs the newest.
//
// The kernel counts 257 for an active connection and 1 for one that has ended and not
// expired. A proxy sees its flows end, those of UDP too, and has none of the second
// kind: what is left is the number of flows.
type leastConn struct {
	stateless
	ties ties
}

func (r leastConn) rank(b *Backend) rank {
	return rank{num: uint64(b.Active()), den: 1, turn: r.ties.turn(b)}
}

// stateless is for rules that follow from the flows at present alone.
type stateless struct{}

func (stateless) enter(*Backend)        {}
func (stateless) picked(*Backend, rank) {}

// ties says who goes first among equals.
type ties uint8

const (
	leastRecent ties = iota // the least recently picked: equal ones take turns
	newestFirst             // as in IPVS, whose list begins with the newest
	firstListed             // in the operator's order
)

func (t ties) turn(b *Backend) uint64 {
	switch t {
	case newestFirst:
		return ^uint64(b.id)
	case firstListed:
		return b.node.order
	}
	return b.node.picked
}

// tiesOf returns newestFirst where the kernel's choice is asked for, else usual.
func tiesOf(s settings, usual ties) ties {
	if s.ipvs {
		return newestFirst
	}
	return usual
}
