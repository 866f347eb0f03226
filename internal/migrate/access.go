package migrate

import (
	"net/netip"
	"slices"
	"strings"

	"github.com/gaissmai/bart"
)

// verdict is what becomes of a client. It has the width of the tables of package rules, so that the binary has one form of both.
type verdict uint32

const (
	accepted verdict = iota
	refused
	dropped
)

// accessList has the verdicts over clients by their addresses: the longest prefix decides.
type accessList struct {
	table bart.Table[verdict]
	order []netip.Prefix
}

// append enters a verdict of a list in which the first match decides. A prefix that an earlier one contains is never
// reached.
func (a *accessList) append(p netip.Prefix, v verdict) {
	if _, isCovered := a.table.LookupPrefix(p); !isCovered {
		a.insert(p, v)
	}
}

func (a *accessList) insert(p netip.Prefix, v verdict) {
	a.table.Insert(p, v)
	a.order = append(a.order, p)
}

// everybody are the prefixes that hold all clients.
func everybody() []netip.Prefix {
	return []netip.Prefix{netip.MustParsePrefix("0.0.0.0/0"), netip.MustParsePrefix("::/0")}
}

// options returns the values of allow and deny that give the same verdicts. With allow set, usher refuses the clients
// that neither names. Empty: the option is not needed.
func (a *accessList) options() (allow, deny string, drops, mixed bool) {
	var allowed, denied []string
	refuses := false
	for _, p := range a.order {
		v, _ := a.table.Get(p)
		if a.above(p) == v {
			continue
		}
		if v == accepted {
			allowed = append(allowed, prefixWord(p))
			continue
		}
		denied = append(denied, prefixWord(p))
		mixed = mixed || drops && v == refused || refuses && v == dropped
		drops, refuses = drops || v == dropped, refuses || v == refused
	}
	if len(allowed) > 0 {
		for _, p := range everybody() {
			if v, _ := a.table.Get(p); v == accepted {
				allowed = append(allowed, p.String())
			}
			denied = slices.DeleteFunc(denied, func(w string) bool { return w == p.String() })
		}
	}
	return strings.Join(allowed, ","), strings.Join(denied, ","), drops, mixed
}

// above is the verdict that a prefix would have without its entry.
func (a *accessList) above(p netip.Prefix) verdict {
	if p.Bits() == 0 {
		return accepted
	}
	v, _ := a.table.LookupPrefix(netip.PrefixFrom(p.Addr(), p.Bits()-1).Masked())
	return v
}

// prefixWord writes a prefix as options do.
func prefixWord(p netip.Prefix) string {
	if p.IsSingleIP() {
		return p.Addr().String()
	}
	return p.String()
}

// parsePrefix reads an address or a prefix, whose bits beyond its length do not matter.
func parsePrefix(word string) (netip.Prefix, bool) {
	if ip, err := netip.ParseAddr(word); err == nil && ip.Zone() == "" {
		ip = ip.Unmap()
		return netip.PrefixFrom(ip, ip.BitLen()), true
	}
	p, err := netip.ParsePrefix(word)
	if err != nil {
		return netip.Prefix{}, false
	}
	return p.Masked(), !p.Addr().Is4In6()
}

// apply sets the options of a list.
func (a *accessList) apply(b *builder, d *draft, from *statement) {
	allow, deny, drops, mixed := a.options()
	if allow != "" {
		d.set("allow", allow, from)
	}
	if deny != "" {
		d.set("deny", deny, from)
	}
	switch {
	case mixed:
		b.tell(from, d.name, "some clients are to be refused and others dropped, and on-deny is one for all: they are refused")
	case drops:
		d.set("on-deny", "drop", from)
	}
}
