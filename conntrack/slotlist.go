package conntrack

// slotList is a doubly linked list of slots. It allocates nothing: its links lie in
// listLinks, which several lists share. A slot is in one of those lists at most.
type slotList struct{ first, last ID } // none: empty

func newSlotList() slotList { return slotList{none, none} }

// listLinks are the links of lists by ID, in chunks like the table's.
type listLinks []*[chunkSlots]listLink

type listLink struct{ prev, next ID } // or none

// unlinked in prev marks a slot that is in no list, where callers need to know.
const unlinked = none - 1

// grow adds the links of one more chunk of slots, all unlinked.
func (l *listLinks) grow() {
	chunk := new([chunkSlots]listLink)
	for i := range chunk {
		chunk[i].prev = unlinked
	}
	*l = append(*l, chunk)
}

func (l listLinks) at(id ID) *listLink { return &l[id/chunkSlots][id%chunkSlots] }

// pushBack appends a slot that is in no list.
func (l listLinks) pushBack(to *slotList, id ID) {
	*l.at(id) = listLink{prev: to.last, next: none}
	*l.nextOf(to, to.last) = id
	to.last = id
}

// unlink takes a slot out of its list. It leaves the slot's own link as it is.
func (l listLinks) unlink(from *slotList, id ID) {
	n := l.at(id)
	*l.nextOf(from, n.prev) = n.next
	*l.prevOf(from, n.next) = n.prev
}

// nextOf returns where the slot after id is stored: in the list itself for none.
func (l listLinks) nextOf(list *slotList, id ID) *ID {
	if id == none {
		return &list.first
	}
	return &l.at(id).next
}

// prevOf returns where the slot before id is stored: in the list itself for none.
func (l listLinks) prevOf(list *slotList, id ID) *ID {
	if id == none {
		return &list.last
	}
	return &l.at(id).prev
}
