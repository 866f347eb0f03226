package rules

// layout gives steps their positions in vectors. Steps that look at the same things are
// together in a region, in order. So a vector has few bits in the regions that look at its
// dimension, and whole pages and blocks of the intersection are empty. Without it each word
// would have a step that does not look at a dimension, and so is in all of its vectors.
type layout struct {
	steps   []int32 // by position
	regions []region
}

// region are the positions from first to before end.
type region struct{ first, end int32 }

// leastArranged is how many steps have more than one region. Fewer fit in a few blocks.
const leastArranged = 2 * blockBits

func newLayout(all []conditions) layout {
	if len(all) < leastArranged {
		l := layout{make([]int32, len(all)), []region{{0, int32(len(all))}}}
		for i := range l.steps {
			l.steps[i] = int32(i)
		}
		return l
	}
	var members [mostRegions][]int32
	for i := range all {
		n := all[i].region()
		members[n] = append(members[n], int32(i))
	}
	var l layout
	for _, steps := range members {
		if len(steps) == 0 {
			continue
		}
		first := int32(len(l.steps))
		l.steps = append(l.steps, steps...)
		l.regions = append(l.regions, region{first, int32(len(l.steps))})
	}
	return l
}

// arrange returns conditions by position.
func (l *layout) arrange(all []conditions) []conditions {
	arranged := make([]conditions, len(all))
	for i, step := range l.steps {
		arranged[i] = all[step]
	}
	return arranged
}

// fewPorts is how many ports few packets have.
const fewPorts = 1 << 13

// region returns a number below mostRegions: a bit for each thing that few packets have.
func (c *conditions) region() (n int) {
	isNarrow := func(all []Prefix) bool {
		for _, p := range all {
			if !p.Not && p.Bits() > 0 {
				return true
			}
		}
		return false
	}
	if isNarrow(c.sources) {
		n |= 1
	}
	if isNarrow(c.destinations) {
		n |= 2
	}
	if c.destinationPorts.size() < fewPorts {
		n |= 4
	}
	return n
}
