package conntrack

import (
	"encoding/binary"
	"fmt"
	"hash/maphash"
	"net/netip"
)

// Proto is the transport that a client uses.
type Proto uint8

const (
	TCP Proto = iota + 1
	UDP
	Unix // stream over a unix socket: neither side has an address
)

func (p Proto) String() string {
	switch p {
	case TCP:
		return "tcp"
	case UDP:
		return "udp"
	case Unix:
		return "unix"
	}
	return fmt.Sprintf("proto(%d)", uint8(p))
}

// Key names a flow by transport, client and local address. It is comparable, has no
// pointers and takes 40 bytes. The zero Key names no flow.
//
// An IPv4 address and its IPv4-mapped IPv6 form make the same key, so that a client
// is the same through listeners of either family. Keys have no zones.
type Key struct {
	client, local address
	// rest holds, from the top: client port and local port (16 bits each), a bit for
	// each address that is valid, one for a named client, and the protocol (8 bits).
	rest uint64
}

// address is an IPv6 or IPv4-mapped address in host byte order, zero if invalid.
type address struct{ hi, lo uint64 }

const (
	clientPortShift = 48
	localPortShift  = 32
	clientNamed     = 1 << 10
	clientValid     = 1 << 9
	localValid      = 1 << 8
)

// NewKey returns the key of a flow from client to local, the address that the client
// connected or sent to. Invalid addresses stay invalid.
func NewKey(p Proto, client, local netip.AddrPort) Key {
	rest := uint64(client.Port())<<clientPortShift | uint64(local.Port())<<localPortShift | uint64(p)
	if client.Addr().IsValid() {
		rest |= clientValid
	}
	if local.Addr().IsValid() {
		rest |= localValid
	}
	return Key{packAddress(client.Addr()), packAddress(local.Addr()), rest}
}

// OfProto returns the key with another transport.
func (k Key) OfProto(p Proto) Key {
	k.rest = k.rest&^0xff | uint64(p)
	return k
}

// OfNamed returns the key of a flow whose client was named by another. It is not that of a flow
// which has come from the client itself.
func (k Key) OfNamed() Key {
	k.rest |= clientNamed
	return k
}

// Proto returns the transport.
func (k Key) Proto() Proto { return Proto(k.rest) }

// Client returns the address that the flow came from.
func (k Key) Client() netip.AddrPort {
	return k.client.unpack(k.rest&clientValid != 0, uint16(k.rest>>clientPortShift))
}

// Local returns the address that the client connected or sent to.
func (k Key) Local() netip.AddrPort {
	return k.local.unpack(k.rest&localValid != 0, uint16(k.rest>>localPortShift))
}

// hash resists chosen keys as the hash of a Go map does.
func (k Key) hash(seed maphash.Seed) uint32 { return uint32(maphash.Comparable(seed, k)) }

func packAddress(a netip.Addr) address {
	b := a.As16()
	return address{binary.BigEndian.Uint64(b[:8]), binary.BigEndian.Uint64(b[8:])}
}

func (a address) unpack(isValid bool, port uint16) netip.AddrPort {
	if !isValid {
		return netip.AddrPortFrom(netip.Addr{}, port)
	}
	var b [16]byte
	binary.BigEndian.PutUint64(b[:8], a.hi)
	binary.BigEndian.PutUint64(b[8:], a.lo)
	return netip.AddrPortFrom(netip.AddrFrom16(b).Unmap(), port)
}
