//go:build linux

package conformance

import "math/rand/v2"

const (
	// period is a prime. A lost, doubled or swapped piece of a stream does not shift
	// the rest by a whole period. So the comparison sees it.
	period = 1<<20 - 3
	chunk  = 256 << 10 // the largest piece of one read or write
)

// Stream is an endless sequence of bytes that both ends of a flow know. Comparing with
// it is stronger than a checksum and locates the difference.
type Stream struct {
	block []byte // the period, twice, so that each piece is one slice
	phase int
}

func newBlock() []byte {
	block := make([]byte, period, 2*period)
	r := rand.NewChaCha8([32]byte{'c', 'o', 'n', 'f'})
	r.Read(block)
	return append(block, block...)
}

// Stream returns the stream of that name; different names differ.
func (c *C) Stream(id uint64) Stream {
	return Stream{c.block, int(id * 0x9e3779b97f4a7c15 % period)}
}

// From returns the stream without its first n bytes.
func (s Stream) From(n int) Stream {
	return Stream{s.block, (s.phase + n) % period}
}

// at returns up to n bytes from pos on, not more than a chunk.
func (s Stream) at(pos, n int) []byte {
	i := (s.phase + pos) % period
	return s.block[i : i+min(n, chunk)]
}
