package config

import (
	"errors"
	"fmt"
	"net/netip"
	"strings"
)

// Source is the local address of connections to backends, one for each family. The kernel chooses the ports. It is
// comparable.
type Source struct{ V4, V6 netip.Addr }

// IsSet reports whether there is an address.
func (s Source) IsSet() bool { return s != Source{} }

// For returns the source address of connections to an address of that family. It is invalid if the family has none.
func (s Source) For(to netip.Addr) netip.Addr {
	if to.Unmap().Is4() {
		return s.V4
	}
	return s.V6
}

// Addrs returns the addresses that are set.
func (s Source) Addrs() (all []netip.Addr) {
	for _, ip := range []netip.Addr{s.V4, s.V6} {
		if ip.IsValid() {
			all = append(all, ip)
		}
	}
	return all
}

// Over returns s with the addresses of other for the families that s has none of.
func (s Source) Over(other Source) Source {
	if !s.V4.IsValid() {
		s.V4 = other.V4
	}
	if !s.V6.IsValid() {
		s.V6 = other.V6
	}
	return s
}

// with returns s with an address; one that is not valid changes nothing.
func (s Source) with(ip netip.Addr) Source {
	switch {
	case !ip.IsValid():
	case ip.Is4():
		s.V4 = ip
	default:
		s.V6 = ip
	}
	return s
}

// String returns the canonical word, which parseSource reads. A comma would end an option of a backend.
func (s Source) String() string {
	if !s.IsSet() {
		return "off"
	}
	var words []string
	for _, ip := range s.Addrs() {
		words = append(words, ip.String())
	}
	return strings.Join(words, "+")
}

// parseSource reads off, an address, or one of each family with + between them.
func parseSource(word string) (s Source, err error) {
	if word == "off" {
		return Source{}, nil
	}
	for word := range strings.SplitSeq(word, "+") {
		ip, err := netip.ParseAddr(strings.Trim(word, "[]"))
		ip = ip.Unmap()
		switch {
		case err != nil:
			return Source{}, fmt.Errorf("%q is not an IP address of this machine, whose port the kernel chooses", word)
		case ip.IsUnspecified():
			return Source{}, fmt.Errorf("%s leaves the address to the kernel, as off does", ip)
		case ip.IsMulticast():
			return Source{}, fmt.Errorf("%s is a multicast address, and nothing can come from there", ip)
		case s.For(ip).IsValid():
			return Source{}, errors.New("one address of each family at most")
		}
		s = s.with(ip)
	}
	return s, nil
}

// SourceOf returns the local addresses of connections to a backend: its own, else those of the service.
func (s *Service) SourceOf(b *Backend) Source { return b.Source.Over(s.Source) }

// parseOwnSource is parseSource for a backend: off would say what its service says.
func parseOwnSource(word string) (Source, error) {
	if word == "off" {
		return Source{}, errors.New("leave it out: a backend without one has that of its service")
	}
	return parseSource(word)
}

// checkSource refuses a source that connections to a backend cannot have.
func (s *Service) checkSource(b *Backend) error {
	at, isOwn := b.Addr, b.Source.IsSet()
	switch source := s.SourceOf(b); {
	case isOwn && at.Network == Unix:
		return s.addressError("backend", at, ": option source of %s: a unix socket has no addresses of IP", at)
	case isOwn && at.IP.IsValid() && b.Source != Source{}.with(b.Source.For(at.IP)):
		return s.addressError("backend", at, ": option source of %s: %s is not of its family alone", at, b.Source)
	case !source.IsSet():
	case at.Network == Unix:
		return s.optionError("source", " has no effect on %s: a unix socket has no addresses of IP (give other backends their own: %s ADDR,source=%s)",
			at, Field("backend"), source)
	case at.IP.IsValid() && !source.For(at.IP).IsValid():
		return s.optionError("source", " %s is not of the family of backend %s (ADDR+ADDR is one of each)", source, at)
	}
	return nil
}

// CheckSources refuses a source that bind cannot bind, and asks for each address once. The error is an *Error.
func (s *Service) CheckSources(bind func(netip.Addr) error) error {
	known := make(map[netip.Addr]bool)
	check := func(source Source, refuse func(ip netip.Addr, err error) error) error {
		for _, ip := range source.Addrs() {
			if known[ip] {
				continue
			}
			known[ip] = true
			if err := bind(ip); err != nil {
				return refuse(ip, err)
			}
		}
		return nil
	}
	err := check(s.Source, func(ip netip.Addr, err error) error {
		return s.optionError("source", ": connections cannot come from %s: %v", ip, err)
	})
	for i := range s.Backends {
		b := &s.Backends[i]
		if err == nil && b.Source.IsSet() {
			err = check(b.Source, func(ip netip.Addr, err error) error {
				return s.addressError("backend", b.Addr, ": option source of %s: connections cannot come from %s: %v", b.Addr, ip, err)
			})
		}
	}
	return err
}
