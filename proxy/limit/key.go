package limit

import (
	"encoding/binary"
	"net/netip"

	"github.com/cespare/xxhash/v2"
)

// Key names a group of flows: by one or two addresses under masks, and by ports. Keys that
// are made in the same way are equal if the groups are. The zero Key is the group of all.
type Key [36]byte

const (
	otherAddress = 16
	keyPorts     = 32
)

// PrefixKey returns the key of the addresses that share the first bits with addr: bits4 of
// an IPv4 address, bits6 of an IPv6 one. Zero bits make a group of the whole family.
func PrefixKey(addr netip.Addr, bits4, bits6 uint8) (k Key) {
	putMasked(k[:], addr, bits4, bits6)
	return k
}

// WithAddress returns the key with a second address.
func (k Key) WithAddress(addr netip.Addr, bits4, bits6 uint8) Key {
	putMasked(k[otherAddress:], addr, bits4, bits6)
	return k
}

// WithPorts returns the key with two ports, zero for those that do not matter.
func (k Key) WithPorts(source, destination uint16) Key {
	binary.BigEndian.PutUint16(k[keyPorts:], source)
	binary.BigEndian.PutUint16(k[keyPorts+2:], destination)
	return k
}

// putMasked writes 16 bytes: the IPv6 form of an address with its host bits zero.
func putMasked(to []byte, addr netip.Addr, bits4, bits6 uint8) {
	addr = addr.Unmap()
	length := uint(min(bits6, 128))
	if addr.Is4() {
		length = 96 + uint(min(bits4, 32))
	}
	full := addr.As16()
	hi, lo := binary.BigEndian.Uint64(full[:8]), binary.BigEndian.Uint64(full[8:])
	// A shift by 64 or more gives zero, so each half needs no case of its own.
	hi &^= ^uint64(0) >> min(length, 64)
	lo &^= ^uint64(0) >> (max(length, 64) - 64)
	binary.BigEndian.PutUint64(to, hi)
	binary.BigEndian.PutUint64(to[8:], lo)
}

// hash returns the hash of the key under a secret seed.
func (k *Key) hash(seed uint64) uint64 {
	var b [8 + len(k)]byte
	binary.LittleEndian.PutUint64(b[:], seed)
	copy(b[8:], k[:])
	return xxhash.Sum64(b[:])
}
