//go:build !linux

package proxy

import (
	"net"
	"sync/atomic"
	"syscall"
)

// grantedReceiveBuffer: the size that was granted is unknown.
func grantedReceiveBuffer() int { return 0 }

// lookUpDrops does nothing where the system keeps no count for a socket.
func lookUpDrops(int32, *atomic.Uint64, *uint32) {}

// widenConn asks for less and less: BSD grants nothing above its limit.
func widenConn(c *net.UDPConn, _ syscall.RawConn) {
	for size := receiveBuffer; size >= 64<<10 && c.SetReadBuffer(size) != nil; size /= 2 {
	}
}

// widenSendBuffer does nothing: elsewhere datagrams wait at the interface.
func widenSendBuffer(int32) bool { return false }
