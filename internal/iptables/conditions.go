package iptables

import (
	"net/netip"
	"strconv"
	"strings"

	"usher/proxy/rules"
)

// flags are the options that any line may have.
func (p *parser) flags() []flag {
	isSwitch := func(letter byte, to func() *bool, names ...string) flag {
		return flag{names: names, takes: nothing, letter: letter, isOfTables: true, set: func(string, bool) *Error {
			*to() = true
			return nil
		}}
	}
	return append(append(p.commandFlags(), p.conditionFlags()...),
		flag{names: []string{"-t", "--table"}, set: p.setTable},
		isSwitch('n', func() *bool { return &p.cmd.Numeric }, "-n", "--numeric"),
		isSwitch('v', func() *bool { return &p.cmd.Verbose }, "-v", "--verbose"),
		isSwitch('x', func() *bool { return &p.cmd.Exact }, "-x", "--exact"),
		isSwitch('0', func() *bool { return &p.cmd.LineNumbers }, "--line-numbers"),
		flag{names: []string{"-c", "--set-counters"}, letter: 'c', isOfTables: true, set: func(v string, _ bool) *Error {
			return p.setCounters(v)
		}},
		flag{names: []string{"-w", "--wait"}, takes: perhaps, isOfTables: true, set: p.wait},
		flag{names: []string{"-W", "--wait-interval"}, takes: perhaps, isOfTables: true, set: p.wait},
		flag{names: []string{"-M", "--modprobe"}, isOfTables: true, set: func(string, bool) *Error { return nil }},
		flag{names: []string{"-4", "--ipv4"}, takes: nothing, isOfTables: true, set: func(string, bool) *Error { return nil }},
		flag{names: []string{"-6", "--ipv6"}, takes: nothing, isOfTables: true, set: func(string, bool) *Error {
			err := errorf("")
			err.isSilent = true
			return err
		}},
	)
}

// conditionFlags are the conditions and targets of a rule.
func (p *parser) conditionFlags() []flag {
	return []flag{
		{names: []string{"-s", "--source", "--src"}, letter: 's', takes: whole, canBeNot: true, set: p.hosts(func() *hosts { return &p.sources })},
		{names: []string{"-d", "--destination", "--dst"}, letter: 'd', takes: whole, canBeNot: true,
			set: p.hosts(func() *hosts { return &p.destinations })},
		{names: []string{"-i", "--in-interface"}, letter: 'i', takes: whole, canBeNot: true, set: func(v string, not bool) *Error {
			return parseInterface(&p.rule.In, v, not)
		}},
		{names: []string{"-o", "--out-interface"}, letter: 'o', takes: whole, canBeNot: true, isOfTables: true, set: func(v string, not bool) *Error {
			return parseInterface(&p.rule.Out, v, not)
		}},
		{names: []string{"-p", "--protocol"}, letter: 'p', takes: whole, canBeNot: true, set: p.setProtocol},
		{names: []string{"-f", "--fragments"}, letter: 'f', takes: nothing, canBeNot: true, isOfTables: true, set: func(_ string, not bool) *Error {
			p.rule.Fragment = OnlyFragment
			if not {
				p.rule.Fragment = NoFragment
			}
			return nil
		}},
		{names: []string{"-m", "--match"}, set: p.loadMatch},
		{names: []string{"-j", "--jump"}, letter: 'j', takes: whole, set: func(v string, _ bool) *Error { return p.loadTarget(v) }},
		{names: []string{"-g", "--goto"}, letter: 'j', isOfTables: true, set: func(v string, _ bool) *Error {
			if err := checkTarget(v); err != nil {
				return err
			}
			p.rule.Target, p.rule.IsJump, p.rule.IsGoto = v, true, true
			return nil
		}},
	}
}

// setTable reads -t. The front door is part of filter.
func (p *parser) setTable(name string, not bool) *Error {
	reason, known := refusedTables[name]
	switch {
	case not:
		return errorf("unexpected ! flag before --table")
	case p.isRestore:
		return errorf("The -t option cannot be used in iptables-restore.").withBlank()
	case p.grammar == forTables:
	case known:
		return errorf("table `%s' has no meaning here", name).advise("%s", reason)
	case name != "filter":
		return errorf("can't initialize iptables table `%s': Table does not exist", name)
	}
	p.cmd.Table = name
	return nil
}

// wait reads how long to wait for other programs: none holds the rules, so that it means nothing.
func (p *parser) wait(value string, _ bool) *Error {
	if p.isRestore {
		return errorf("You cannot use `-w' from iptables-restore")
	}
	if value == "" {
		w, ok := p.more()
		if !ok {
			return nil
		}
		value = w.text
	}
	if _, err := parseNumber(value, 0, 1<<31-1); err != nil {
		return errorf("wait seconds not numeric")
	}
	return nil
}

// hosts returns what keeps addresses until the line is complete.
func (p *parser) hosts(to func() *hosts) func(value string, not bool) *Error {
	return func(value string, not bool) *Error {
		at := p.last().offset
		if _, inline, isInline := strings.Cut(p.last().text, "="); isInline && p.grammar == forDoor {
			at += len(p.last().text) - len(inline)
		}
		*to() = hosts{word{value, at}, not, true}
		return nil
	}
}

// prefixes reads addresses, separated by commas.
func (p *parser) prefixes(h hosts) ([]rules.Prefix, *Error) {
	if !h.given {
		return []rules.Prefix{{}}, nil
	}
	var all []rules.Prefix
	for w := range strings.SplitSeq(h.word.text, ",") {
		found, err := p.prefix(w)
		if err != nil {
			return nil, err.at(h.word.offset)
		}
		for _, prefix := range found {
			c := rules.Prefix{Prefix: prefix, Not: h.not}
			if p.grammar == forTables && prefix.Bits() == 0 && prefix.Addr().Is4() && !h.not {
				c = rules.Prefix{}
			}
			all = append(all, c)
		}
	}
	return all, nil
}

// prefix reads an address with an optional mask, or the name of a host.
func (p *parser) prefix(text string) ([]netip.Prefix, *Error) {
	if p.grammar == forDoor {
		prefix, err := parsePrefix(text)
		return []netip.Prefix{prefix}, err
	}
	host, mask, hasMask := strings.Cut(text, "/")
	if host != "" && strings.Trim(host, "0123456789.") == "" && strings.Count(host, ".") < 3 && !strings.HasSuffix(host, ".") {
		host += strings.Repeat(".0", 3-strings.Count(host, "."))
		if !hasMask {
			mask = "32"
		}
		text = host + "/" + mask
	}
	prefix, err := parsePrefix(text)
	if err == nil || p.resolver == nil || strings.HasPrefix(err.Message, "invalid mask") {
		return []netip.Prefix{prefix}, err
	}
	var all []netip.Prefix
	addrs, failed := p.resolver(host)
	for _, a := range addrs {
		if hasMask {
			if prefix, err := parsePrefix(a.String() + "/" + mask); err == nil {
				all = append(all, prefix)
			}
			continue
		}
		all = append(all, netip.PrefixFrom(a, a.BitLen()))
	}
	if failed != nil || len(all) == 0 {
		return nil, err
	}
	return all, nil
}

// Resolver returns the IPv4 addresses of a host's name.
type Resolver func(host string) ([]netip.Addr, error)

// parsePrefix reads an address with an optional mask. Of an IPv4 address with a mask, zeros at the end may be left out.
func parsePrefix(text string) (netip.Prefix, *Error) {
	host, mask, hasMask := strings.Cut(text, "/")
	full := host
	if hasMask && strings.Trim(host, "0123456789.") == "" {
		full += strings.Repeat(".0", max(0, 3-strings.Count(host, ".")))
	}
	addr, err := netip.ParseAddr(full)
	if err != nil || addr.Zone() != "" {
		return netip.Prefix{}, errorf("host/network `%s' not found", host).
			advise("a rule has an address such as 10.0.0.0/8 or 2001:db8::/32, not a name")
	}
	bits := addr.BitLen()
	if hasMask {
		switch bits = parseMask(mask, bits); {
		case bits == hasHoles:
			return netip.Prefix{}, refusal("mask `%s' has holes", mask).advise("usher matches prefixes: write a rule for each")
		case bits < 0:
			return netip.Prefix{}, errorf("invalid mask `%s' specified", mask)
		}
	}
	if addr.Is4In6() && bits >= 96 {
		addr, bits = addr.Unmap(), bits-96
	}
	return netip.PrefixFrom(addr, bits).Masked(), nil
}

// hasHoles is the length of a mask in which a zero stands before a one. iptables takes such masks.
const hasHoles = -2

// parseMask reads a number of bits, or a mask with dots. It returns -1 for what is neither.
func parseMask(text string, most int) int {
	if bits, err := parseNumber(text, 0, uint64(most)); err == nil {
		return int(bits)
	}
	mask, err := netip.ParseAddr(text)
	if err != nil || mask.BitLen() != most {
		return -1
	}
	return maskBits(mask)
}

// maskBits returns the ones of a mask, or hasHoles.
func maskBits(mask netip.Addr) int {
	for bits := range mask.BitLen() + 1 {
		ones := netip.PrefixFrom(allOnes(mask), bits).Masked().Addr()
		if ones == mask {
			return bits
		}
	}
	return hasHoles
}

// allOnes returns the address of a family that has no zero.
func allOnes(family netip.Addr) netip.Addr {
	b := family.AsSlice()
	for i := range b {
		b[i] = 0xff
	}
	ones, _ := netip.AddrFromSlice(b)
	return ones
}

// parseNumber reads a number in decimal, without leading zeros: iptables takes those for octal.
func parseNumber(text string, least, most uint64) (uint64, error) {
	n, err := strconv.ParseUint(text, 10, 64)
	if err != nil || n < least || n > most || len(text) > 1 && (text[0] == '0' || text[0] == '+') {
		return 0, strconv.ErrRange
	}
	return n, nil
}

// maxInterface is the longest name of an interface, in bytes.
const maxInterface = 15

func parseInterface(to *rules.Interface, name string, not bool) *Error {
	switch {
	case name == "":
		return errorf("Empty interface is likely to be undesired")
	case len(name) > maxInterface:
		return errorf("interface name `%s' must be shorter than IFNAMSIZ (%d)", name, maxInterface)
	case name == "+" && !not:
		return nil // any interface
	}
	if err := checkName("interface name", name, maxInterface); err != nil {
		return err
	}
	*to = rules.Interface{Name: name, Not: not}
	return nil
}

// setProtocol reads -p.
func (p *parser) setProtocol(text string, not bool) *Error {
	r := p.rule
	word := strings.ToLower(text)
	number, known := protocolNumber(word)
	switch {
	case known && number == rules.All:
		if not {
			return errorf("rule would never match protocol")
		}
	case known && p.grammar == forDoor && number != rules.TCP && number != rules.UDP:
		return errorf("protocol %s has no meaning here", text).advise("%s", carries)
	case known:
		r.Protocol, r.NotProtocol = number, not
		if number == rules.TCP || number == rules.UDP || number == icmp && p.grammar == forTables {
			p.protocol = protocolName(number)
		}
	default:
		err := errorf("unknown protocol \"%s\" specified", word)
		if p.grammar == forDoor {
			err.Message = "unknown protocol \"" + text + "\" specified"
		}
		return err.adviseOneOf(word, []string{"tcp", "udp", "all"})
	}
	return nil
}
