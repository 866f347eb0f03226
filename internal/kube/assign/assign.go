// Package assign gives addresses of a pool to what has a name, so that each name has the same one again after a restart,
// as far as that is free. LoadBalancers is its use for Services of type LoadBalancer.
package assign

import (
	"errors"
	"fmt"
	"hash/fnv"
	"math"
	"net/netip"

	"usher/internal/kube/planner"
)

// Pool is a range of addresses, each of which one name may have. It has no lock.
type Pool struct {
	prefix netip.Prefix
	first  netip.Addr // that can be given
	size   uint64     // addresses that can be given, from first on
	owner  map[netip.Addr]planner.Key
	addr   map[planner.Key]netip.Addr
}

// errExhausted says that all addresses of a pool are given.
var errExhausted = errors.New("no address is free")

// maxSize bounds the addresses that are given of a large prefix.
const maxSize = math.MaxUint32

// NewPool returns the pool of a prefix, without the addresses of it that mean the network itself or all of its hosts.
func NewPool(prefix netip.Prefix) (*Pool, error) {
	prefix = prefix.Masked()
	if !prefix.IsValid() || prefix.Addr().Is4In6() {
		return nil, fmt.Errorf("%s is no prefix: give one such as 127.10.0.0/16", prefix)
	}
	if prefix.Addr().IsMulticast() || prefix.Addr().IsUnspecified() {
		return nil, fmt.Errorf("addresses of %s cannot be those of services: give a prefix such as 127.10.0.0/16", prefix)
	}
	p := &Pool{prefix: prefix, first: prefix.Addr(), owner: make(map[netip.Addr]planner.Key), addr: make(map[planner.Key]netip.Addr)}
	bits := prefix.Addr().BitLen() - prefix.Bits()
	p.size = maxSize
	if bits < 32 {
		p.size = 1 << bits
	}
	if bits > 1 { // RFC 3021 and RFC 6164: two addresses are both hosts
		p.first, p.size = p.first.Next(), p.size-1
		if prefix.Addr().Is4() {
			p.size--
		}
	}
	return p, nil
}

// Prefix returns the range of the pool.
func (p *Pool) Prefix() netip.Prefix { return p.prefix }

// Addr returns what a name has.
func (p *Pool) Addr(key planner.Key) (netip.Addr, bool) {
	addr, is := p.addr[key]
	return addr, is
}

// Claim gives a name the address that it asks for, in place of the one that it has. It reports whether that is of the
// pool and no other name has it.
func (p *Pool) Claim(key planner.Key, addr netip.Addr) bool {
	owner, isTaken := p.owner[addr]
	if isTaken && owner != key || !p.canGive(addr) {
		return false
	}
	p.give(key, addr)
	return true
}

// Choose returns the address that a name has, and gives it one if it has none: that of a hash of the name, or the next
// one that is free.
func (p *Pool) Choose(key planner.Key) (netip.Addr, error) {
	if addr, is := p.addr[key]; is {
		return addr, nil
	}
	if uint64(len(p.owner)) >= p.size {
		return netip.Addr{}, errExhausted
	}
	h := fnv.New64a()
	_, _ = h.Write([]byte(key.String()))
	sum := h.Sum64()
	start := (sum ^ sum>>32) % p.size
	for i := range p.size {
		addr := p.at((start + i) % p.size)
		if _, isTaken := p.owner[addr]; !isTaken && p.canGive(addr) {
			p.give(key, addr)
			return addr, nil
		}
	}
	return netip.Addr{}, errExhausted
}

// Release takes back what a name has.
func (p *Pool) Release(key planner.Key) {
	if addr, is := p.addr[key]; is {
		delete(p.owner, addr)
		delete(p.addr, key)
	}
}

func (p *Pool) give(key planner.Key, addr netip.Addr) {
	p.Release(key)
	p.owner[addr] = key
	p.addr[key] = addr
}

// canGive reports whether an address is one of those that can be given.
func (p *Pool) canGive(addr netip.Addr) bool {
	if !p.prefix.Contains(addr) || addr.Less(p.first) || p.at(p.size-1).Less(addr) {
		return false
	}
	return addr != netip.AddrFrom4([4]byte{127, 0, 0, 1}) && addr != netip.AddrFrom4([4]byte{127, 255, 255, 255})
}

// at returns the address at an index of those that can be given.
func (p *Pool) at(index uint64) netip.Addr {
	bytes := p.first.As16()
	for i := len(bytes) - 1; i >= 0 && index > 0; i-- {
		index += uint64(bytes[i])
		bytes[i] = byte(index)
		index >>= 8
	}
	if p.first.Is4() {
		return netip.AddrFrom16(bytes).Unmap()
	}
	return netip.AddrFrom16(bytes)
}
