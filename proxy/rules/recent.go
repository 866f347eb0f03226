package rules

import (
	"net/netip"
	"slices"
	"sync"
	"time"
)

const (
	// recentAddresses is how many addresses a list remembers.
	recentAddresses = 100
	// recentStamps is how many times it remembers of each, or as many as a rule asks for.
	recentStamps = 20
	// mostRecentStamps bounds that, as iptables does.
	mostRecentStamps = 255
)

// recentList is a list of -m recent: addresses, the least recently stamped first. The first
// rule that names it gives its mask.
type recentList struct {
	mask   netip.Addr
	stamps int // of an address, at most

	mu      sync.Mutex
	entries []recentEntry // at most recentAddresses
}

// recentEntry is an address with the times at which it was seen, oldest first.
type recentEntry struct {
	address netip.Addr
	stamps  []time.Duration
}

func newRecentList(mask netip.Addr, stamps int) *recentList {
	return &recentList{
		mask: mask, stamps: min(max(stamps, recentStamps), mostRecentStamps),
		entries: make([]recentEntry, 0, recentAddresses),
	}
}

// masked returns an address under the list's mask, if that is of its family.
func (l *recentList) masked(a netip.Addr) netip.Addr {
	a = a.Unmap().WithZone("")
	switch {
	case a.Is4() && l.mask.Is4():
		bytes, mask := a.As4(), l.mask.As4()
		for i := range bytes {
			bytes[i] &= mask[i]
		}
		return netip.AddrFrom4(bytes)
	case a.Is6() && l.mask.Is6():
		bytes, mask := a.As16(), l.mask.As16()
		for i := range bytes {
			bytes[i] &= mask[i]
		}
		return netip.AddrFrom16(bytes)
	}
	return a
}

// visit does what a rule says with an address, and reports whether it matches.
func (l *recentList) visit(r *Recent, addr netip.Addr, now time.Duration) bool {
	addr = l.masked(addr)
	l.mu.Lock()
	defer l.mu.Unlock()
	i := slices.IndexFunc(l.entries, func(e recentEntry) bool { return e.address == addr })
	switch {
	case r.Action == RecentSet && i < 0:
		l.addLocked(addr, now)
		return !r.Not
	case i < 0:
		return r.Not
	case r.Action == RecentSet:
		l.stampLocked(i, now)
		return !r.Not
	case r.Action == RecentRemove:
		l.removeLocked(i)
		return !r.Not
	}
	isMatch := l.entries[i].isSeen(r, now) != r.Not
	isUpdate := r.Action == RecentUpdate && isMatch
	// As in the kernel, only the oldest address goes, and not if it is stamped anew.
	if r.Reap && !(i == 0 && isUpdate) && l.entries[0].latest() < now-seconds(r) {
		l.removeLocked(0)
		if i--; i < 0 {
			return isMatch
		}
	}
	if isUpdate {
		l.stampLocked(i, now)
	}
	return isMatch
}

// isSeen reports whether an address was seen as often and as lately as a rule asks for.
func (e *recentEntry) isSeen(r *Recent, now time.Duration) bool {
	hits := 0
	for _, stamp := range e.stamps {
		if r.Seconds > 0 && stamp < now-seconds(r) {
			continue
		}
		if hits++; hits >= r.HitCount {
			return true
		}
	}
	return false
}

func seconds(r *Recent) time.Duration { return time.Duration(r.Seconds) * time.Second }

// latest returns when an address was seen last.
func (e *recentEntry) latest() time.Duration { return e.stamps[len(e.stamps)-1] }

// addLocked adds an address that is not there. It takes the place of the oldest one if there
// is no room.
func (l *recentList) addLocked(a netip.Addr, now time.Duration) {
	if len(l.entries) == recentAddresses {
		l.removeLocked(0)
	}
	l.entries = l.entries[:len(l.entries)+1]
	e := &l.entries[len(l.entries)-1]
	if e.stamps == nil {
		e.stamps = make([]time.Duration, 0, l.stamps)
	}
	e.address, e.stamps = a, append(e.stamps[:0], now)
}

// stampLocked adds a time to an address, in place of the oldest one if there is no room.
func (l *recentList) stampLocked(i int, now time.Duration) {
	e := l.entries[i]
	if len(e.stamps) == l.stamps {
		e.stamps = e.stamps[:copy(e.stamps, e.stamps[1:])]
	}
	e.stamps = append(e.stamps, now)
	copy(l.entries[i:], l.entries[i+1:])
	l.entries[len(l.entries)-1] = e
}

// removeLocked removes an address, and keeps its memory for another.
func (l *recentList) removeLocked(i int) {
	e := l.entries[i]
	copy(l.entries[i:], l.entries[i+1:])
	l.entries[len(l.entries)-1] = recentEntry{stamps: e.stamps[:0]}
	l.entries = l.entries[:len(l.entries)-1]
}
