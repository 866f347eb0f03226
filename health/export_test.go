package health

import (
	"io"
	"net"
)

// Seams for tests of behaviour from outside the package.
var (
	NewMonitorWithRandom = newMonitor
	CheckTCP             = checkTCP
	Shortage             = shortage
	PortsUsedUp          = portsUsedUp
	Fault                = fault

	Frame          = frame
	Unframe        = unframe
	EncodeRequest  = encodeRequest
	DecodeResponse = decodeResponse
)

const (
	MaxInFlight = maxInFlight
	MaxReplies  = maxReplies
)

func (c DNS) Query(id uint16) []byte                  { return c.query(id) }
func (c DNS) Judge(m []byte, id uint16) (bool, error) { return c.judge(m, id) }

// Find returns how many searches in a row succeed.
func Find(r io.Reader, searches []Step) int {
	f := finder{from: r}
	for n, s := range searches {
		if f.find(s.Expect, s.Anchored) != nil {
			return n
		}
	}
	return len(searches)
}

// WithoutExtensions reads frames from r.
func WithoutExtensions(r io.Reader) io.Reader { return withoutExtensions(readConn{from: r}) }

type readConn struct {
	net.Conn
	from io.Reader
}

func (c readConn) Read(b []byte) (int, error) { return c.from.Read(b) }
