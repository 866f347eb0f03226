package health

import (
	"context"
	"io"
	"net"
	"time"
)

// TCP checks that a target accepts a connection, over TCP or a unix stream socket. It
// never sends a byte. It closes with a FIN, because servers log and count resets.
type TCP struct{}

const (
	// closeTime is how long a check waits for the target's FIN.
	closeTime = 100 * time.Millisecond
	// closeBytes is how much of a greeting it reads meanwhile.
	closeBytes = 64 << 10
)

// Check connects and closes. ctx bounds the connect, which decides the result; the
// close adds up to 100 ms.
func (TCP) Check(ctx context.Context, t Target) error {
	return checkTCP(ctx, t, closeTime)
}

func checkTCP(ctx context.Context, t Target, timeout time.Duration) error {
	conn, err := dial(ctx, t)
	if err != nil {
		return err
	}
	gracefulClose(ctx, conn, timeout)
	return nil
}

// gracefulClose closes conn so that the target sees a clean end. A plain close sends
// RST to a target that speaks first, as with SSH, SMTP or MySQL: unread data, or data
// for a closed socket, is answered with RST (RFC 1122, 4.2.2.13). So it sends the FIN
// first, then reads and drops a greeting until the target's FIN or the timeout.
func gracefulClose(ctx context.Context, conn net.Conn, timeout time.Duration) {
	defer conn.Close()
	half, ok := conn.(interface{ CloseWrite() error })
	if !ok || half.CloseWrite() != nil || ctx.Err() != nil {
		return
	}
	until := time.Now().Add(timeout)
	if deadline, ok := ctx.Deadline(); ok && deadline.Before(until) {
		until = deadline
	}
	if conn.SetReadDeadline(until) == nil {
		// The target has accepted, so even a late reset changes nothing.
		_, _ = io.CopyN(io.Discard, conn, closeBytes)
	}
}
