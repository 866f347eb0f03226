package iptables

// maxDepth bounds how deep jumps nest from a built-in chain, as the kernel does.
const maxDepth = 16

// jumps checks the jumps of a table: they must end, and not nest too deep. It follows those that are new since the last
// check, so that a restore costs what its rules are. The zero value follows all at the first check.
type jumps struct {
	added []jump         // since the last check
	depth map[string]int // of chains that a built-in one leads to: the most jumps on a way; nil: not known
	// isLoose says that some depth may be too large, since a jump is gone.
	isLoose bool
	last    jump // that was added
}

// jump is one between two chains.
type jump struct{ from, to string }

// count notes a jump that is new, or gone.
func (j *jumps) count(one jump, n int) {
	if n < 0 {
		j.isLoose = true
		return
	}
	j.added, j.last = append(j.added, one), one
}

// checkJumps reports whether the jumps from the built-in chains end, and nest as deep as the kernel allows. Depths only
// grow, so that it looks at the rules of a chain maxDepth times at most, whatever the number of checks.
func (t *Table) checkJumps() bool {
	j := &t.jumps
	if len(j.added) == 0 {
		return true
	}
	added := j.added
	j.added = nil
	if j.depth == nil {
		return t.measureJumps()
	}
	for _, one := range added {
		if d, isReached := j.depth[one.from]; isReached && !t.deepen(one.to, d+1) {
			return j.isLoose && t.measureJumps() || t.forgetDepths()
		}
	}
	return true
}

// measureJumps follows all jumps.
func (t *Table) measureJumps() bool {
	t.jumps.depth, t.jumps.isLoose = make(map[string]int), false
	for _, name := range builtinChains(t.Name) {
		if !t.deepen(name, 0) {
			return t.forgetDepths()
		}
	}
	return true
}

// forgetDepths has the next check follow all jumps. It returns false.
func (t *Table) forgetDepths() bool {
	t.jumps.depth = nil
	return false
}

// deepen notes that a way of so many jumps leads to a chain. It returns false if that is too many, there or behind it.
func (t *Table) deepen(name string, depth int) bool {
	if known, isReached := t.jumps.depth[name]; isReached && known >= depth {
		return true
	}
	if depth > maxDepth {
		return false
	}
	t.jumps.depth[name] = depth
	for _, r := range t.Chain(name).Rules {
		if r.IsJump && !t.deepen(r.Target, depth+1) {
			return false
		}
	}
	return true
}
