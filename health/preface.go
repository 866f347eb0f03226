package health

import (
	"context"
	"io"
	"net"
)

// WithPreface returns a checker whose connections begin with a preface, before TLS too. A
// datagram has it before its payload. It is for the header of the PROXY protocol. A TCP check
// then reaches the target's process. Where no datagram is sent, no preface is.
func WithPreface(c Checker, preface []byte) Checker { return prefaced{c, string(preface)} }

type prefaced struct {
	checker Checker
	preface string
}

func (p prefaced) Check(ctx context.Context, t Target) error {
	t.preface = p.preface
	return p.checker.Check(ctx, t)
}

// sendPreface sends the preface of a target on a new connection, whose empty buffer takes it
// at once. It closes the connection if that fails.
func sendPreface(ctx context.Context, t Target, conn net.Conn) (net.Conn, error) {
	if t.preface == "" {
		return conn, nil
	}
	if _, err := io.WriteString(conn, t.preface); err != nil {
		conn.Close()
		return nil, wrapError(ctx, t, err, false)
	}
	return conn, nil
}
