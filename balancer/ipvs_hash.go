package balancer

import (
	"encoding/binary"
	"math/bits"
	"net/netip"
	"slices"
	"sync/atomic"

	"github.com/cespare/xxhash/v2"
)

// ipvsHash is sh, dh or mh exactly as in the kernel. Tables depend on the order in which
// the backends came. A backend of weight 0 keeps its slots, and their flows are refused,
// as are those of a backend that is full, unless there is a fallback.
//
// The kernel never learns that a connect failed. A flow that has tried a backend goes on
// by the fallback, asked for or not; and where that reaches nobody, since old backends
// may have no slot, along the list.
type ipvsHash struct {
	counting
	hash        func(key, offset uint32) uint32 // a slot
	fill        func([]member) []int32          // in the kernel's order; nil: all flows are refused
	destination bool                            // the key is what the client asked for
	port        bool                            // and the port
	fallback    bool
	table       atomic.Pointer[ipvsTable]
}

// ipvsTable is immutable.
type ipvsTable struct {
	members []member // in the kernel's order
	slots   []int32  // index in members
}

// The kernel's defaults of the sizes that are options of its build.
const (
	ipvsHashSlots   = 256  // sh and dh: IP_VS_SH_TAB_BITS, IP_VS_DH_TAB_BITS
	ipvsMaglevSlots = 4093 // mh: IP_VS_MH_TAB_INDEX
)

func newIPVSSourceHash(s settings) *ipvsHash {
	return &ipvsHash{hash: ipvsBucket, fill: fillByWeight, port: s.port, fallback: s.fallback}
}

func newIPVSDestinationHash() *ipvsHash {
	return &ipvsHash{hash: ipvsBucket, fill: fillOnceEach, destination: true}
}

func newIPVSMaglev(s settings) *ipvsHash {
	return &ipvsHash{hash: ipvsMaglevSlot, fill: fillMaglev, port: s.port, fallback: s.fallback}
}

func (s *ipvsHash) update(members []member) {
	t := &ipvsTable{members: newest(members)}
	if len(members) > 0 {
		t.slots = s.fill(t.members)
	}
	s.table.Store(t)
}

func (s *ipvsHash) acquire(f Flow, tried *Tried) (b *Backend, busy bool) {
	t := s.table.Load()
	if len(t.slots) == 0 {
		return nil, false
	}
	key := s.key(&f)
	first := s.hash(key, 0)
	if b = t.try(t.slots[first], tried, &busy); b != nil {
		return b, false
	}
	if !s.fallback && tried.Len() == 0 {
		return nil, busy
	}
	size := uint32(len(t.slots))
	for i := range size {
		slot := s.hash(key, (first+i)%size)
		if b = t.try(t.slots[slot], tried, &busy); b != nil {
			return b, false
		}
	}
	if tried.Len() == 0 {
		return nil, busy
	}
	for i := range t.members {
		if b = t.try(int32(i), tried, &busy); b != nil {
			return b, false
		}
	}
	return nil, busy
}

func (t *ipvsTable) try(i int32, tried *Tried, busy *bool) *Backend {
	m := &t.members[i]
	if m.weight == 0 || !try(m.Backend, tried, busy) {
		return nil
	}
	return m.Backend
}

// key is the address as one number and, if it counts, the port added to it. The address
// of a unix socket's client, which has none, is 0.
func (s *ipvsHash) key(f *Flow) uint32 {
	from := f.Client
	if s.destination {
		from = f.Local
	}
	key := foldAddr(from.Addr())
	if s.port {
		key += uint32(from.Port())
	}
	return key
}

// foldAddr returns an IPv4 address as it is, and the four words of an IPv6 address
// combined by XOR.
func foldAddr(a netip.Addr) uint32 {
	if a = a.Unmap(); a.Is4() {
		four := a.As4()
		return binary.BigEndian.Uint32(four[:])
	}
	words := a.As16()
	return binary.BigEndian.Uint32(words[0:]) ^ binary.BigEndian.Uint32(words[4:]) ^
		binary.BigEndian.Uint32(words[8:]) ^ binary.BigEndian.Uint32(words[12:])
}

// ipvsBucket is the kernel's hash_32 (Fibonacci hashing) with an offset.
func ipvsBucket(key, offset uint32) uint32 {
	return (offset + key*0x61c88647>>24) % ipvsHashSlots
}

// fillByWeight gives each backend as many slots in a row as its weight, at least one,
// and goes round until there is no slot left. The oldest have none where the weights add
// up to more than the slots.
func fillByWeight(members []member) []int32 {
	slots := make([]int32, ipvsHashSlots)
	at, had := 0, 0
	for i := range slots {
		slots[i] = int32(at)
		if had++; had >= members[at].weight {
			at, had = (at+1)%len(members), 0
		}
	}
	return slots
}

// fillOnceEach gives the backends turns of one slot, whatever their weight.
func fillOnceEach(members []member) []int32 {
	slots := make([]int32, ipvsHashSlots)
	for i := range slots {
		slots[i] = int32(i % len(members))
	}
	return slots
}

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
	ways := make([]ipvsPermutation, 0, len(members))
	for i, m := range members {
		if m.turned > 0 {
			ways = append(ways, newIPVSPermutation(m.Backend, int32(i)))
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

// ipvsPermutation is a backend's permutation of the slots.
type ipvsPermutation struct {
	slot, skip uint32
	member     int32
}

// newIPVSPermutation takes the hash of the name for the address of a unix socket.
func newIPVSPermutation(b *Backend, member int32) ipvsPermutation {
	key := uint32(xxhash.Sum64String(b.name))
	if a := b.endpoint.Addr; a.IsValid() {
		key = foldAddr(a.Addr()) + uint32(a.Port())
	}
	return ipvsPermutation{
		slot:   hsiphash(key, ipvsOffsetKey) % ipvsMaglevSlots,
		skip:   hsiphash(key, ipvsSkipKey)%(ipvsMaglevSlots-1) + 1,
		member: member,
	}
}

// claim returns the next slot of the way that is free, of which there is one. The way
// stays there: the kernel looks at it again before it goes on, which finds it taken.
func (w *ipvsPermutation) claim(slots []int32) uint32 {
	for slots[w.slot] >= 0 {
		w.slot = (w.slot + w.skip) % ipvsMaglevSlots
	}
	return w.slot
}

// hsiphash is the kernel's function of this name on 64-bit machines, for one word:
// SipHash-1-3 (Aumasson and Bernstein, "SipHash: a fast short-input PRF", 2012), cut
// to 32 bits. Both halves of the key are the same here.
func hsiphash(word uint32, key uint64) uint32 {
	const size = 4 // bytes, which the last block ends with
	block := uint64(size)<<56 | uint64(word)
	s := sipState{
		key ^ 0x736f6d6570736575,
		key ^ 0x646f72616e646f6d,
		key ^ 0x6c7967656e657261,
		key ^ 0x7465646279746573,
	}
	s[3] ^= block
	s.round()
	s[0] ^= block
	s[2] ^= 0xff
	s.round()
	s.round()
	s.round()
	return uint32(s[0] ^ s[1] ^ s[2] ^ s[3])
}

type sipState [4]uint64

func (s *sipState) round() {
	s[0] += s[1]
	s[2] += s[3]
	s[1] = bits.RotateLeft64(s[1], 13) ^ s[0]
	s[3] = bits.RotateLeft64(s[3], 16) ^ s[2]
	s[0] = bits.RotateLeft64(s[0], 32)
	s[2] += s[1]
	s[0] += s[3]
	s[1] = bits.RotateLeft64(s[1], 17) ^ s[2]
	s[3] = bits.RotateLeft64(s[3], 21) ^ s[0]
	s[2] = bits.RotateLeft64(s[2], 32)
}
