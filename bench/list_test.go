package main

import (
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"usher/conntrack"
)

// TestListAgainstTable: the list holds and finds what the table does.
func TestListAgainstTable(t *testing.T) {
	t.Parallel()
	random := rand.New(rand.NewPCG(7, 8))
	table, l := conntrack.NewIndexed[flowService, flowBackend](100), &flowList{}
	for range 20_000 {
		k := keyOf(random.Uint32N(150))
		id, e := table.Lookup(k)
		i := l.lookup(k)
		if (i < 0) != (e == nil) || e != nil && l.flows[i].Created != e.Created() {
			t.Fatalf("the list has flow %d, the table %d %p", i, id, e)
		}
		now := time.Duration(random.Uint32())
		switch {
		case e != nil && random.IntN(3) == 0:
			table.Remove(id)
			l.remove(i)
		case e == nil && table.Len() < 100:
			table.Insert(k, nil, now)
			l.insert(k, nil, now)
		}
		if len(l.keys) != table.Len() {
			t.Fatalf("the list has %d flows, the table %d", len(l.keys), table.Len())
		}
	}
}

func TestListExpires(t *testing.T) {
	t.Parallel()
	l := &flowList{}
	for i := range 5 {
		l.insert(keyOf(uint32(i)), nil, 0)
	}
	l.deadlines[1], l.deadlines[3], l.deadlines[4] = 2*time.Second, 3*time.Second, 2*time.Second
	var fired []int
	fire := func(i int) { fired = append(fired, i) }
	for now, want := range map[time.Duration][]int{time.Second: nil, 2 * time.Second: {1, 4}, time.Hour: {1, 3, 4}} {
		fired = nil
		if l.expire(now, fire); !slices.Equal(fired, want) {
			t.Errorf("at %v fired %v, want %v", now, fired, want)
		}
	}
	one := l.expirer(time.Second)
	for range 3 {
		one()
	}
	if want := 2*time.Second + idle; l.deadlines[1] != want || l.deadlines[4] != want || l.deadlines[3] != time.Second+want {
		t.Errorf("deadlines %v", l.deadlines)
	}
}

func TestVisits(t *testing.T) {
	t.Parallel()
	for _, n := range []int{1, 2, 10, 100, 1000, 10_000} {
		v, seen := newVisits(n), make([]int, n)
		for range 2 * n {
			seen[v.next()]++
		}
		for place, times := range seen {
			if times != 2 {
				t.Fatalf("%d places: %d was visited %d times in two rounds", n, place, times)
			}
		}
	}
}

func TestSuccessors(t *testing.T) {
	t.Parallel()
	s := newSuccessors(3)
	for _, want := range [][3]uint32{{1, 1, 3}, {1, 3, 4}, {0, 0, 5}} {
		if out, in := s.replace(want[0]); out != want[1] || in != want[2] {
			t.Errorf("place %d: %d goes, %d comes; want %v", want[0], out, in, want[1:])
		}
	}
}

// TestMissingHasNoEntry checks that keys for failing searches have no entry.
func TestMissingHasNoEntry(t *testing.T) {
	t.Parallel()
	if first, last := clientOf(missing), clientOf(missing-1); !last.Less(first) {
		t.Errorf("client %v is missing, and %v is not", first, last)
	}
}
