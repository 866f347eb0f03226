package iptables

import (
	"net/netip"
	"strconv"
	"strings"

	"usher/proxy/rules"
)

// flags are those of the rule itself.
func (p *parser) flags() []flag {
	r := p.rule
	return []flag{
		{names: []string{"-s", "--source", "--src"}, canBeNot: true, set: prefixes(&p.sources)},
		{names: []string{"-d", "--destination", "--dst"}, canBeNot: true, set: prefixes(&p.destinations)},
		{names: []string{"-i", "--in-interface"}, canBeNot: true, set: func(v string, not bool) *Error {
			return parseInterface(&r.Interface, v, not)
		}},
		{names: []string{"-p", "--protocol", "--proto"}, canBeNot: true, set: func(v string, not bool) *Error {
			return parseProtocol(r, v, not)
		}},
		{names: []string{"-m", "--match"}, set: func(v string, _ bool) *Error { return p.loadMatch(v) }},
		{names: []string{"-j", "--jump"}, set: func(v string, _ bool) *Error { return p.loadTarget(v) }},
	}
}

// prefixes returns what reads addresses, separated by commas.
func prefixes(to *[]rules.Prefix) func(value string, not bool) *Error {
	return func(value string, not bool) *Error {
		words := strings.Split(value, ",")
		if not && len(words) > 1 {
			return errorf("! not allowed with multiple source or destination IP addresses").
				advise("jump to a chain that has a rule with RETURN for each")
		}
		for _, w := range words {
			prefix, err := parsePrefix(w)
			if err != nil {
				return err
			}
			*to = append(*to, rules.Prefix{Prefix: prefix, Not: not})
		}
		return nil
	}
}

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
		if bits = parseMask(mask, bits); bits < 0 {
			return netip.Prefix{}, errorf("invalid mask `%s' specified", mask)
		}
	}
	if addr.Is4In6() && bits >= 96 {
		addr, bits = addr.Unmap(), bits-96
	}
	return netip.PrefixFrom(addr, bits).Masked(), nil
}

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

// maskBits returns the ones of a mask, or -1 if a zero stands before a one.
func maskBits(mask netip.Addr) int {
	for bits := range mask.BitLen() + 1 {
		ones := netip.PrefixFrom(allOnes(mask), bits).Masked().Addr()
		if ones == mask {
			return bits
		}
	}
	return -1
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

func parseProtocol(r *rules.Rule, text string, not bool) *Error {
	word := strings.ToLower(text)
	number, numeric := parseNumber(word, 0, 255)
	switch {
	case word == "all" || numeric == nil && number == 0:
		if not {
			return errorf("rule would never match protocol")
		}
		return nil
	case word == "tcp" || numeric == nil && rules.Protocol(number) == rules.TCP:
		r.Protocol = rules.TCP
	case word == "udp" || numeric == nil && rules.Protocol(number) == rules.UDP:
		r.Protocol = rules.UDP
	case numeric == nil || isOtherProtocol(word):
		return errorf("protocol %s has no meaning here", text).advise("usher carries tcp and udp alone")
	default:
		return errorf("unknown protocol \"%s\" specified", text).adviseOneOf(word, []string{"tcp", "udp", "all"})
	}
	r.NotProtocol = not
	return nil
}

// protocolName returns the word of a protocol.
func protocolName(p rules.Protocol) string {
	switch p {
	case rules.TCP:
		return "tcp"
	case rules.UDP:
		return "udp"
	}
	return "all"
}
