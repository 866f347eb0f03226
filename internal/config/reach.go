package config

import (
	"encoding/binary"
	"net/netip"
)

// Reach tells which services may have a backend at one of some listeners, or a check or an agent. It errs on the safe
// side: a host name may be anything, and ports do not count.
type Reach struct {
	local func(netip.Addr) bool
	ips   map[netip.Addr]bool
	paths map[string]bool // of unix sockets
	isAll bool            // a listener is on all addresses of a family
	bits  targetBits      // of ips
}

// Targets sums up the addresses of a service's backends, checks and agents in a few words, so that most services need no
// look at their backends: see Reach.MayHave.
type Targets struct {
	bits    targetBits // of addresses
	isLocal bool       // one is of this machine
	isOpen  bool       // one is a host name or a path
}

// targetBits has a bit set for each address, which others may have too.
type targetBits [4]uint64

func (t *targetBits) add(ip netip.Addr) {
	words := ip.As16()
	h := (binary.BigEndian.Uint64(words[:8]) ^ binary.BigEndian.Uint64(words[8:])) * 0x9e3779b97f4a7c15 >> 56
	t[h/64] |= 1 << (h % 64)
}

// NewTargets sums up a service. local is as in NewRoutes.
func NewTargets(s *Service, local func(netip.Addr) bool) Targets {
	var t Targets
	for i := range s.Backends {
		b := &s.Backends[i]
		t.isOpen = t.isOpen || b.Addr.Name != "" || b.Addr.Network == Unix
		for _, ip := range []netip.Addr{b.Addr.IP, b.Check.Addr(), b.Agent.Addr()} {
			if ip.IsValid() {
				t.bits.add(ip)
				t.isLocal = t.isLocal || ip.IsLoopback() || local != nil && local(ip)
			}
		}
	}
	return t
}

// MayHave reports whether Has may be true for a service.
func (r *Reach) MayHave(t *Targets) bool {
	isHit := t.isOpen || r.isAll && t.isLocal
	for i, word := range r.bits {
		isHit = isHit || word&t.bits[i] != 0
	}
	return isHit
}

// NewReach returns the reach of listeners. local is as in NewRoutes.
func NewReach(listeners []Addr, local func(netip.Addr) bool) *Reach {
	r := &Reach{local: local, ips: make(map[netip.Addr]bool), paths: make(map[string]bool)}
	for _, l := range listeners {
		switch {
		case l.Network == Unix:
			r.paths[cleanPath(l.Path)] = true
		case isWide(l):
			r.isAll = true
		default:
			r.ips[l.IP] = true
			r.bits.add(l.IP)
		}
	}
	return r
}

// Has reports whether a service may be one.
func (r *Reach) Has(s *Service) bool {
	return s.hasBackend(func(b *Backend) bool {
		switch a := &b.Addr; {
		case a.Name != "":
			return true
		case a.Network == Unix:
			if len(r.paths) > 0 && r.paths[cleanPath(a.Path)] {
				return true
			}
		case r.has(a.IP):
			return true
		}
		// A port alone is one of the backend's address, which counts already.
		return r.has(b.Check.Addr()) || r.has(b.Agent.Addr())
	})
}

func (r *Reach) has(ip netip.Addr) bool {
	return ip.IsValid() && (r.ips[ip] || r.isAll && (ip.IsLoopback() || r.local != nil && r.local(ip)))
}
