package health

import "io"

// Seams for tests of behaviour from outside the package.
var (
	NewMonitorWithRandom = newMonitor
	CheckTCP             = checkTCP
	Shortage             = shortage
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
