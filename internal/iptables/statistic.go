package iptables

import (
	"fmt"
	"math"
	"strconv"
	"strings"

	"usher/proxy/rules"
)

// probabilityScale is the kernel's: a probability is so many parts of 2^31.
const probabilityScale = 1 << 31

func newStatistic() *extension {
	m := &rules.Statistic{}
	mode := ""
	x := &extension{match: m}
	x.flags = []flag{
		{names: []string{"--mode"}, isNeeded: true, set: func(v string, _ bool) *Error {
			if mode = v; v != "random" && v != "nth" {
				return errorf("Bad mode \"%s\"", v).advise("have random, nth")
			}
			return nil
		}},
		{names: []string{"--probability"}, canBeNot: true, set: func(v string, not bool) *Error {
			p, err := strconv.ParseFloat(v, 64)
			if err != nil || !(p >= 0 && p <= 1) {
				return errorf("statistic: bad value for option \"--probability\", or out of range (0-1).").withBlank()
			}
			m.Probability, m.Not = math.Round(p*probabilityScale)/probabilityScale, not
			return nil
		}},
		statisticNumber("--every", 1, func(n uint32, not bool) { m.Every, m.Not = n, not }),
		statisticNumber("--packet", 0, func(n uint32, _ bool) { m.Packet = n }),
	}
	x.check = func(*Rule) *Error { return checkStatistic(x, m, mode) }
	return x
}

func statisticNumber(name string, least uint64, set func(n uint32, not bool)) flag {
	return flag{names: []string{name}, canBeNot: name == "--every", set: func(v string, not bool) *Error {
		n, err := parseNumber(v, least, math.MaxUint32)
		if err != nil {
			return errorf("statistic: bad value for option \"%s\", or out of range (%d-%d).", name, least, uint32(math.MaxUint32)).withBlank()
		}
		set(uint32(n), not)
		return nil
	}}
}

func checkStatistic(x *extension, m *rules.Statistic, mode string) *Error {
	switch {
	case mode == "random" && !x.has("--probability"):
		return errorf("--probability must be specified when using random mode")
	case mode == "nth" && !x.has("--every") && !x.has("--packet"):
		return errorf("--every and --packet must be specified when using nth mode")
	case x.has("--every") && !x.has("--packet"):
		return errorf("statistic: option \"--every\" also requires \"--packet\".").withBlank()
	case x.has("--packet") && !x.has("--every"):
		return errorf("statistic: option \"--packet\" also requires \"--every\".").withBlank()
	case mode == "random" && x.has("--every") || mode == "nth" && x.has("--probability"):
		return errorf("statistic: --probability is of mode random, --every and --packet are of mode nth")
	case mode == "nth" && m.Packet >= m.Every:
		return errorf("the --packet p must be 0 <= p <= n-1")
	}
	return nil
}

func saveStatistic(b *strings.Builder, m *rules.Statistic) {
	b.WriteString(" -m statistic")
	writeStatistic(b, m, "--")
	if m.Every > 0 {
		fmt.Fprintf(b, " --packet %d", m.Packet)
	}
}

func listStatistic(b *strings.Builder, m *rules.Statistic) {
	b.WriteString(" statistic")
	writeStatistic(b, m, "")
	if m.Every > 0 && m.Packet > 0 {
		fmt.Fprintf(b, " packet %d", m.Packet)
	}
}

func writeStatistic(b *strings.Builder, m *rules.Statistic, prefix string) {
	not := ""
	if m.Not {
		not = "! "
	}
	if m.Every > 0 {
		fmt.Fprintf(b, " %smode nth %s%severy %d", prefix, not, prefix, m.Every)
		return
	}
	fmt.Fprintf(b, " %smode random %s%sprobability %.11f", prefix, not, prefix, m.Probability)
}
