package flow

import (
	"net/netip"
	"slices"
	"strings"

	"github.com/gaissmai/bart"
)

// routes are the destinations of a bound address. They never change.
type routes struct {
	all   []Destination
	first *Destination // accounts for clients before they are told apart
	// byName has the destinations by server name, by ".NAME" for *.NAME, and by "" for any
	// name. Nil: there is one, for all clients.
	byName map[string][]*Destination
	// byPeer has the destinations, as indices of all, by the prefix of clients. Nil: none is of a prefix.
	byPeer *bart.Table[uint32]
	rest   *Destination // of those in no prefix; nil: they are refused
}

func newRoutes(all []Destination) *routes {
	r := &routes{all: all, first: &all[0]}
	if len(all) == 1 && all[0].takesAll() {
		return r
	}
	if slices.ContainsFunc(all, func(d Destination) bool { return d.From != "" }) {
		r.addPrefixes()
		return r
	}
	r.byName = make(map[string][]*Destination, len(all))
	for i := range all {
		d := &all[i]
		if d.takesAll() {
			r.first = d
		}
		key := strings.TrimPrefix(d.ServerName, "*")
		r.byName[key] = addDestination(r.byName[key], d)
	}
	return r
}

// addPrefixes fills byPeer. From was checked before.
func (r *routes) addPrefixes() {
	r.byPeer = new(bart.Table[uint32])
	for i := range r.all {
		d := &r.all[i]
		prefixes, _ := parseFrom(d.From)
		for _, p := range prefixes {
			r.byPeer.Insert(p, uint32(i))
		}
		if d.takesAll() {
			r.first, r.rest = d, d
		}
	}
}

// of returns who gets a client of a peer. Without one, ok is false, and the destination accounts for that.
func (r *routes) of(peer netip.Addr) (d *Destination, ok bool) {
	if r.byPeer == nil {
		return r.first, true
	}
	if i, isListed := r.byPeer.Lookup(peer.WithZone("")); isListed {
		return &r.all[i], true
	}
	return r.first, r.rest != nil
}

// takesAll reports whether the listener is for all that no other one takes.
func (c *Claim) takesAll() bool { return c.ServerName == "" && c.Protocol == "" && c.From == "" }

// addDestination keeps the one for any protocol behind the others.
func addDestination(same []*Destination, d *Destination) []*Destination {
	same = append(same, d)
	if n := len(same); d.Protocol != "" && n > 1 && same[n-2].Protocol == "" {
		same[n-2], same[n-1] = same[n-1], same[n-2]
	}
	return same
}

// find returns the destination of the most specific server name: the name itself, the longest
// wildcard, any. Of one server name a protocol that the client offers comes before any protocol.
func (r *routes) find(name string, hasProtocol func(string) bool) *Destination {
	if r.byName == nil {
		return r.first
	}
	for rest := name; rest != ""; {
		if d := firstOffered(r.byName[rest], hasProtocol); d != nil {
			return d
		}
		dot := strings.IndexByte(rest[1:], '.')
		if dot < 0 {
			break
		}
		rest = rest[1+dot:]
	}
	return firstOffered(r.byName[""], hasProtocol)
}

// firstOffered returns the first destination whose protocol the client offers.
func firstOffered(same []*Destination, hasProtocol func(string) bool) *Destination {
	for _, d := range same {
		if d.Protocol == "" || hasProtocol(d.Protocol) {
			return d
		}
	}
	return nil
}
