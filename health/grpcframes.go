package health

import (
	"bufio"
	"net"
)

// familiar is a connection of HTTP/2 without the frames that the protocol leaves to its
// extensions. RFC 9113, 5.5 wants them passed over, and so does net/http, but with a
// line for each in the log of the process: some servers send one or two, and one
// of ill will could write thousands of lines with each check.
type familiar struct {
	net.Conn
	from   *bufio.Reader
	header [frameHeader]byte
	ahead  []byte // of header, still to be read
	left   int    // bytes of the frame behind its header
}

const (
	frameHeader = 9       // length, of 24 bits, type, flags, and the stream
	lastFrame   = 9       // CONTINUATION has the highest type of the protocol's own
	frameSize   = 1 << 14 // the longest that may be sent to who has not asked for more
)

func withoutExtensions(conn net.Conn) *familiar {
	return &familiar{Conn: conn, from: bufio.NewReader(conn)}
}

// Read is called by one goroutine.
func (f *familiar) Read(b []byte) (int, error) {
	for len(f.ahead) == 0 && f.left == 0 {
		if err := f.next(); err != nil {
			return 0, err
		}
	}
	if len(f.ahead) > 0 {
		n := copy(b, f.ahead)
		f.ahead = f.ahead[n:]
		return n, nil
	}
	n, err := f.from.Read(b[:min(len(b), f.left)])
	f.left -= n
	return n, err
}

// next reads the header of a frame, and passes over the whole frame if it is one of an
// extension. What is longer than a frame can be is none, but the words of a server
// of another protocol: net/http has the right ones for these.
func (f *familiar) next() error {
	for n := 0; n < frameHeader; {
		m, err := f.from.Read(f.header[n:])
		if n += m; err != nil {
			return err
		}
	}
	size := int(f.header[0])<<16 | int(f.header[1])<<8 | int(f.header[2])
	if kind := f.header[3]; kind > lastFrame && size <= frameSize {
		_, err := f.from.Discard(size)
		return err
	}
	f.ahead, f.left = f.header[:], size
	return nil
}
