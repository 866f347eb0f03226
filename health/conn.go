package health

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"syscall"
	"time"
)

const (
	// maxRead is how many bytes one check reads from a target, TLS included. It bounds
	// memory and work for an endless reply.
	maxRead = 256 << 10

	// queueRetry is the pause before another connect to a unix socket whose listen
	// queue is full.
	queueRetry = 10 * time.Millisecond
)

// past is a deadline that has always passed.
var past = time.Unix(1, 0)

// dial connects to a target of a stream network. The error names the attempt and the
// address.
func dial(ctx context.Context, t Target) (net.Conn, error) {
	if t.Network == "udp" {
		return nil, fmt.Errorf("ask %s: this check needs a connection, udp has none", t.Address)
	}
	dialer := t.dialer()
	conn, err := dialer.DialContext(ctx, t.Network, t.Address)
	// EAGAIN: the listen queue of a unix socket is full. TCP repeats its SYN then without
	// telling the caller; do the same here, since the target is merely busy.
	isFull := t.Network == "unix" && errors.Is(err, syscall.EAGAIN)
	for isFull && errors.Is(err, syscall.EAGAIN) && sleep(ctx, queueRetry) {
		conn, err = dialer.DialContext(ctx, t.Network, t.Address)
	}
	switch {
	case err == nil:
		return sendPreface(ctx, t, conn)
	case isFull && os.IsTimeout(err): // also true for EAGAIN
		return nil, cmp.Or(cancelled(ctx), fmt.Errorf("dial unix %s: the listen queue is full", t.Address))
	}
	return nil, classifyDial(err, t)
}

// sleep waits for d. It returns false if ctx ends before.
func sleep(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}

// withConn connects to a target, calls talk with the connection until it returns or
// ctx ends, and closes gracefully. With secure set it speaks TLS, agrees on one of
// protocols (RFC 7301), and verifies the certificate against name unless secure says
// otherwise. talk must not use the connection after it has returned.
func withConn(ctx context.Context, t Target, secure *TLS, name string, protocols []string, talk func(net.Conn) error) error {
	raw, err := dial(ctx, t)
	if err != nil {
		return err
	}
	stop := context.AfterFunc(ctx, func() { _ = raw.SetDeadline(past) })
	defer stop()
	defer gracefulClose(ctx, raw, closeTime)

	limited := &limitedConn{Conn: raw, left: maxRead}
	if secure == nil {
		err := talk(limited)
		return wrapError(ctx, t, err, limited.hasData)
	}
	conn := secure.client(limited, name, protocols)
	if err := conn.Handshake(); err != nil {
		err = fmt.Errorf("TLS handshake: %w", explainRead(err, limited.hasData))
		return wrapError(ctx, t, err, limited.hasData)
	}
	limited.hasData = false // from here on it is about the reply
	err = talk(conn)
	err = wrapError(ctx, t, err, limited.hasData)
	_ = conn.CloseWrite() // close_notify, before the FIN
	return err
}

// limitedConn ends after maxRead bytes, and keeps the deadlines that withConn has set.
type limitedConn struct {
	net.Conn
	left    int
	hasData bool // something was read
}

func (c *limitedConn) Read(b []byte) (int, error) {
	if c.left == 0 {
		return 0, errTooMuch
	}
	n, err := c.Conn.Read(b[:min(len(b), c.left)])
	c.left -= n
	c.hasData = c.hasData || n > 0
	return n, err
}

func (c *limitedConn) SetDeadline(time.Time) error      { return nil }
func (c *limitedConn) SetReadDeadline(time.Time) error  { return nil }
func (c *limitedConn) SetWriteDeadline(time.Time) error { return nil }

// wrapError makes the result of a check from the error of a connection, which may have read
// something.
func wrapError(ctx context.Context, t Target, err error, hasData bool) error {
	switch {
	case err == nil:
		return nil
	case cancelled(ctx) != nil:
		return ctx.Err()
	case isNoResources(err):
		return fmt.Errorf("%w: %w", ErrInconclusive, err)
	}
	return fmt.Errorf("ask %s: %w", t.Address, sanitizedError{explainRead(err, hasData)})
}
