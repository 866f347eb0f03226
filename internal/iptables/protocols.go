package iptables

import (
	"strconv"

	"usher/proxy/rules"
)

const icmp rules.Protocol = 1

// protocols are the names of protocols, by the number. They are those of Debian's /etc/protocols that have an extension
// or are met in rules.
var protocols = [...]struct {
	number rules.Protocol
	name   string
}{
	{rules.All, "all"}, {icmp, "icmp"}, {2, "igmp"}, {4, "ipencap"}, {rules.TCP, "tcp"}, {8, "egp"}, {rules.UDP, "udp"},
	{33, "dccp"}, {41, "ipv6"}, {46, "rsvp"}, {47, "gre"}, {50, "esp"}, {51, "ah"}, {58, "ipv6-icmp"}, {58, "icmpv6"}, {88, "eigrp"},
	{89, "ospf"}, {94, "ipip"}, {103, "pim"}, {112, "vrrp"}, {115, "l2tp"}, {132, "sctp"}, {135, "mobility-header"}, {136, "udplite"},
}

// protocolNumber reads a name in small letters, or a number.
func protocolNumber(word string) (rules.Protocol, bool) {
	if n, err := parseNumber(word, 0, 255); err == nil {
		return rules.Protocol(n), true
	}
	for _, p := range protocols {
		if p.name == word {
			return p.number, true
		}
	}
	return 0, false
}

// protocolName returns the name of a protocol, or its number.
func protocolName(number rules.Protocol) string {
	for _, p := range protocols {
		if p.number == number {
			return p.name
		}
	}
	return strconv.Itoa(int(number))
}

// knownProtocol returns the name of a protocol that iptables knows by itself, or the number.
func knownProtocol(number rules.Protocol) string {
	switch number {
	case rules.All, icmp, rules.TCP, rules.UDP, 50, 51, 58, 132, 135, 136:
		return protocolName(number)
	}
	return strconv.Itoa(int(number))
}
