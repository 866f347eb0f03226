package limit

// Counts counts what lives, by key, in a bounded table. A group is in it while it has
// members.
//
// An entry takes at most 88 bytes with its part of the index.
type Counts struct{ table[Count] }

// Count is how many members a group has. A nil one is of a group that had no room.
type Count struct {
	shard   *shard[Count]
	slot    slot
	members int
}

// NewCounts returns a table of at most most groups, spread by a hash under a seed.
func NewCounts(seed uint64, most int) *Counts {
	return &Counts{newTable[Count](seed, most)}
}

// Enter counts one more member of a group, and returns how many there are with it. Leave
// must follow once. A group that has no room is not counted: its member seems to be alone.
func (t *Counts) Enter(k Key) (c *Count, n int) {
	s, hash := t.shardOf(&k)
	s.mu.Lock()
	defer s.mu.Unlock()
	i := s.find(&k, hash)
	if i == 0 {
		if s.isFull() {
			return nil, 1
		}
		i = s.insert(&k, hash)
		c = &s.at(i).value
		c.shard, c.slot = s, i
	} else {
		c = &s.at(i).value
	}
	c.members++
	return c, c.members
}

// Members returns how many members a group has.
func (t *Counts) Members(k Key) int {
	s, hash := t.shardOf(&k)
	s.mu.Lock()
	defer s.mu.Unlock()
	if i := s.find(&k, hash); i != 0 {
		return s.at(i).value.members
	}
	return 0
}

// Leave counts one member less.
func (c *Count) Leave() {
	if c == nil {
		return
	}
	// A member keeps its entry in place, so these two fields do not change meanwhile.
	s, i := c.shard, c.slot
	s.mu.Lock()
	defer s.mu.Unlock()
	if c.members--; c.members == 0 {
		s.remove(i)
	}
}
