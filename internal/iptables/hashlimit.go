package iptables

import (
	"fmt"
	"math"
	"strings"
	"time"

	"usher/proxy/limit"
	"usher/proxy/rules"
)

const (
	// maxHashlimit is the highest rate of -m hashlimit, a second.
	maxHashlimit      = 1_000_000
	maxHashlimitBurst = 1_000_000
	// maxTableName is the longest name of a table of hashlimit or recent, in bytes.
	maxTableName = 199
)

func newHashlimit() *extension {
	m := &rules.Hashlimit{Rate: limit.Rate{Burst: defaultBurst}, SourceBits: 32, DestinationBits: 32}
	var unit time.Duration
	x := &extension{match: m}
	x.flags = append([]flag{
		hashlimitRate(m, &unit, false, "--hashlimit-upto", "--hashlimit"),
		hashlimitRate(m, &unit, true, "--hashlimit-above"),
		{names: []string{"--hashlimit-burst"}, set: func(v string, _ bool) *Error {
			burst, err := parseNumber(v, 1, maxHashlimitBurst)
			if err != nil {
				return errorf("bad value for option \"--hashlimit-burst\", or out of range (1-%d).", maxHashlimitBurst).withBlank()
			}
			m.Rate.Burst = int(burst)
			return nil
		}},
		{names: []string{"--hashlimit-mode"}, set: func(v string, _ bool) *Error { return parseMode(m, v) }},
		{names: []string{"--hashlimit-name"}, isNeeded: true, set: func(v string, _ bool) *Error {
			m.Name = v
			return checkName("hashlimit name", v, maxTableName)
		}},
	}, hashlimitTable(m)...)
	x.check = func(*Rule) *Error {
		switch {
		case m.Rate.Events == 0:
			return errorf("You have to specify --hashlimit").advise("--hashlimit-upto or --hashlimit-above")
		case x.has("--hashlimit-srcmask") && !m.Source:
			return refusal("--hashlimit-srcmask has no effect without --hashlimit-mode srcip")
		case x.has("--hashlimit-dstmask") && !m.Destination:
			return refusal("--hashlimit-dstmask has no effect without --hashlimit-mode dstip")
		}
		// A table forgets a group after the unit of the rate, which is left out where the rate says it.
		if m.Expire == 0 {
			m.Expire = unit
		}
		if m.Expire == m.Rate.Per {
			m.Expire = 0
		}
		return nil
	}
	return x
}

// hashlimitRate is --hashlimit-upto or --hashlimit-above; ! makes one of the other.
func hashlimitRate(m *rules.Hashlimit, unit *time.Duration, above bool, names ...string) flag {
	other := "--hashlimit-above"
	if above {
		other = "--hashlimit-upto"
	}
	return flag{names: names, canBeNot: true, excludes: []string{other}, set: func(v string, not bool) *Error {
		r, written, ok := parseRate(v, maxHashlimit)
		switch {
		case !ok && strings.Contains(v, "b/"):
			return refusal("hashlimit: byte rates have no meaning here").advise("rules count new flows, as in 10/second")
		case !ok:
			return errorf("hashlimit: Bad value for \"%s\" option: \"%s\"", names[0], v).
				advise("a rate is such as 10/second, 5/minute, 3/hour or 1/day")
		case isTooFast(r, maxHashlimit):
			return errorf("Rate too fast \"%s\"", v).advise("at most %d/second", maxHashlimit)
		}
		m.Rate.Events, m.Rate.Per, m.Above, *unit = r.Events, r.Per, above != not, written
		return nil
	}}
}

// hashlimitTable are the options of the table and of the groups.
func hashlimitTable(m *rules.Hashlimit) []flag {
	number := func(name string, set func(n int)) flag {
		return flag{names: []string{name}, set: func(v string, _ bool) *Error {
			n, err := parseNumber(v, 1, math.MaxInt32)
			if err != nil {
				return errorf("hashlimit: bad value for option \"%s\", or out of range (1-%d).", name, math.MaxInt32).withBlank()
			}
			set(int(n))
			return nil
		}}
	}
	return []flag{
		number("--hashlimit-htable-size", func(n int) { m.TableSize = n }),
		number("--hashlimit-htable-max", func(n int) { m.TableMax = n }),
		number("--hashlimit-htable-gcinterval", func(n int) { m.Interval = time.Duration(n) * time.Millisecond }),
		number("--hashlimit-htable-expire", func(n int) { m.Expire = time.Duration(n) * time.Millisecond }),
		{names: []string{"--hashlimit-srcmask"}, set: func(v string, _ bool) *Error { return parseGroupBits(&m.SourceBits, v) }},
		{names: []string{"--hashlimit-dstmask"}, set: func(v string, _ bool) *Error { return parseGroupBits(&m.DestinationBits, v) }},
	}
}

func parseMode(m *rules.Hashlimit, text string) *Error {
	for word := range strings.SplitSeq(text, ",") {
		switch word {
		case "srcip":
			m.Source = true
		case "srcport":
			m.SourcePort = true
		case "dstip":
			m.Destination = true
		case "dstport":
			m.DestinationPort = true
		default:
			return errorf("hashlimit: Bad value for \"--hashlimit-mode\" option: \"%s\"", text).
				advise("have srcip, srcport, dstip, dstport")
		}
	}
	return nil
}

func saveHashlimit(b *strings.Builder, m *rules.Hashlimit) {
	word := "upto"
	if m.Above {
		word = "above"
	}
	fmt.Fprintf(b, " -m hashlimit --hashlimit-%s %s --hashlimit-burst %d", word, formatRate(m.Rate), m.Rate.Burst)
	if mode := formatMode(m, ","); mode != "" {
		b.WriteString(" --hashlimit-mode " + mode)
	}
	b.WriteString(" --hashlimit-name " + m.Name)
	writeTable(b, m, "--hashlimit-")
}

func listHashlimit(b *strings.Builder, m *rules.Hashlimit) {
	word := "up to"
	if m.Above {
		word = "above"
	}
	fmt.Fprintf(b, " limit: %s %s burst %d", word, formatRate(m.Rate), m.Rate.Burst)
	if mode := formatMode(m, "-"); mode != "" {
		b.WriteString(" mode " + mode)
	}
	writeTable(b, m, "")
}

func formatMode(m *rules.Hashlimit, separator string) string {
	var words []string
	for _, w := range []struct {
		isIn bool
		name string
	}{{m.Source, "srcip"}, {m.SourcePort, "srcport"}, {m.Destination, "dstip"}, {m.DestinationPort, "dstport"}} {
		if w.isIn {
			words = append(words, w.name)
		}
	}
	return strings.Join(words, separator)
}

// writeTable writes the options of the table that are not at their default.
func writeTable(b *strings.Builder, m *rules.Hashlimit, prefix string) {
	for _, w := range []struct {
		name     string
		value    int64
		standard int64
	}{
		{"htable-size", int64(m.TableSize), 0},
		{"htable-max", int64(m.TableMax), 0},
		{"htable-gcinterval", m.Interval.Milliseconds(), 0},
		{"htable-expire", m.Expire.Milliseconds(), 0},
		{"srcmask", int64(m.SourceBits), 32},
		{"dstmask", int64(m.DestinationBits), 32},
	} {
		if w.value != w.standard {
			fmt.Fprintf(b, " %s%s %d", prefix, w.name, w.value)
		}
	}
}
