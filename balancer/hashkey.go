package balancer

import (
	"encoding/binary"
	"errors"

	"github.com/cespare/xxhash/v2"
)

// HashKey is what a hashing scheduler hashes. Instances with the same key, and the same
// backends, agree on every flow. The zero value is the client's whole address.
type HashKey struct {
	Of KeyPart
	// Prefix4 and Prefix6 are how many bits of an IPv4 and of an IPv6 address count;
	// 0 is all of them.
	Prefix4, Prefix6 uint8
}

// KeyPart is the part of a flow that is hashed.
type KeyPart uint8

const (
	ClientAddr     KeyPart = iota
	ClientAddrPort         // each connection has its own hash
	LocalAddr              // what the client asked for
	LocalAddrPort
)

func (k HashKey) check() error {
	switch {
	case k.Of > LocalAddrPort:
		return errors.New("no such part of a flow to hash")
	case k.Prefix4 > 32 || k.Prefix6 > 128:
		return errors.New("a hash key's prefix is longer than the address")
	}
	return nil
}

// hash returns what is the same for all flows of one key, on every instance. An IPv4
// address is hashed in its IPv6-mapped form, because a socket of both families shows
// it as such; a zone is left out, since it differs between hosts. Clients without an
// address (of unix sockets) count as one.
func (k HashKey) hash(f *Flow) uint64 {
	from := f.Client
	if k.Of >= LocalAddr {
		from = f.Local
	}
	var key [18]byte
	a := from.Addr().As16()
	copy(key[:], a[:])
	switch {
	case from.Addr().Unmap().Is4():
		if k.Prefix4 > 0 {
			mask(key[12:16], k.Prefix4)
		}
	case k.Prefix6 > 0:
		mask(key[:16], k.Prefix6)
	}
	if k.Of == ClientAddr || k.Of == LocalAddr {
		return xxhash.Sum64(key[:16])
	}
	binary.BigEndian.PutUint16(key[16:], from.Port())
	return xxhash.Sum64(key[:])
}

// mask keeps the first bits of a.
func mask(a []byte, bits uint8) {
	for i := range a {
		switch {
		case bits >= 8:
			bits -= 8
		default:
			a[i] &= ^byte(0xff >> bits)
			bits = 0
		}
	}
}
