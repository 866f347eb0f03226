package ipvsadm_test

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net"
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
