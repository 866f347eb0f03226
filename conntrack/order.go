package conntrack

// order is a queue of slots that any of them may leave at any time. It is linked
// through their IDs: no allocation, and O(1) to join and leave. The links lie in
// places, which orders share: a slot is in one of them at most.
type order struct{ oldest, newest ID } // none: empty

func newOrder() order { return order{none, none} }

// places are the links of orders, by ID, in chunks as the table's.
type places []*[chunkSlots]neighbours

// neighbours are the slots before and after one in its order, or none.
type neighbours struct{ older, newer ID }

// grow adds the places of one more chunk of slots.
func (p *places) grow() { *p = append(*p, new([chunkSlots]neighbours)) }

func (p places) at(id ID) *neighbours { return &p[id/chunkSlots][id%chunkSlots] }

// join puts a slot that is in no order at the end of o.
func (p places) join(o *order, id ID) {
	*p.at(id) = neighbours{older: o.newest, newer: none}
	*p.newer(o, o.newest) = id
	o.newest = id
}

// leave takes a slot out of o.
func (p places) leave(o *order, id ID) {
	n := p.at(id)
	*p.newer(o, n.older) = n.newer
	*p.older(o, n.newer) = n.older
}

// newer returns where it says which slot comes after id, older which before. Past
// the ends that is the order itself.
func (p places) newer(o *order, id ID) *ID {
	if id == none {
		return &o.oldest
	}
	return &p.at(id).newer
}

func (p places) older(o *order, id ID) *ID {
	if id == none {
		return &o.newest
	}
	return &p.at(id).older
}
