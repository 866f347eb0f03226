package proxy

import (
	"fmt"
	"runtime"
	"sync/atomic"
)

// receiveBuffer is the size that every udp socket asks for, listening or of a session.
// It limits what may wait while its owner is busy, and takes no memory by itself: one
// question may have a burst of replies, and they come faster than a turn of the loop.
const receiveBuffer = 4 << 20

// sendBuffer is what a socket asks for once its send buffer was full: a burst that comes
// faster than the way to its receiver takes it waits there, as it would at a sender that
// can block.
const sendBuffer = 4 << 20

// receiveBufferNote says how much the kernel grants each udp socket; empty: other systems do not tell. It is
// short if that is less than was asked for.
func receiveBufferNote() (note string, isShort bool) {
	switch granted := grantedReceiveBuffer(); {
	case granted > 0:
		return fmt.Sprintf("udp receive buffers %d KiB (%d KiB asked for; net.core.rmem_max)", granted>>10, receiveBuffer>>10), granted < receiveBuffer
	case runtime.GOOS == "linux":
		return "udp receive buffers unknown", false
	}
	return "", false
}

// A receive buffer drops only what comes while it is full, and what was in it then is
// read afterwards. So the kernel's count of drops is looked up only after a socket had
// so much to read at once: never for a question with its reply.
const (
	overflowDatagrams = 8
	overflowBytes     = 64 << 10
)

// mayHaveOverflowed reports whether a socket that had so much waiting may have dropped
// something before.
func mayHaveOverflowed(datagrams, bytes int) bool {
	return datagrams >= overflowDatagrams || bytes >= overflowBytes
}

// countDrops adds what is new in the kernel's count of a socket's drops to counter, and
// returns the count to compare with next time. The kernel's has 32 bits, and wraps.
func countDrops(counter *atomic.Uint64, seen, drops uint32) uint32 {
	more := int32(drops - seen)
	if more <= 0 {
		return seen
	}
	counter.Add(uint64(more))
	return drops
}
