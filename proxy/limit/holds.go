package limit

// Holds are the counts that something is a member of. The zero value has none. It has one
// owner at a time, and is not copied while it has some.
type Holds struct {
	first, second *Count
	more          *[]*Count // allocated beyond two
}

// Add keeps a count that was entered.
func (h *Holds) Add(c *Count) {
	switch {
	case c == nil:
	case h.first == nil:
		h.first = c
	case h.second == nil:
		h.second = c
	case h.more == nil:
		h.more = &[]*Count{c}
	default:
		*h.more = append(*h.more, c)
	}
}

// Has reports whether a count is kept.
func (h *Holds) Has(c *Count) bool {
	if c == nil {
		return false
	}
	if h.first == c || h.second == c {
		return true
	}
	if h.more != nil {
		for _, kept := range *h.more {
			if kept == c {
				return true
			}
		}
	}
	return false
}

// Release leaves all counts.
func (h *Holds) Release() {
	h.first.Leave()
	h.second.Leave()
	if h.more != nil {
		for _, c := range *h.more {
			c.Leave()
		}
	}
	*h = Holds{}
}
