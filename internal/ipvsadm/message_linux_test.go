package ipvsadm_test

import (
	"encoding/binary"
	"net"
	"net/netip"
	"slices"
	"strings"

	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"

	"usher/internal/ipvsadm"
)

// The messages of linux/ip_vs.h and linux/genetlink.h, as far as ipvsadm sends them.
const (
	ipvsFamily = 0x20

	cmdNewService = 1
	cmdSetService = 2
	cmdDelService = 3
	cmdGetService = 4
	cmdNewDest    = 5
	cmdSetDest    = 6
	cmdDelDest    = 7
	cmdGetDest    = 8
	cmdNewDaemon  = 9
	cmdDelDaemon  = 10
	cmdGetDaemon  = 11
	cmdSetConfig  = 12
	cmdGetConfig  = 13
	cmdSetInfo    = 14
	cmdGetInfo    = 15
	cmdZero       = 16
	cmdFlush      = 17

	attrService    = 1
	attrDest       = 2
	attrDaemon     = 3
	attrTimeoutTCP = 4
	attrTimeoutFin = 5
	attrTimeoutUDP = 6

	serviceFamily    = 1
	serviceProtocol  = 2
	serviceAddr      = 3
	servicePort      = 4
	serviceMark      = 5
	serviceScheduler = 6
	serviceFlags     = 7
	serviceTimeout   = 8
	serviceNetmask   = 9
	serviceStats     = 10
	serviceEngine    = 11
	serviceStats64   = 12

	destAddr        = 1
	destPort        = 2
	destMethod      = 3
	destWeight      = 4
	destUpper       = 5
	destLower       = 6
	destActive      = 7
	destInactive    = 8
	destPersistent  = 9
	destStats       = 10
	destFamily      = 11
	destStats64     = 12
	destTunnelType  = 13
	destTunnelPort  = 14
	destTunnelFlags = 15

	flagPersistent = 1 << 0
	flagHashed     = 1 << 1
	flagOnePacket  = 1 << 2
	flagScheduler  = 1 << 3 // the first of three
)

// attributes are those of one level of a message.
type attributes map[uint16][]byte

func parse(b []byte) attributes {
	all := attributes{}
	d, err := netlink.NewAttributeDecoder(b)
	for err == nil && d.Next() {
		all[d.Type()] = d.Bytes()
	}
	return all
}

func (a attributes) has(types ...uint16) bool {
	for _, t := range types {
		if a[t] == nil {
			return false
		}
	}
	return true
}

func (a attributes) uint16(t uint16) uint16 { return uint16(a.uint32(t)) }

// uint32 reads a number of up to four bytes.
func (a attributes) uint32(t uint16) uint32 {
	var b [4]byte
	copy(b[:], a[t])
	return binary.NativeEndian.Uint32(b[:])
}

func (a attributes) text(t uint16) string {
	text, _, _ := strings.Cut(string(a[t]), "\x00")
	return text
}

func (a attributes) port(t uint16) uint16 {
	var b [2]byte
	copy(b[:], a[t])
	return binary.BigEndian.Uint16(b[:])
}

func (a attributes) addr(t uint16, family uint32) netip.Addr {
	if family == unix.AF_INET6 && len(a[t]) >= 16 {
		return netip.AddrFrom16([16]byte(a[t]))
	} else if len(a[t]) >= 4 {
		return netip.AddrFrom4([4]byte(a[t]))
	}
	return netip.Addr{}
}

func decodeService(a attributes) (ipvsadm.Service, error) {
	var s ipvsadm.Service
	family := a.uint32(serviceFamily)
	switch {
	case !a.has(serviceFamily) || !a.has(serviceMark) && !a.has(serviceProtocol, serviceAddr, servicePort):
		return s, ipvsadm.EINVAL
	case a.has(serviceMark):
		s.Mark, s.IPv6 = a.uint32(serviceMark), family == unix.AF_INET6
	default:
		s.Protocol = ipvsadm.Protocol(a.uint16(serviceProtocol))
		s.Addr = netip.AddrPortFrom(a.addr(serviceAddr, family), a.port(servicePort))
	}
	s.Scheduler, s.Engine = a.text(serviceScheduler), a.text(serviceEngine)
	flags := a.uint32(serviceFlags) // and the mask, of which ipvsadm sets all bits
	s.OnePacket = flags&flagOnePacket != 0
	if flags&flagPersistent != 0 {
		s.Persist = a.uint32(serviceTimeout)
	}
	for i, name := range schedulerFlags(s.Scheduler) {
		if flags&(flagScheduler<<i) != 0 {
			s.Flags = append(s.Flags, name)
		}
	}
	if !a.has(serviceNetmask) {
		return s, nil
	}
	if family == unix.AF_INET6 {
		s.Bits = int(int32(a.uint32(serviceNetmask)))
	} else {
		s.Bits, _ = net.IPMask(a[serviceNetmask]).Size()
	}
	return s, nil
}

// schedulerFlags are the names of the three bits that a scheduler has.
func schedulerFlags(scheduler string) []string {
	switch scheduler {
	case "sh", "mh":
		return []string{scheduler + "-fallback", scheduler + "-port", "flag-3"}
	}
	return []string{"flag-1", "flag-2", "flag-3"}
}

func decodeDestination(a attributes, isFull bool) (ipvsadm.Destination, error) {
	var d ipvsadm.Destination
	if !a.has(destAddr, destPort) || isFull && !a.has(destMethod, destWeight, destUpper, destLower) {
		return d, ipvsadm.EINVAL
	}
	d.Addr = netip.AddrPortFrom(a.addr(destAddr, a.uint32(destFamily)), a.port(destPort))
	d.Method = ipvsadm.Method(a.uint32(destMethod) & 7)
	d.Weight = int32(a.uint32(destWeight))
	d.Upper, d.Lower = a.uint32(destUpper), a.uint32(destLower)
	d.TunnelType = ipvsadm.TunnelType(a.uint16(destTunnelType))
	d.TunnelPort = a.port(destTunnelPort)
	d.TunnelFlags = a.uint16(destTunnelFlags)
	return d, nil
}

func keyOf(v ipvsadm.ServiceView) ipvsadm.Key {
	return ipvsadm.Key{Protocol: v.Protocol, Addr: v.Addr, Last: v.Last, Mark: v.Mark, IPv6: v.IPv6}
}

func encodeService(e *netlink.AttributeEncoder, s ipvsadm.ServiceView) {
	family := uint16(unix.AF_INET)
	if s.IPv6 || s.Mark == 0 && s.Addr.Addr().Is6() {
		family = unix.AF_INET6
	}
	e.Uint16(serviceFamily, family)
	if s.Mark != 0 {
		e.Uint32(serviceMark, s.Mark)
	} else {
		e.Uint16(serviceProtocol, uint16(s.Protocol))
		encodeAddr(e, serviceAddr, s.Addr.Addr())
		encodePort(e, servicePort, s.Addr.Port())
	}
	e.String(serviceScheduler, s.Scheduler)
	if s.Engine != "" {
		e.String(serviceEngine, s.Engine)
	}
	flags := uint32(flagHashed)
	if s.Persist != 0 {
		flags |= flagPersistent
	}
	if s.OnePacket {
		flags |= flagOnePacket
	}
	for i, name := range schedulerFlags(s.Scheduler) {
		if slices.Contains(s.Flags, name) {
			flags |= flagScheduler << i
		}
	}
	e.Bytes(serviceFlags, binary.NativeEndian.AppendUint32(binary.NativeEndian.AppendUint32(nil, flags), ^uint32(0)))
	e.Uint32(serviceTimeout, s.Persist)
	if family == unix.AF_INET6 {
		e.Uint32(serviceNetmask, uint32(s.Bits))
	} else {
		e.Bytes(serviceNetmask, net.CIDRMask(s.Bits, 32))
	}
	encodeStats(e, serviceStats, serviceStats64, s.Stats, s.Rates)
}

func encodeAddr(e *netlink.AttributeEncoder, attr uint16, addr netip.Addr) {
	var b [16]byte
	copy(b[:], addr.AsSlice())
	e.Bytes(attr, b[:])
}

func encodePort(e *netlink.AttributeEncoder, attr uint16, port uint16) {
	e.Bytes(attr, binary.BigEndian.AppendUint16(nil, port))
}

// encodeStats writes the counters twice, as the kernel does: of 32 bits, which ipvsadm must not believe, and of 64.
func encodeStats(e *netlink.AttributeEncoder, small, large uint16, s ipvsadm.Stats, r ipvsadm.Rates) {
	values := []uint64{s.Conns, s.InPkts, s.OutPkts, s.InBytes, s.OutBytes, r.CPS, r.InPPS, r.OutPPS, r.InBPS, r.OutBPS}
	e.Nested(small, func(e *netlink.AttributeEncoder) error {
		for i, value := range values {
			if i == 3 || i == 4 {
				e.Uint64(uint16(i+1), value)
			} else {
				e.Uint32(uint16(i+1), uint32(value))
			}
		}
		return nil
	})
	e.Nested(large, func(e *netlink.AttributeEncoder) error {
		for i, value := range values {
			e.Uint64(uint16(i+1), value)
		}
		return nil
	})
}

func encodeDestination(e *netlink.AttributeEncoder, d ipvsadm.DestinationView) {
	encodeAddr(e, destAddr, d.Addr.Addr())
	encodePort(e, destPort, d.Addr.Port())
	e.Uint32(destMethod, uint32(d.Method))
	e.Uint32(destWeight, uint32(d.Weight))
	e.Uint32(destUpper, d.Upper)
	e.Uint32(destLower, d.Lower)
	e.Uint32(destActive, d.Active)
	e.Uint32(destInactive, d.Inactive)
	e.Uint32(destPersistent, d.Persistent)
	family := uint16(unix.AF_INET)
	if d.Addr.Addr().Is6() {
		family = unix.AF_INET6
	}
	e.Uint16(destFamily, family)
	e.Uint8(destTunnelType, uint8(d.TunnelType))
	encodePort(e, destTunnelPort, d.TunnelPort)
	e.Uint16(destTunnelFlags, d.TunnelFlags)
	encodeStats(e, destStats, destStats64, d.Stats, d.Rates)
}
