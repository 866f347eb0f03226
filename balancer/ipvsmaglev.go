package balancer

import (
	"math/bits"
	"slices"

	"github.com/cespare/xxhash/v2"
)

// The keys of the kernel's two hashes, which are the same on all machines.
const (
	ipvsOffsetKey = 2654435761
	ipvsSkipKey   = 2654446892
)

// ipvsMaxShift is half the bits of the table: no backend takes more than 2^6-1 slots in
// a turn.
const ipvsMaxShift = 6

func ipvsMaglevSlot(key, offset uint32) uint32 {
	return hsiphash(key+offset, ipvsOffsetKey) % ipvsMaglevSlots
}

// fillMaglev is the kernel's table: backends go round in list order, and each claims as
// many slots of its permutation as its turns say. The weights that count are the last
// ones that were not 0, so that quiescing a backend moves nobody. The kernel refuses
// the table that has more backends than slots, and goes on with the one it had; here
// the oldest that fit in have slots, which moves nobody either.
func fillMaglev(members []member) []int32 {
	ways := make([]ipvsWay, 0, len(members))
	for i, m := range members {
		if m.turned > 0 {
			ways = append(ways, newIPVSWay(m.Backend, int32(i)))
		}
	}
	if len(ways) == 0 {
		return nil
	}
	ways = ways[max(len(ways)-ipvsMaglevSlots, 0):]

	divisor, heaviest := 0, 0
	for _, w := range ways {
		turned := members[w.member].turned
		divisor, heaviest = gcd(turned, divisor), max(heaviest, turned)
	}
	shift := max(bits.Len(uint(heaviest/divisor))-ipvsMaxShift, 0)

	slots := slices.Repeat([]int32{-1}, ipvsMaglevSlots)
	free := len(slots)
	for {
		for i := range ways {
			w := &ways[i]
			for range max(members[w.member].turned/divisor>>shift, 1) {
				slots[w.claim(slots)] = w.member
				if free--; free == 0 {
					return slots
				}
			}
		}
	}
}

// ipvsWay is a backend's permutation of the slots.
type ipvsWay struct {
	slot, skip uint32
	member     int32
}

// newIPVSWay takes the hash of the name for the address of a unix socket.
func newIPVSWay(b *Backend, member int32) ipvsWay {
	key := uint32(xxhash.Sum64String(b.name))
	if a := b.endpoint.Addr; a.IsValid() {
		key = foldAddr(a.Addr()) + uint32(a.Port())
	}
	return ipvsWay{
		slot:   hsiphash(key, ipvsOffsetKey) % ipvsMaglevSlots,
		skip:   hsiphash(key, ipvsSkipKey)%(ipvsMaglevSlots-1) + 1,
		member: member,
	}
}

// claim returns the next slot of the way that is free, of which there is one. The way
// stays there: the kernel looks at it again before it goes on, which finds it taken.
func (w *ipvsWay) claim(slots []int32) uint32 {
	for slots[w.slot] >= 0 {
		w.slot = (w.slot + w.skip) % ipvsMaglevSlots
	}
	return w.slot
}
