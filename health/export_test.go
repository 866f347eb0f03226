package health

import (
	"context"
	"io"
	"net"
	"net/netip"
)

// Exports for tests outside the package.
var (
	NewMonitorWithRandom = newMonitor
	CheckTCP             = checkTCP
)

const (
	MaxInFlight = maxInFlight
	MaxReplies  = maxReplies
)

// UDPByDatagram is [UDP] that never asks the kernel.
type UDPByDatagram struct{ UDP }

func (c UDPByDatagram) Check(ctx context.Context, t Target) error { return c.checkByDatagram(ctx, t) }

func (c DNS) Query(id uint16) []byte {
	query, err := c.query(id)
	if err != nil {
		panic(err)
	}
	return query
}

func (c DNS) Evaluate(m []byte, id uint16) (bool, error) { return c.evaluate(m, id) }

// Find returns how many searches in a row succeed.
func Find(r io.Reader, searches []Step) int {
	f := textFinder{from: r}
	for n, s := range searches {
		if f.find(s.Expect, s.Anchored) != nil {
			return n
		}
	}
	return len(searches)
}

// IsBoundHere is isBoundHere for a target.
func IsBoundHere(t Target) bool {
	to, err := netip.ParseAddrPort(t.Address)
	return err == nil && isBoundHere(to)
}

// ReadGRPCReply returns the result of a gRPC check for the bytes of a server.
func ReadGRPCReply(wire io.Reader) error {
	call, err := startGRPCCall(wireConn{from: wire}, "http", "a", nil)
	if err == nil {
		err = call.finish()
	}
	if err == nil {
		err = new(GRPC).evaluate(call)
	}
	return err
}

type wireConn struct {
	net.Conn
	from io.Reader
}

func (c wireConn) Read(b []byte) (int, error)  { return c.from.Read(b) }
func (c wireConn) Write(b []byte) (int, error) { return len(b), nil }
