package health

import (
	"context"
	"errors"
	"io"
	"net"
	"syscall"
	"time"
)

// TCP checks that a target completes a connection, over TCP or a unix stream
// socket. It never sends a byte, and it takes its leave with a FIN, as a
// client that had nothing to say: servers log and count resets.
type TCP struct{}

const (
	// partingTime is how long a probe waits for the target's own FIN.
	partingTime = 100 * time.Millisecond
	// partingBytes is how much of a greeting it reads meanwhile.
	partingBytes = 64 << 10
)

// Check connects and closes. The result is decided when the connection is
// made; ctx bounds that, and the leave-taking adds at most 100 ms.
func (TCP) Check(ctx context.Context, t Target) error {
	return checkTCP(ctx, t, partingTime)
}

func checkTCP(ctx context.Context, t Target, parting time.Duration) error {
	conn, err := dial(ctx, t)
	if err != nil {
		return err
	}
	part(ctx, conn, parting)
	return nil
}

// part closes conn in the way that the other side sees as a clean end. A
// plain close would turn into a reset where the target speaks first (SSH,
// SMTP, MySQL): closing a socket with unread data, or data that arrives for
// a closed one, is answered with RST (RFC 1122, 4.2.2.13). So the FIN goes
// first, and a greeting is read and dropped until the target's FIN, or until
// it has had its time.
func part(ctx context.Context, conn net.Conn, patience time.Duration) {
	defer conn.Close()
	half, ok := conn.(interface{ CloseWrite() error })
	if !ok || half.CloseWrite() != nil || ctx.Err() != nil {
		return
	}
	until := time.Now().Add(patience)
	if deadline, ok := ctx.Deadline(); ok && deadline.Before(until) {
		until = deadline
	}
	if conn.SetReadDeadline(until) == nil {
		// The outcome does not matter, a late reset included: the target
		// has accepted.
		_, _ = io.CopyN(io.Discard, conn, partingBytes)
	}
}

// shortage reports whether a dial failed for want of descriptors or memory
// on this side.
func shortage(err error) bool {
	return errors.Is(err, syscall.EMFILE) ||
		errors.Is(err, syscall.ENFILE) ||
		errors.Is(err, syscall.ENOBUFS) ||
		errors.Is(err, syscall.ENOMEM)
}

// portsUsedUp reports whether a dial failed because each local port is in use towards
// that very target: a backend that serves tens of thousands of flows through a
// proxy must not be found dead for it. EADDRNOTAVAIL alone does not say so: this
// host may as well have no address of the target's family, and the target is of no
// use then. To connect a UDP socket sends nothing, but it takes the kernel's decision
// on the source address, with other ports.
func portsUsedUp(err error, t Target) bool {
	if !errors.Is(err, syscall.EADDRNOTAVAIL) || t.Network != "tcp" {
		return false
	}
	conn, err := net.Dial("udp", t.Address)
	if err != nil {
		return false
	}
	conn.Close()
	return true
}
