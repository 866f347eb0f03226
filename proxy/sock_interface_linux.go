package proxy

import (
	"bytes"
	"net"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// knowsInterfaces returns an error where nobody can say by which interface a client came.
func knowsInterfaces() error { return nil }

// interfaceNames has names of interfaces by index. They may change, so the kernel is asked each
// time. What is remembered spares an allocation.
type interfaceNames map[int32]string

// interfacesMost bounds what is remembered: interfaces of containers come and go.
const interfacesMost = 256

// of returns the name of the interface by which the client of a socket came; empty if it is
// not known.
func (n *interfaceNames) of(fd int32) string { return n.name(fd, interfaceIndex(fd)) }

// name returns the name of an interface by its index. Any socket will do to ask.
func (n *interfaceNames) name(fd, index int32) string {
	var request struct {
		name  [unix.IFNAMSIZ]byte
		index int32
		_     [20]byte // of the kernel's union
	}
	request.index = index
	if index == 0 {
		return ""
	}
	_, _, e := syscall.RawSyscall(unix.SYS_IOCTL, uintptr(fd), unix.SIOCGIFNAME, uintptr(unsafe.Pointer(&request)))
	if e != noError {
		return ""
	}
	name, _, _ := bytes.Cut(request.name[:], []byte{0})
	if known := (*n)[index]; known == string(name) {
		return known
	}
	if *n == nil || len(*n) >= interfacesMost {
		*n = make(interfaceNames)
	}
	known := string(name)
	(*n)[index] = known
	return known
}

// interfaceIndex returns the index of the interface by which the client of a socket came, or
// zero. A connection keeps it from its handshake, and tells once it is asked to: so listeners
// need no option.
func interfaceIndex(fd int32) int32 {
	if setsockoptInt(fd, unix.IPPROTO_IPV6, unix.IPV6_RECVPKTINFO, 1) == noError {
		return packetInfo(fd, unix.IPPROTO_IPV6, unix.IPV6_2292PKTOPTIONS)
	}
	if setsockoptInt(fd, unix.IPPROTO_IP, unix.IP_PKTINFO, 1) == noError {
		return packetInfo(fd, unix.IPPROTO_IP, unix.IP_PKTOPTIONS)
	}
	return 0
}

// packetInfo returns the interface among what a stream tells of its packets.
func packetInfo(fd int32, level, options int) (index int32) {
	var space [128]byte
	size := uint32(len(space))
	_, _, e := syscall.RawSyscall6(unix.SYS_GETSOCKOPT, uintptr(fd), uintptr(level), uintptr(options),
		uintptr(unsafe.Pointer(&space)), uintptr(unsafe.Pointer(&size)), 0)
	for b := space[:min(int(size), len(space))]; e == noError && len(b) >= unix.SizeofCmsghdr; {
		h := (*unix.Cmsghdr)(unsafe.Pointer(&b[0]))
		if uint64(h.Len) > uint64(len(b)) || uint64(h.Len) < unix.SizeofCmsghdr {
			break
		}
		data := b[unix.SizeofCmsghdr:h.Len]
		switch {
		case h.Level == unix.IPPROTO_IP && h.Type == unix.IP_PKTINFO && len(data) >= unix.SizeofInet4Pktinfo:
			return (*unix.Inet4Pktinfo)(unsafe.Pointer(&data[0])).Ifindex
		case h.Level == unix.IPPROTO_IPV6 && h.Type == unix.IPV6_PKTINFO && len(data) >= unix.SizeofInet6Pktinfo:
			return int32((*unix.Inet6Pktinfo)(unsafe.Pointer(&data[0])).Ifindex)
		}
		b = b[min(unix.CmsgSpace(len(data)), len(b)):]
	}
	return 0
}

// connInterface returns the name for a connection of package net.
func connInterface(c net.Conn) (name string) {
	raw, ok := rawConn(c)
	if !ok {
		return ""
	}
	_ = raw.Control(func(fd uintptr) {
		var names interfaceNames
		name = names.of(int32(fd))
	})
	return name
}
