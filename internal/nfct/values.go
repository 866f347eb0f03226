package nfct

import (
	"net/netip"
	"slices"
	"strconv"
	"strings"
)

func (*parser) ignore(string, *option) error { return nil }

// family notes the family of an address.
func (p *parser) family(a netip.Addr) error {
	p.is4, p.is6 = p.is4 || a.Is4(), p.is6 || a.Is6()
	if p.is4 && p.is6 {
		return wrong("mismatched address family")
	}
	return nil
}

// parseAddr reads an address as conntrack prints it.
func parseAddr(s string) (netip.Addr, error) {
	a, err := netip.ParseAddr(s)
	if err != nil || a.Zone() != "" {
		return a, wrong("Invalid IP address `%s'", s)
	}
	return a, nil
}

// setPrefix takes -s and -d. An empty length lets all pass.
func (p *parser) setPrefix(v string, o *option) error {
	at, length, hasLength := strings.Cut(v, "/")
	a, err := netip.ParseAddr(at)
	if err != nil || a.Zone() != "" {
		return wrong("Invalid IP address `%s'", v)
	}
	if err := p.family(a); err != nil {
		return err
	}
	bits := a.BitLen()
	if hasLength {
		n, err := strconv.ParseUint("0"+length, 10, 16)
		if err != nil || int(n) > bits {
			return wrong("Invalid netmask")
		}
		bits = int(n)
		p.lengths = append(p.lengths, "mask-"+o.name())
	}
	prefix := netip.PrefixFrom(a, bits).Masked()
	if o.short == 's' {
		p.Source = prefix
	} else {
		p.Destination = prefix
	}
	return nil
}

// setMask takes --mask-src and --mask-dst, once the addresses are known.
func (p *parser) setMask(v string, o *option) error {
	a, err := parseAddr(v)
	if err != nil {
		return err
	}
	i := 0
	if o.name() == "mask-dst" {
		i = 1
	}
	p.masks[i] = v
	return p.family(a)
}

func (p *parser) applyMask(i int, name string) error {
	to := []*netip.Prefix{&p.Source, &p.Destination}[i]
	if !to.IsValid() {
		return wrong("Can't use --mask-%s without --%s", name, name)
	}
	bits, isOver := 0, false
	for _, b := range netip.MustParseAddr(p.masks[i]).AsSlice() {
		for bit := 7; bit >= 0; bit-- {
			isSet := b>>bit&1 == 1
			if isSet && isOver {
				return wrong("Invalid netmask: only one whose ones come first can be used")
			}
			isOver = isOver || !isSet
			if isSet {
				bits++
			}
		}
	}
	*to = netip.PrefixFrom(to.Addr(), bits).Masked()
	return nil
}

func (p *parser) setReply(v string, o *option) error {
	if strings.Contains(v, "/") {
		return wrong("CIDR notation unavailable for `--%s'", o.name())
	}
	a, err := parseAddr(v)
	if err != nil {
		return err
	}
	if o.short == 'r' {
		p.ReplySource = a
	} else {
		p.ReplyDestination = a
	}
	return p.family(a)
}

// protocols that conntrack knows by name.
var protocols = [...]struct {
	name     string
	number   uint8
	hasPorts bool
}{
	{"tcp", TCP, true}, {"udp", UDP, true}, {"udplite", 136, true}, {"sctp", 132, true}, {"dccp", 33, true},
	{"icmp", 1, false}, {"icmpv6", 58, false}, {"gre", 47, false},
}

func (p *parser) setProtocol(v string, _ *option) error {
	n, err := strconv.ParseUint(v, 10, 8)
	for _, known := range protocols {
		if strings.EqualFold(known.name, v) || err == nil && n == uint64(known.number) {
			p.Protocol, p.hasPorts, p.isTCP = known.number, known.hasPorts, known.number == TCP
			return nil
		}
	}
	if err != nil {
		return wrong("`%s' unsupported protocol", v)
	}
	p.Protocol, p.hasPorts, p.isTCP = uint8(n), false, false
	p.IsNone = p.IsNone || n == 0 // which the filter has for any
	return nil
}

// setPort reads a number as atoi does.
func (p *parser) setPort(v string, o *option) error {
	i := slices.Index([]string{"orig-port-src", "orig-port-dst", "reply-port-src", "reply-port-dst"}, o.name())
	p.Ports[i], p.hasPort[i] = uint16(leading(v)), true
	return nil
}

// leading is the number at the start of a text, 0 if there is none. One that is too large stays at the largest.
func leading(v string) uint64 {
	n := 0
	for n < len(v) && v[n] >= '0' && v[n] <= '9' {
		n++
	}
	number, _ := strconv.ParseUint(v[:n], 10, 64)
	return number
}

var states = [...]string{
	"NONE", "SYN_SENT", "SYN_RECV", "ESTABLISHED", "FIN_WAIT", "CLOSE_WAIT", "LAST_ACK", "TIME_WAIT", "CLOSE", "LISTEN",
	"SYN_SENT2",
}

func (p *parser) setState(v string, _ *option) error {
	if !slices.Contains(states[:], v) {
		return wrong("unknown TCP state `%s'", v)
	}
	if v == "LISTEN" {
		v = "SYN_SENT2" // the same number
	}
	p.State = v
	return nil
}

// words yields the words of a list in upper case, and checks that they are known.
func words(v string, known ...string) ([]string, error) {
	var all []string
	for word := range strings.SplitSeq(v, ",") {
		upper := strings.ToUpper(word)
		if !slices.Contains(known, upper) {
			return nil, wrong("Bad parameter `%s'", word)
		}
		all = append(all, upper)
	}
	return all, nil
}

func (p *parser) setStatus(v string, _ *option) error {
	all, err := words(v, "ASSURED", "SEEN_REPLY", "UNSET", "FIXED_TIMEOUT", "EXPECTED", "OFFLOAD", "HW_OFFLOAD", "UNREPLIED", "SRC_NAT", "DST_NAT")
	for _, word := range all {
		p.hasStatus = true
		switch word {
		case "ASSURED":
			p.Assured = true
		case "SEEN_REPLY":
			p.Replied = true
		case "UNREPLIED":
			p.Unseen = true
		case "SRC_NAT":
			p.Notes = append(p.Notes, "WARNING: ignoring SRC_NAT, use --src-nat instead")
		case "DST_NAT":
			p.Notes = append(p.Notes, "WARNING: ignoring DST_NAT, use --dst-nat instead")
		case "FIXED_TIMEOUT", "EXPECTED", "OFFLOAD", "HW_OFFLOAD":
			p.IsNone = true
		}
	}
	return err
}

func (p *parser) setEvents(v string, _ *option) error {
	all, err := words(v, "ALL", "NEW", "UPDATES", "DESTROY")
	for _, word := range all {
		p.Mask[New] = p.Mask[New] || word == "ALL" || word == "NEW"
		p.Mask[Update] = p.Mask[Update] || word == "ALL" || word == "UPDATES"
		p.Mask[Destroy] = p.Mask[Destroy] || word == "ALL" || word == "DESTROY"
	}
	return err
}

func (p *parser) setOutput(v string, _ *option) error {
	all, err := words(v, "XML", "EXTENDED", "TIMESTAMP", "ID", "KTIMESTAMP", "LABELS", "USERSPACE", "SAVE", "JSON")
	for _, word := range all {
		switch word {
		case "XML":
			p.XML = true
		case "EXTENDED":
			p.Extended = true
		case "TIMESTAMP":
			p.Timestamp = true
		case "ID":
			p.Output.ID = true
		case "SAVE":
			p.Save = true
		case "JSON":
			p.JSON = true
		default:
			return &Error{Failed, "Operation failed: usher has no output " + strings.ToLower(word) + ": have extended, id, xml, save, timestamp, json"}
		}
	}
	return err
}

func (p *parser) setFamily(v string, _ *option) error {
	switch v {
	case "ipv4":
		p.IPv4, p.IPv6 = true, false
		p.is4 = true
	case "ipv6":
		p.IPv4, p.IPv6 = false, true
		p.is6 = true
	default:
		return wrong("`%s' unsupported protocol", v)
	}
	if p.is4 && p.is6 {
		return wrong("mismatched address family")
	}
	return nil
}

// setBuffer: the room for a reader is usher's own.
func (p *parser) setBuffer(string, *option) error {
	p.HasBuffer = true
	return nil
}

// setMark: the mark of all flows is 0.
func (p *parser) setMark(v string, _ *option) error {
	value, _, _ := strings.Cut(v, "/")
	p.IsNone = p.IsNone || number32(value) != 0
	return nil
}

// number32 reads a number as strtoul does, and keeps 32 bits of it.
func number32(v string) uint32 {
	if hex, isHex := strings.CutPrefix(strings.ToLower(v), "0x"); isHex {
		n, _ := strconv.ParseUint(hex, 16, 64)
		return uint32(n)
	}
	return uint32(leading(v))
}

// setZone: all flows are in zone 0.
func (p *parser) setZone(v string, _ *option) error {
	p.IsNone = p.IsNone || uint16(number32(v)) != 0
	return nil
}

func (p *parser) setID(v string, _ *option) error {
	p.Filter.ID, p.hasID = number32(v), true
	return nil
}

// setNAT takes -n, -g and -j with or without an address and a port.
func (p *parser) setNAT(v string, o *option) error {
	i := strings.IndexByte("ngj", o.short)
	p.NAT[i] = true
	if v == "" {
		return nil
	}
	if strings.Contains(v, "/") {
		return wrong("CIDR notation unavailable for `--%s'", o.name())
	}
	at, port := v, ""
	if strings.Count(v, ":") == 1 {
		at, port, _ = strings.Cut(v, ":")
	} else if end := strings.LastIndex(v, "]"); end > 0 && v[0] == '[' {
		at, port = v[1:end], strings.TrimPrefix(v[end+1:], ":")
	}
	a, err := parseAddr(at)
	if err != nil {
		return err
	}
	n := uint64(0)
	if port != "" {
		if n, err = strconv.ParseUint(port, 10, 16); err != nil || n == 0 {
			return wrong("Invalid port `%s'", port)
		}
	}
	p.NATAddrs[i] = netip.AddrPortFrom(a, uint16(n))
	return p.family(a)
}
