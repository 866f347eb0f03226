package conntrack

import (
	"math/rand/v2"
	"testing"
	"time"
)

// list is what the table is measured against: flows one after the other, searched
// from the front. It is as quick as such a list can be: the keys lie side by side
// in one array, in which a search reads nothing else.
type list struct {
	keys  []Key
	flows []Row[service, backend] // by the index of their keys
}

func (l *list) insert(k Key, s *service, now time.Duration) int {
	l.keys = append(l.keys, k)
	l.flows = append(l.flows, Row[service, backend]{Key: k, Service: s, State: Unreplied, Created: now, Touched: now})
	return len(l.keys) - 1
}

// lookup returns the index of a key, -1 if there is none.
func (l *list) lookup(k *Key) int {
	for i := range l.keys {
		if l.keys[i] == *k {
			return i
		}
	}
	return -1
}

// remove puts the last flow in the place of the one that goes.
func (l *list) remove(i int) {
	last := len(l.keys) - 1
	l.keys[i], l.flows[i] = l.keys[last], l.flows[last]
	l.keys, l.flows = l.keys[:last], l.flows[:last]
}

// TestLookupAgainstList: the table and the list that it is measured against hold
// and find the same.
func TestLookupAgainstList(t *testing.T) {
	t.Parallel()
	random := rand.New(rand.NewPCG(seed(t), 0))
	table, l := NewIndexed[service, backend](1000), &list{}
	for range repeat(20_000) {
		k := clientKey(random.Uint64N(1500), 1)
		id, e := table.Lookup(k)
		i := l.lookup(&k)
		if (i < 0) != (e == nil) || e != nil && (e.Key() != l.keys[i] || e.Created() != l.flows[i].Created) {
			t.Fatalf("the list has flow %d, the table %d %p", i, id, e)
		}
		now := time.Duration(random.Uint32())
		switch {
		case e != nil && random.IntN(3) == 0:
			table.Remove(id)
			l.remove(i)
		case e == nil && table.Len() < 1000:
			table.Insert(k, nil, now)
			l.insert(k, nil, now)
		}
	}
}
