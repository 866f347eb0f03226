package iptables

import (
	"fmt"
	"net/netip"
	"strconv"
	"strings"

	"usher/proxy/rules"
)

// natSwitches are the options of the targets of nat that have no value.
func natSwitches(o *NAT, names ...string) []flag {
	var flags []flag
	for _, name := range names {
		to := &o.Random
		switch name {
		case "--random-fully":
			to = &o.RandomFully
		case "--persistent":
			to = &o.Persistent
		}
		flags = append(flags, flag{names: []string{name}, takes: nothing, set: func(string, bool) *Error { *to = true; return nil }})
	}
	return flags
}

func newDNAT() *extension { return newAddressNAT("--to-destination", "--random", "--persistent") }

func newSNAT() *extension {
	return newAddressNAT("--to-source", "--random", "--random-fully", "--persistent")
}

// newAddressNAT is DNAT or SNAT.
func newAddressNAT(option string, switches ...string) *extension {
	o := &NAT{}
	x := &extension{options: o, check: func(r *Rule) *Error { return o.checkPorts(r) }}
	x.flags = append([]flag{{names: []string{option}, isNeeded: true, set: func(v string, _ bool) *Error {
		return o.parse(v, option == "--to-destination")
	}}}, natSwitches(o, switches...)...)
	return x
}

func newRedirect() *extension { return newPortNAT("--random") }

func newMasquerade() *extension { return newPortNAT("--random", "--random-fully") }

// newPortNAT is REDIRECT or MASQUERADE.
func newPortNAT(switches ...string) *extension {
	o := &NAT{}
	x := &extension{options: o, check: func(r *Rule) *Error { return o.checkPorts(r) }}
	x.flags = append([]flag{{names: []string{"--to-ports"}, set: func(v string, _ bool) *Error {
		return o.parsePorts(v, false)
	}}}, natSwitches(o, switches...)...)
	return x
}

// checkPorts refuses ports where no protocol has them.
func (o *NAT) checkPorts(r *Rule) *Error {
	if !o.HasPorts || !r.NotProtocol && (r.Protocol == rules.TCP || r.Protocol == rules.UDP || r.Protocol == 132 || r.Protocol == 33) {
		return nil
	}
	return errorf("Need TCP, UDP, SCTP or DCCP with port specification")
}

// parse reads ADDRESS[-ADDRESS][:PORTS].
func (o *NAT) parse(text string, canBase bool) *Error {
	addresses, ports, hasPorts := strings.Cut(text, ":")
	if hasPorts {
		if err := o.parsePorts(ports, canBase); err != nil {
			return err
		}
		if addresses == "" {
			return nil
		}
	}
	first, last, isRange := strings.Cut(addresses, "-")
	var err error
	if o.First, err = netip.ParseAddr(first); err != nil || !o.First.Is4() {
		return errorf("Bad IP address \"%s\"", first)
	}
	if o.Last = o.First; isRange {
		if o.Last, err = netip.ParseAddr(last); err != nil || !o.Last.Is4() {
			return errorf("Bad IP address \"%s\"", last)
		}
	}
	return nil
}

// parsePorts reads PORT[-PORT], with /BASE behind it where that can be.
func (o *NAT) parsePorts(text string, canBase bool) *Error {
	ports, base, hasBase := strings.Cut(text, "/")
	first, last, isRange := strings.Cut(ports, "-")
	low, err := parseNumber(first, 0, 65535)
	if err != nil {
		return errorf("Port `%s' not valid", first)
	}
	high := low
	if isRange {
		if high, err = parseNumber(last, 0, 65535); err != nil {
			return errorf("Port `%s' not valid", last)
		}
	}
	switch {
	case high < low:
		return errorf("Port range `%s' funky", last)
	case hasBase && (!canBase || !isRange):
		return errorf("Garbage after port value: `/%s'", base)
	case hasBase:
		n, err := parseNumber(base, 1, 65535)
		if err != nil {
			return errorf("Invalid port:port syntax - use dash")
		}
		o.BasePort = uint16(n)
	}
	o.FirstPort, o.LastPort, o.HasPorts = uint16(low), uint16(high), true
	return nil
}

// String returns the addresses and ports as they are written.
func (o *NAT) String() string {
	var b strings.Builder
	if o.First.IsValid() {
		b.WriteString(o.First.String())
		if o.Last != o.First {
			b.WriteString("-" + o.Last.String())
		}
	}
	if o.HasPorts {
		b.WriteString(":" + o.ports())
	}
	return b.String()
}

func (o *NAT) ports() string {
	text := strconv.Itoa(int(o.FirstPort))
	if o.LastPort != o.FirstPort {
		text += "-" + strconv.Itoa(int(o.LastPort))
	}
	if o.BasePort != 0 {
		text += "/" + strconv.Itoa(int(o.BasePort))
	}
	return text
}

// writeSwitches writes the options without a value, each behind a prefix.
func (o *NAT) writeSwitches(b *strings.Builder, prefix string) {
	for _, s := range []struct {
		isSet bool
		name  string
	}{{o.Random, "random"}, {o.RandomFully, "random-fully"}, {o.Persistent, "persistent"}} {
		if s.isSet {
			b.WriteString(prefix + s.name)
		}
	}
}

func saveNAT(b *strings.Builder, target string, o *NAT) {
	switch {
	case target == "DNAT":
		b.WriteString(" --to-destination " + o.String())
	case target == "SNAT":
		b.WriteString(" --to-source " + o.String())
	case o.HasPorts:
		b.WriteString(" --to-ports " + o.ports())
	}
	o.writeSwitches(b, " --")
}

func listNAT(b *strings.Builder, target string, o *NAT) {
	switch {
	case target == "DNAT" || target == "SNAT":
		b.WriteString(" to:" + o.String())
	case o.HasPorts && target == "REDIRECT":
		b.WriteString(" redir ports " + o.ports())
	case o.HasPorts:
		b.WriteString(" masq ports: " + o.ports())
	}
	o.writeSwitches(b, " ")
}

// newMark is -j MARK, whose options are all forms of --set-xmark.
func newMark() *extension {
	o := &Mark{}
	option := func(name string, isMasked bool, to func(value, mask uint32) Mark) flag {
		f := flag{names: []string{name}, set: func(v string, _ bool) *Error {
			value, mask, err := parseMark("MARK", name, v, isMasked)
			*o = to(value, mask)
			return err
		}}
		for _, other := range markOptions {
			if other != name {
				f.excludes = append(f.excludes, other)
			}
		}
		return f
	}
	x := &extension{options: o, flags: []flag{
		option("--set-xmark", true, func(value, mask uint32) Mark { return Mark{value, mask} }),
		option("--set-mark", true, func(value, mask uint32) Mark { return Mark{value, mask | value} }),
		option("--and-mark", false, func(value, _ uint32) Mark { return Mark{0, ^value} }),
		option("--or-mark", false, func(value, _ uint32) Mark { return Mark{value, value} }),
		option("--xor-mark", false, func(value, _ uint32) Mark { return Mark{value, 0} }),
	}}
	x.check = func(*Rule) *Error {
		if len(x.given) == 0 {
			return errorf("MARK: One of the --set-xmark, --{and,or,xor,set}-mark options is required")
		}
		return nil
	}
	return x
}

var markOptions = []string{"--set-xmark", "--set-mark", "--and-mark", "--or-mark", "--xor-mark"}

// parseMark reads VALUE[/MASK]. Numbers may be in hexadecimal.
func parseMark(of, option, text string, isMasked bool) (value, mask uint32, _ *Error) {
	first, second, hasMask := strings.Cut(text, "/")
	if hasMask && !isMasked {
		first, hasMask = text, false
	}
	v, err := strconv.ParseUint(first, 0, 32)
	m := uint64(1<<32 - 1)
	if err == nil && hasMask {
		m, err = strconv.ParseUint(second, 0, 32)
	}
	if err != nil || strings.Contains(text, "_") {
		return 0, 0, errorf("%s: bad integer value for option \"%s\", or out of range.", of, option).withBlank()
	}
	return uint32(v), uint32(m), nil
}

// listMark writes what a target does with a mark.
func listMark(b *strings.Builder, o *Mark) {
	switch {
	case o.Value == 0:
		fmt.Fprintf(b, " MARK and 0x%x", ^o.Mask)
	case o.Value == o.Mask:
		fmt.Fprintf(b, " MARK or 0x%x", o.Value)
	case o.Mask == 0:
		fmt.Fprintf(b, " MARK xor 0x%x", o.Value)
	case o.Mask == 1<<32-1:
		fmt.Fprintf(b, " MARK set 0x%x", o.Value)
	default:
		fmt.Fprintf(b, " MARK xset 0x%x/0x%x", o.Value, o.Mask)
	}
}
