package iptables

import (
	"fmt"
	"math"
	"net/netip"
	"strings"

	"usher/proxy/rules"
)

const (
	// maxHitCount bounds --hitcount, and so the times that an address of a list keeps.
	maxHitCount   = 255
	defaultRecent = "DEFAULT"
)

// recentActions are the words of an action: its option and its place in a listing.
var recentActions = [...]struct{ option, listed string }{
	rules.RecentSet:    {"--set", "SET"},
	rules.RecentCheck:  {"--rcheck", "CHECK"},
	rules.RecentUpdate: {"--update", "UPDATE"},
	rules.RecentRemove: {"--remove", "REMOVE"},
}

func newRecent() *extension {
	m := &rules.Recent{Name: defaultRecent, Mask: netip.AddrFrom4([4]byte{255, 255, 255, 255})}
	x := &extension{match: m}
	for action, words := range recentActions {
		var others []string
		for _, other := range recentActions {
			if other != words {
				others = append(others, other.option)
			}
		}
		x.flags = append(x.flags, flag{names: []string{words.option}, takes: nothing, canBeNot: true, excludes: others,
			set: func(_ string, not bool) *Error {
				m.Action, m.Not = rules.RecentAction(action), not
				return nil
			}})
	}
	x.flags = append(x.flags, recentValues(m)...)
	x.flags = append(x.flags, recentSwitches(m)...)
	x.check = func(*Rule) *Error { return checkRecent(x, m) }
	return x
}

func recentValues(m *rules.Recent) []flag {
	number := func(name string, least, most uint64, to *int) flag {
		return flag{names: []string{name}, set: func(v string, _ bool) *Error {
			n, err := parseNumber(v, least, most)
			if *to = int(n); err != nil {
				return errorf("recent: bad value for option \"%s\", or out of range (%d-%d).", name, least, most).withBlank()
			}
			return nil
		}}
	}
	return []flag{
		number("--seconds", 1, math.MaxInt32, &m.Seconds),
		number("--hitcount", 0, maxHitCount, &m.HitCount),
		{names: []string{"--name"}, set: func(v string, _ bool) *Error {
			m.Name = v
			return checkName("recent name", v, maxTableName)
		}},
		{names: []string{"--mask"}, set: func(v string, _ bool) *Error {
			mask, err := netip.ParseAddr(v)
			if err != nil || maskBits(mask) < 0 {
				return errorf("recent: invalid mask `%s' specified", v).advise("a mask is such as 255.255.255.0")
			}
			m.Mask = mask
			return nil
		}},
	}
}

func recentSwitches(m *rules.Recent) []flag {
	return []flag{
		{names: []string{"--reap"}, takes: nothing, set: func(string, bool) *Error { m.Reap = true; return nil }},
		{names: []string{"--rsource"}, takes: nothing, excludes: []string{"--rdest"}, set: func(string, bool) *Error {
			m.Destination = false
			return nil
		}},
		{names: []string{"--rdest"}, takes: nothing, excludes: []string{"--rsource"}, set: func(string, bool) *Error {
			m.Destination = true
			return nil
		}},
	}
}

func checkRecent(x *extension, m *rules.Recent) *Error {
	acts := false
	for _, words := range recentActions {
		acts = acts || x.has(words.option)
	}
	looks := m.Action == rules.RecentCheck || m.Action == rules.RecentUpdate
	switch {
	case !acts:
		return errorf("recent: you must specify one of `--set', `--rcheck' `--update' or `--remove'")
	case m.Reap && m.Seconds == 0:
		return errorf("recent: option \"--reap\" also requires \"--seconds\".").withBlank()
	case !looks && (m.Seconds > 0 || m.HitCount > 0):
		return errorf("recent: --seconds and --hitcount are for --rcheck and --update").withStatus(statusRefused)
	}
	return nil
}

func saveRecent(b *strings.Builder, m *rules.Recent) {
	b.WriteString(" -m recent")
	if m.Not {
		b.WriteString(" !")
	}
	b.WriteString(" " + recentActions[m.Action].option)
	writeRecent(b, m, " --seconds %d", " --hitcount %d", " --reap")
	side := "--rsource"
	if m.Destination {
		side = "--rdest"
	}
	fmt.Fprintf(b, " --name %s --mask %s %s", m.Name, m.Mask, side)
}

func listRecent(b *strings.Builder, m *rules.Recent) {
	if m.Not {
		b.WriteString(" !")
	}
	b.WriteString(" recent: " + recentActions[m.Action].listed)
	writeRecent(b, m, " seconds: %d", " hit_count: %d", " reap")
	side := "source"
	if m.Destination {
		side = "dest"
	}
	fmt.Fprintf(b, " name: %s side: %s mask: %s", m.Name, side, m.Mask)
}

// writeRecent writes the conditions on the times of an address, in the given forms.
func writeRecent(b *strings.Builder, m *rules.Recent, seconds, hits, reap string) {
	if m.Seconds > 0 {
		fmt.Fprintf(b, seconds, m.Seconds)
	}
	if m.HitCount > 0 {
		fmt.Fprintf(b, hits, m.HitCount)
	}
	if m.Reap {
		b.WriteString(reap)
	}
}
