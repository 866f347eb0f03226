package ipvsadm_test

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

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

// kernel answers the netlink sockets of the preloaded library as the module ip_vs does, from a State.
type kernel struct {
	listener    *net.UnixListener
	connections string // the file that is read as /proc/net/ip_vs_conn

	mu    sync.Mutex
	state *ipvsadm.State
	errno unix.Errno // instead of any answer to a change; 0: none
}

var kernels atomic.Int64

// newKernel returns a kernel with a state that answers changes with an error number, if that is not 0.
func newKernel(t *testing.T, state *ipvsadm.State, errno unix.Errno) *kernel {
	t.Helper()
	name := fmt.Sprintf("@usher-ipvsadm-%d-%d", os.Getpid(), kernels.Add(1))
	listener, err := net.ListenUnix("unixpacket", &net.UnixAddr{Name: name, Net: "unixpacket"})
	if err != nil {
		t.Fatal(err)
	}
	k := &kernel{listener: listener, state: state, errno: errno}
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			conn, err := listener.AcceptUnix()
			if err != nil {
				return
			}
			k.serve(conn) // ipvsadm has one at a time
		}
	}()
	t.Cleanup(func() { listener.Close(); <-done })
	return k
}

// socket is the name for the environment of the library.
func (k *kernel) socket() string {
	return strings.TrimPrefix(k.listener.Addr().String(), "@")
}

// snapshot returns what the kernel has been asked for so far.
func (k *kernel) snapshot() *ipvsadm.State {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.state.Clone()
}

func (k *kernel) serve(conn *net.UnixConn) {
	defer conn.Close()
	buffer := make([]byte, 1<<16)
	for {
		n, err := conn.Read(buffer)
		if err != nil || n == 0 {
			return
		}
		var m netlink.Message
		if err := m.UnmarshalBinary(buffer[:n]); err != nil || len(m.Data) < 4 {
			return
		}
		for _, packet := range k.answer(m) {
			if _, err := conn.Write(packet); err != nil {
				return
			}
		}
	}
}

// answer returns the datagrams that answer a request.
func (k *kernel) answer(m netlink.Message) [][]byte {
	k.mu.Lock()
	defer k.mu.Unlock()
	var replies [][]byte // attributes, and the header of generic netlink
	var errno unix.Errno
	if m.Header.Type == unix.GENL_ID_CTRL {
		replies = append(replies, reply(unix.CTRL_CMD_NEWFAMILY, func(e *netlink.AttributeEncoder) {
			e.Uint16(unix.CTRL_ATTR_FAMILY_ID, ipvsFamily)
			e.String(unix.CTRL_ATTR_FAMILY_NAME, "IPVS")
		}))
	} else {
		replies, errno = k.command(m.Data[0], m.Data[4:], m.Header.Flags&netlink.Dump != 0)
	}
	header := m.Header
	if header.Flags&netlink.Dump == netlink.Dump && errno == 0 {
		var packets [][]byte
		header.Flags = netlink.Multi
		for _, r := range replies {
			packets = append(packets, packet(header, r))
		}
		header.Type = netlink.Done
		return append(packets, packet(header, make([]byte, 4)))
	}
	var packets [][]byte
	header.Flags = 0
	for _, r := range replies {
		packets = append(packets, packet(header, r))
	}
	ack := binary.NativeEndian.AppendUint32(nil, uint32(-int32(errno)))
	request, _ := m.MarshalBinary()
	header.Type = netlink.Error
	return append(packets, packet(header, append(ack, request[:16]...)))
}

func packet(header netlink.Header, data []byte) []byte {
	header.Length = uint32(16 + len(data))
	b, err := netlink.Message{Header: header, Data: data}.MarshalBinary()
	if err != nil {
		panic(err)
	}
	return b
}

func reply(command byte, fill func(*netlink.AttributeEncoder)) []byte {
	e := netlink.NewAttributeEncoder()
	fill(e)
	attrs, err := e.Encode()
	if err != nil {
		panic(err)
	}
	return append([]byte{command, 1, 0, 0}, attrs...)
}

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

// command does what a message asks for, and returns what the kernel sends back before the acknowledgement.
func (k *kernel) command(command byte, data []byte, isDump bool) ([][]byte, unix.Errno) {
	top := parse(data)
	switch command {
	case cmdGetInfo:
		return [][]byte{reply(cmdSetInfo, func(e *netlink.AttributeEncoder) {
			e.Uint32(1, 0x010201)
			e.Uint32(2, 4096)
		})}, 0
	case cmdGetConfig:
		return [][]byte{reply(cmdSetConfig, func(e *netlink.AttributeEncoder) {
			timeouts := k.state.Timeouts
			e.Uint32(attrTimeoutTCP, timeouts.TCP)
			e.Uint32(attrTimeoutFin, timeouts.TCPFin)
			e.Uint32(attrTimeoutUDP, timeouts.UDP)
		})}, 0
	case cmdGetDaemon:
		return nil, 0
	case cmdGetService:
		return k.services(top, isDump)
	case cmdGetDest:
		return k.destinations(top), 0
	}
	if k.errno != 0 {
		return nil, k.errno
	}
	next := k.state.Clone()
	err := change(next, command, top)
	if err == nil {
		k.state = next
		return nil, 0
	}
	var errno ipvsadm.Errno
	if !errors.As(err, &errno) {
		panic(err)
	}
	return nil, unix.Errno(errno)
}

// change is the function ip_vs_genl_set_cmd of the kernel.
func change(s *ipvsadm.State, command byte, top attributes) error {
	switch {
	case command == cmdFlush:
		s.Flush()
		return nil
	case command == cmdSetConfig:
		timeouts := s.Timeouts
		for attr, to := range map[uint16]*uint32{attrTimeoutTCP: &timeouts.TCP, attrTimeoutFin: &timeouts.TCPFin, attrTimeoutUDP: &timeouts.UDP} {
			if top.has(attr) {
				*to = top.uint32(attr)
			}
		}
		return s.SetTimeouts(timeouts)
	case command == cmdZero && !top.has(attrService):
		return nil
	case !top.has(attrService):
		return ipvsadm.EINVAL
	}
	attrs := parse(top[attrService])
	service, err := decodeService(attrs)
	if err != nil {
		return err
	}
	if command == cmdNewService || command == cmdSetService {
		if !attrs.has(serviceScheduler, serviceFlags, serviceTimeout, serviceNetmask) {
			return ipvsadm.EINVAL
		}
		if command == cmdNewService {
			return s.Add(service)
		}
		return s.Edit(service)
	}
	if command == cmdDelService {
		return s.Delete(service.Key)
	}
	if s.Find(service.Key) == nil {
		return ipvsadm.ESRCH
	}
	if command == cmdZero {
		return nil
	}
	if !top.has(attrDest) {
		return ipvsadm.EINVAL
	}
	dest := parse(top[attrDest])
	destination, err := decodeDestination(dest, command != cmdDelDest)
	switch {
	case err != nil:
		return err
	case command == cmdNewDest:
		return s.AddDestination(service.Key, destination)
	case command == cmdSetDest:
		return s.EditDestination(service.Key, destination)
	default:
		return s.DeleteDestination(service.Key, destination.Addr)
	}
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

func (k *kernel) services(top attributes, isDump bool) ([][]byte, unix.Errno) {
	services := viewOf(k.state).Services
	if !isDump {
		wanted, err := decodeService(parse(top[attrService]))
		if err != nil {
			return nil, unix.EINVAL
		}
		i := slices.IndexFunc(services, func(v ipvsadm.ServiceView) bool { return keyOf(v) == wanted.Key })
		if i < 0 {
			return nil, unix.ESRCH
		}
		services = services[i : i+1]
	}
	var replies [][]byte
	for _, s := range services {
		replies = append(replies, reply(cmdNewService, func(e *netlink.AttributeEncoder) {
			e.Nested(attrService, func(e *netlink.AttributeEncoder) error { encodeService(e, s); return nil })
		}))
	}
	return replies, 0
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

func (k *kernel) destinations(top attributes) [][]byte {
	wanted, err := decodeService(parse(top[attrService]))
	if err != nil {
		return nil
	}
	var replies [][]byte
	for _, s := range viewOf(k.state).Services {
		if keyOf(s) != wanted.Key {
			continue
		}
		for _, d := range s.Destinations {
			replies = append(replies, reply(cmdNewDest, func(e *netlink.AttributeEncoder) {
				e.Nested(attrDest, func(e *netlink.AttributeEncoder) error { encodeDestination(e, d); return nil })
			}))
		}
	}
	return replies
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
