package iptables

import (
	"fmt"
	"math/rand/v2"
	"testing"
)

// TestJumpsAreCheckedAsTheyCome compares the check of new jumps with one of all, over random changes.
func TestJumpsAreCheckedAsTheyCome(t *testing.T) {
	t.Parallel()
	refused, admitted := 0, 0
	for seed := range uint64(200) {
		rnd := rand.New(rand.NewPCG(seed, 2))
		table := newTable("nat")
		table.ownsMap = true
		for i := range 24 {
			table.add(&Chain{Name: fmt.Sprint("C", i)})
		}
		for range 200 {
			all := table.inOrder()
			from, to := all[rnd.IntN(len(all))], all[4+rnd.IntN(len(all)-4)]
			if n := len(from.Rules); n > 0 && rnd.IntN(3) == 0 {
				table.delete(from, rnd.IntN(n))
				continue
			}
			table.insert(from, 0, &Rule{Target: to.Name, IsJump: true})
			want := true
			for _, c := range table.inOrder()[:4] {
				want = want && nestsWithin(table, c, maxDepth)
			}
			if got := table.checkJumps(); got != want {
				t.Fatalf("seed %d: %t, want %t, behind %s to %s", seed, got, want, from.Name, to.Name)
			}
			if admitted++; !want {
				refused++
				table.delete(table.Chain(from.Name), 0)
			}
		}
	}
	if refused < 100 || admitted < 10*refused/9 {
		t.Errorf("%d of %d refused", refused, admitted)
	}
}

// nestsWithin reports whether no way from a chain has more jumps.
func nestsWithin(table *Table, c *Chain, most int) bool {
	seen := make(map[string]int)
	var deepest func(c *Chain, depth int) bool
	deepest = func(c *Chain, depth int) bool {
		if d, isThere := seen[c.Name]; depth > most || isThere && d >= depth {
			return depth <= most
		}
		seen[c.Name] = depth
		for _, r := range c.Rules {
			if !deepest(table.Chain(r.Target), depth+1) {
				return false
			}
		}
		return true
	}
	return deepest(c, 0)
}
