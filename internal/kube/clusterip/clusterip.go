// Package clusterip says where the ClusterIPs of Services are listened on: as they are, where this host routes them to
// itself, or else on an address of 127.0.0.0/8 that a rule makes of them. Map holds the rule, and package reach asks the system.
//
//	ClusterIP ─ Probe ─┬─ Local ─────▶ itself
//	                   └─ otherwise ─▶ 127.0.0.0/8 (Map.Set, Map.Listen)
package clusterip

import (
	"fmt"
	"hash/fnv"
	"maps"
	"net/netip"
	"slices"
	"strings"

	"usher/internal/kube/planner"
	"usher/internal/nearest"
	"usher/internal/reach"
)

// Mode says how ClusterIPs are listened on.
type Mode string

const (
	Auto     Mode = "auto"     // as they are where the host routes them to itself, else on loopback
	Bind     Mode = "bind"     // as they are
	Loopback Mode = "loopback" // on 127.0.0.0/8
)

// Modes are the words for a Mode.
func Modes() []string { return []string{string(Auto), string(Bind), string(Loopback)} }

// ParseMode reads a word for a Mode.
func ParseMode(word string) (Mode, error) {
	if slices.Contains(Modes(), word) {
		return Mode(word), nil
	}
	hint := ""
	if near := nearest.Word(word, Modes()); near != "" {
		hint = fmt.Sprintf(" (did you mean %q?)", near)
	}
	return "", fmt.Errorf("unknown mode %q%s: give one of %s", word, hint, strings.Join(Modes(), ", "))
}

// Map is where ClusterIPs are listened on. An address keeps its place while a Service has it, whatever else comes and
// goes, unless the routes of the host change. Any goroutines may read it together, but only while none changes it.
type Map struct {
	mode     Mode
	probe    func(netip.Addr) reach.Reach
	reserved []netip.Prefix
	owned    map[planner.Key][]netip.Addr
	places   map[netip.Addr]*place     // by ClusterIP
	taken    map[netip.Addr]netip.Addr // the ClusterIP of an address that is listened on
	first    map[bool]finding          // the first that was probed, by whether it is IPv6
}

// place is where one ClusterIP is listened on.
type place struct {
	listen netip.Addr
	users  int // Services that have it
}

// finding is what was found out about a ClusterIP.
type finding struct {
	ip    netip.Addr
	reach reach.Reach
}

// New returns an empty Map. probe is asked about each ClusterIP in the mode Auto. Reserved prefixes are those that no
// ClusterIP is mapped into, since they serve something else.
func New(mode Mode, probe func(netip.Addr) reach.Reach, reserved ...netip.Prefix) *Map {
	return &Map{
		mode:     mode,
		probe:    probe,
		reserved: reserved,
		owned:    make(map[planner.Key][]netip.Addr),
		places:   make(map[netip.Addr]*place),
		taken:    make(map[netip.Addr]netip.Addr),
		first:    make(map[bool]finding),
	}
}

// Set says which ClusterIPs a Service has; none: it is gone. Those that no Service has any more lose their place.
func (m *Map) Set(key planner.Key, ips []netip.Addr) {
	before := m.owned[key]
	if slices.Equal(before, ips) {
		return
	}
	ips = slices.Clone(ips)
	for _, ip := range ips {
		m.assign(ip)
	}
	for _, ip := range before {
		m.release(ip)
	}
	m.owned[key] = ips
	if len(ips) == 0 {
		delete(m.owned, key)
	}
}

// Listen returns where a ClusterIP is listened on: the address itself if no Service has it.
func (m *Map) Listen(ip netip.Addr) netip.Addr {
	if p := m.places[ip]; p != nil {
		return p.listen
	}
	return ip
}

// Summary tells in a sentence for each family how ClusterIPs are listened on, and what to do to have them as they are.
func (m *Map) Summary() []string {
	switch m.mode {
	case Bind:
		return []string{"ClusterIPs are listened on as they are"}
	case Loopback:
		return []string{"ClusterIPs are mapped to 127.0.0.0/8"}
	}
	var told []string
	for _, isIPv6 := range []bool{false, true} {
		if f, is := m.first[isIPv6]; is {
			told = append(told, advice(f.ip, f.reach))
		}
	}
	return told
}

// Refresh asks again how ClusterIPs can be listened on, by the first one of each family. If that has changed, it moves
// those that the host now routes to itself, or no longer does. It reports whether Summary tells something else.
func (m *Map) Refresh() bool {
	isChanged := false
	for isIPv6, f := range m.first {
		now := m.probe(f.ip)
		if now == f.reach {
			continue
		}
		m.first[isIPv6], isChanged = finding{f.ip, now}, true
		for _, ip := range slices.SortedFunc(maps.Keys(m.places), netip.Addr.Compare) {
			if ip.Is6() == isIPv6 {
				m.move(ip)
			}
		}
	}
	return isChanged
}

// move gives a ClusterIP another place if the host routes it to itself now, or no longer does.
func (m *Map) move(ip netip.Addr) {
	p := m.places[ip]
	if isHere := m.probe(ip) == reach.Local; isHere == (p.listen == ip) {
		return
	}
	delete(m.taken, p.listen)
	p.listen = m.choose(ip)
	m.taken[p.listen] = ip
}

func (m *Map) assign(ip netip.Addr) {
	p := m.places[ip]
	if p == nil {
		p = &place{listen: m.choose(ip)}
		m.places[ip] = p
		m.taken[p.listen] = ip
	}
	p.users++
}

func (m *Map) release(ip netip.Addr) {
	p := m.places[ip]
	if p.users--; p.users > 0 {
		return
	}
	delete(m.places, ip)
	if m.taken[p.listen] == ip {
		delete(m.taken, p.listen)
	}
}

// choose returns the place of a ClusterIP that has none.
func (m *Map) choose(ip netip.Addr) netip.Addr {
	if m.mode == Bind {
		return ip
	}
	isFree := func(at netip.Addr) bool {
		_, isTaken := m.taken[at]
		return !isTaken
	}
	if m.mode == Auto {
		now := m.probe(ip)
		if _, is := m.first[ip.Is6()]; !is {
			m.first[ip.Is6()] = finding{ip, now}
		}
		if now == reach.Local && isFree(ip) {
			return ip
		}
	}
	listen, is := loopback(ip, func(at netip.Addr) bool {
		return isFree(at) && !slices.ContainsFunc(m.reserved, func(p netip.Prefix) bool { return p.Contains(at) })
	})
	if !is {
		return ip
	}
	return listen
}

// loopback returns the place of a ClusterIP in 127.0.0.0/8: a.b.c.d is at 127.b.c.d, a.0.c.d at 127.a.c.d, and IPv6 at
// a hash of the address. If that is not free, the same c.d is tried with each other second octet, then the next addresses.
// 127.0.0.0/16 is left to the programs of this machine. It reports false when nothing is free close by.
func loopback(ip netip.Addr, isFree func(netip.Addr) bool) (netip.Addr, bool) {
	const seconds, steps = 255, 64 // second octets are 1 to 255
	second, rest := wish(ip)
	for step := range uint16(steps) {
		for i := range seconds {
			low := rest + step
			at := netip.AddrFrom4([4]byte{127, byte((second-1+i)%seconds + 1), byte(low >> 8), byte(low)})
			if at != broadcast && isFree(at) {
				return at, true
			}
		}
	}
	return netip.Addr{}, false
}

// broadcast is the address of 127.0.0.0/8 that no TCP client can connect to.
var broadcast = netip.AddrFrom4([4]byte{127, 255, 255, 255})

// wish returns the second octet, from 1 to 255, and the two last ones that the rule gives a ClusterIP.
func wish(ip netip.Addr) (second int, rest uint16) {
	if ip.Is4() {
		a := ip.As4()
		second = int(a[1])
		if second == 0 {
			second = max(1, int(a[0]))
		}
		return second, uint16(a[2])<<8 | uint16(a[3])
	}
	h := fnv.New64a()
	b := ip.As16()
	_, _ = h.Write(b[:])
	sum := h.Sum64()
	sum ^= sum >> 32
	return int(sum>>16)&0xff%255 + 1, uint16(sum)
}
