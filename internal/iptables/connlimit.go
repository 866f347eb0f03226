package iptables

import (
	"fmt"
	"math"
	"strings"

	"usher/proxy/rules"
)

func newConnlimit() *extension {
	m := &rules.Connlimit{Bits: 32}
	x := &extension{match: m}
	limit := func(name, other string, above bool) flag {
		return flag{names: []string{name}, canBeNot: true, excludes: []string{other}, set: func(v string, not bool) *Error {
			n, err := parseNumber(v, 0, math.MaxInt32)
			m.N, m.Above = int(n), above != not
			if err != nil {
				return errorf("connlimit: bad value for option \"%s\", or out of range (0-%d).", name, math.MaxInt32).withBlank()
			}
			return nil
		}}
	}
	side := func(name, other string, destination bool) flag {
		return flag{names: []string{name}, takes: nothing, excludes: []string{other}, set: func(string, bool) *Error {
			m.Destination = destination
			return nil
		}}
	}
	x.flags = []flag{
		limit("--connlimit-upto", "--connlimit-above", false),
		limit("--connlimit-above", "--connlimit-upto", true),
		{names: []string{"--connlimit-mask"}, set: func(v string, _ bool) *Error { return parseGroupBits(&m.Bits, v) }},
		side("--connlimit-saddr", "--connlimit-daddr", false),
		side("--connlimit-daddr", "--connlimit-saddr", true),
	}
	x.check = func(*Rule) *Error {
		if !x.has("--connlimit-above") && !x.has("--connlimit-upto") {
			return errorf("You must specify \"--connlimit-above\" or \"--connlimit-upto\".")
		}
		return nil
	}
	return x
}

// parseGroupBits reads how many bits of an address make a group. Up to 32 are of IPv4, and four times as many of IPv6;
// more are of IPv6, and the whole of an IPv4 address.
func parseGroupBits(bits *int, text string) *Error {
	if *bits = parseMask(text, 128); *bits < 0 {
		*bits = parseMask(text, 32)
	}
	if *bits < 0 {
		return errorf("invalid mask `%s' specified", text).advise("0 to 32 bits of IPv4, or up to 128 of IPv6")
	}
	return nil
}

func saveConnlimit(b *strings.Builder, m *rules.Connlimit) {
	word, side := "upto", "saddr"
	if m.Above {
		word = "above"
	}
	if m.Destination {
		side = "daddr"
	}
	fmt.Fprintf(b, " -m connlimit --connlimit-%s %d --connlimit-mask %d --connlimit-%s", word, m.N, m.Bits, side)
}

func listConnlimit(b *strings.Builder, m *rules.Connlimit) {
	comparison, side := "<=", "src"
	if m.Above {
		comparison = ">"
	}
	if m.Destination {
		side = "dst"
	}
	fmt.Fprintf(b, " #conn %s/%d %s %d", side, m.Bits, comparison, m.N)
}
