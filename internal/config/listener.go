package config

import (
	"fmt"
	"net/netip"
	"path"
	"strings"
)

// CheckListeners reports two listeners that would take the same clients, in one service or two. A listener on all
// addresses and one on a single address of the same port are two such: the kernel binds only the first. It is to be
// asked again once host names are resolved.
func CheckListeners(services []Service) error {
	type taken struct {
		service string
		addr    Addr
	}
	var all []taken
	for _, s := range services {
		for _, l := range s.Listeners {
			for _, t := range all {
				switch {
				case !overlap(t.addr, l):
				case t.service == s.Name && t.addr == l:
					return fmt.Errorf("service %q listens on %s twice", s.Name, l)
				case t.service == s.Name:
					return fmt.Errorf("service %q listens on both %s and %s, which overlap", s.Name, t.addr, l)
				case t.addr == l:
					return fmt.Errorf("services %q and %q both listen on %s", t.service, s.Name, l)
				default:
					return fmt.Errorf("services %q and %q listen on %s and %s, which overlap", t.service, s.Name, t.addr, l)
				}
			}
			all = append(all, taken{s.Name, l})
		}
	}
	return nil
}

// overlap reports whether two listeners cannot both be.
func overlap(a, b Addr) bool {
	switch {
	case a.Network != b.Network:
		return false
	case a.Network == Unix:
		return path.Clean(a.Path) == path.Clean(b.Path)
	case a.Port == 0 || b.Port == 0: // the kernel chooses: never the same
		return false
	case int(a.Port) >= int(b.Port)+b.Ports || int(b.Port) >= int(a.Port)+a.Ports:
		return false
	case a.IsAll() || b.IsAll():
		return true
	case a.IP == netip.IPv4Unspecified() && b.IP.Is4() || b.IP == netip.IPv4Unspecified() && a.IP.Is4():
		return true
	}
	return a.IP == b.IP && strings.EqualFold(a.Name, b.Name)
}

// hears reports whether a listener of the TCP or UDP address a takes clients of the host of b, whatever the ports. On all
// addresses it hears loopback, and what local knows; of names it hears its own. TCP and UDP never hear each other.
func (a Addr) hears(b Addr, local func(netip.Addr) bool) bool {
	switch {
	case a.Network != b.Network || a.Network == Unix:
		return false
	case a.Name != "" || b.Name != "":
		return strings.EqualFold(a.Name, b.Name)
	case a.IsAll() || a.IP == netip.IPv4Unspecified() && b.IP.Is4():
		return b.IP.IsLoopback() || local != nil && local(b.IP)
	}
	return a.IP == b.IP
}
