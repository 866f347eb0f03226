package discovery

import (
	"bytes"
	"context"
	"io"
	"net"
	"time"
)

// NewWatcherWithRandom makes jitter predictable.
var NewWatcherWithRandom = newWatcher

const (
	MaxInFlight = maxInFlight
	MaxSlow     = maxSlow
)

// Tracing is true on systems where answers are traced.
const Tracing = isTracing

// WithDial returns a Resolver that reaches name servers by dial, and remembers
// which of them answer.
func (r Resolver) WithDial(dial func(ctx context.Context, network, server string) (net.Conn, error)) Resolver {
	r.dial = dial
	return r.shared()
}

// Missing returns an Answer without the addresses of a family.
func Missing(a Answer, host string, isIP6 bool, err error) Answer {
	a.missing, a.Missing = append(a.missing, scope{host, isIP6}), err
	return a
}

// canned is a connection that returns fixed bytes.
type canned struct {
	net.Conn // nil: what else is called panics
	said     io.Reader
}

func (c canned) Write(b []byte) (int, error) { return len(b), nil }
func (c canned) Read(b []byte) (int, error)  { return c.said.Read(b) }
func (c canned) SetDeadline(time.Time) error { return nil }

// ReadAlong traces the reply to a question and returns its TTL.
func ReadAlong(question, said []byte, isPacket bool) time.Duration {
	t := newTrace(context.Background(), nil, nil)
	defer t.end()
	c := &conn{Conn: canned{said: bytes.NewReader(said)}, trace: t, isPacket: isPacket}
	if !isPacket {
		question = append([]byte{0, byte(len(question))}, question...)
	}
	_, _ = c.Write(question)
	_, _ = io.Copy(io.Discard, struct{ io.Reader }{c})
	return t.foundTTL()
}
