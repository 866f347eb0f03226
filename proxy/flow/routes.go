package flow

import "strings"

// routes are the destinations of a bound address. They never change.
type routes struct {
	all   []Destination
	first *Destination // accounts for clients before they are told apart
	// byName has the destinations by server name, by ".NAME" for *.NAME, and by "" for any
	// name. Nil: there is one, for all clients.
	byName map[string][]*Destination
}

func newRoutes(all []Destination) *routes {
	r := &routes{all: all, first: &all[0]}
	if len(all) == 1 && all[0].takesAll() {
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

// takesAll reports whether the listener is for all that no other one takes.
func (c *Claim) takesAll() bool { return c.ServerName == "" && c.Protocol == "" }

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
