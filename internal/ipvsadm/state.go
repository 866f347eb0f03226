package ipvsadm

import (
	"net/netip"
)

// Protocol is an IP protocol number of a service.
type Protocol uint8

const (
	TCP  Protocol = 6
	UDP  Protocol = 17
	SCTP Protocol = 132
)

// Key names a service: an address of a protocol, or a firewall mark.
type Key struct {
	Protocol Protocol       // of an address
	Addr     netip.AddrPort // port 0: all ports
	Last     uint16         // of a range of ports, which usher has beyond ipvsadm; 0: there is none
	Mark     uint32         // instead of an address; 0: there is one
	IPv6     bool           // of a mark
}

// Service is a virtual service. It does not change once a State has it.
type Service struct {
	Key
	Scheduler    string
	Flags        []string // of the scheduler, such as sh-port
	OnePacket    bool
	Persist      uint32 // seconds; 0: not persistent
	Bits         int    // of a client's address that persistence looks at; all of them where it does not matter
	Engine       string // of persistence; empty, or sip
	Destinations []Destination
}

// Method is how packets reach a destination.
type Method uint8

const (
	Masq Method = iota // -m; what usher does: full NAT
	Local
	Tunnel // -i
	Route  // -g
)

// TunnelType is the encapsulation of Tunnel.
type TunnelType uint8

const (
	IPIP TunnelType = iota
	GUE
	GRE
)

// Destination is a real server. Newer ones come first.
type Destination struct {
	Addr         netip.AddrPort
	Method       Method
	TunnelType   TunnelType
	TunnelPort   uint16
	TunnelFlags  uint16
	Weight       int32
	Upper, Lower uint32 // thresholds; 0: none
}

// Timeouts are those of --set, in seconds.
type Timeouts struct {
	TCP    uint32 `json:"tcp"`
	TCPFin uint32 `json:"tcpfin"`
	UDP    uint32 `json:"udp"`
}

// DefaultTimeouts are those of the kernel.
func DefaultTimeouts() Timeouts { return Timeouts{TCP: 900, TCPFin: 120, UDP: 300} }
