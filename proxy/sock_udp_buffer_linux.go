package proxy

import (
	"net"
	"sync"
	"sync/atomic"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// receiveBufferOption sets a receive buffer's size: past net.core.rmem_max where the
// process may (CAP_NET_ADMIN), else up to it.
var receiveBufferOption = sync.OnceValue(func() int {
	fd, e := newDatagramSocket(unix.AF_INET)
	if e != noError {
		return unix.SO_RCVBUF
	}
	defer closeFD(fd)
	if setsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, receiveBuffer) == noError {
		return unix.SO_RCVBUFFORCE
	}
	return unix.SO_RCVBUF
})

func widenReceiveBuffer(fd int32) {
	setsockoptInt(fd, unix.SOL_SOCKET, receiveBufferOption(), receiveBuffer)
}

// widenSendBuffer reports whether a socket has a larger send buffer now.
func widenSendBuffer(fd int32) bool {
	before, err := unix.GetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_SNDBUF)
	if err != nil || before >= 2*sendBuffer {
		return false
	}
	if setsockoptInt(fd, unix.SOL_SOCKET, unix.SO_SNDBUFFORCE, sendBuffer) != noError {
		setsockoptInt(fd, unix.SOL_SOCKET, unix.SO_SNDBUF, sendBuffer)
	}
	after, err := unix.GetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_SNDBUF)
	return err == nil && after > before
}

// grantedReceiveBuffer returns how many bytes the kernel grants each udp socket; zero is unknown. It counts its own
// bookkeeping as well, and doubles what is asked for to make up for that; see socket(7).
func grantedReceiveBuffer() int {
	fd, e := newDatagramSocket(unix.AF_INET)
	if e != noError {
		return 0
	}
	defer closeFD(fd)
	widenReceiveBuffer(fd)
	granted, err := unix.GetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_RCVBUF)
	if err != nil {
		return 0
	}
	return granted / 2
}

// lookUpDrops adds what a socket has dropped since the count was seen to counter.
func lookUpDrops(fd int32, counter *atomic.Uint64, seen *uint32) {
	var info [unix.SK_MEMINFO_VARS]uint32
	size := uint32(unsafe.Sizeof(info))
	_, _, e := syscall.RawSyscall6(unix.SYS_GETSOCKOPT, uintptr(fd), unix.SOL_SOCKET, unix.SO_MEMINFO,
		uintptr(unsafe.Pointer(&info)), uintptr(unsafe.Pointer(&size)), 0)
	if e == noError && uintptr(size) == unsafe.Sizeof(info) {
		*seen = countDrops(counter, *seen, info[unix.SK_MEMINFO_DROPS])
	}
}

// widenConn is widenReceiveBuffer for a socket of package net.
func widenConn(_ *net.UDPConn, raw syscall.RawConn) {
	_ = raw.Control(func(fd uintptr) { widenReceiveBuffer(int32(fd)) })
}
