//go:build linux

package conformance

import (
	"bytes"
	"crypto/tls"
	"encoding/binary"
	"io"
	"net"
	"time"
)

// clientHello is what a TLS client says first.
type clientHello struct {
	name      string   // empty: none
	protocols []string // ALPN
	size      int      // of the message; zero: as it is
	hasGREASE bool     // with values that nobody knows
	record    int      // bytes of the message in a record; zero: all
}

// clientHello returns the records of the hello.
func (c *C) clientHello(h clientHello) string {
	message := h.message(c)
	if h.hasGREASE {
		message = withExtension(message, 0x3a3a, []byte{0})
		message = withExtension(message, 0x8a8a, nil)
	}
	const header = 4 // of an extension
	if more := h.size - len(message) - header; more >= 0 {
		const padding = 21
		message = withExtension(message, padding, make([]byte, more))
	}
	const most = 1 << 14 // of a record
	piece := h.record
	if piece == 0 {
		piece = most
	}
	var out bytes.Buffer
	for len(message) > 0 {
		n := min(piece, len(message))
		out.Write([]byte{22, 3, 1, byte(n >> 8), byte(n)})
		out.Write(message[:n])
		message = message[n:]
	}
	return out.String()
}

// message has a TLS client say hello, and returns what that says without the record.
func (h clientHello) message(c *C) []byte {
	var said wordless
	config := &tls.Config{ServerName: h.name, NextProtos: h.protocols, InsecureSkipVerify: true}
	_ = tls.Client(&said, config).Handshake() // it ends for want of an answer
	if said.Len() < 9 {
		c.Fatalf("no ClientHello can be made")
	}
	return bytes.Clone(said.Bytes()[5:])
}

// withExtension appends an extension to a hello, whose extensions come last.
func withExtension(message []byte, kind uint16, data []byte) []byte {
	const start = 4 + 2 + 32 // header, version, random
	at := start + 1 + int(message[start])
	at += 2 + int(binary.BigEndian.Uint16(message[at:])) // cipher suites
	at += 1 + int(message[at])                           // compression methods
	message = binary.BigEndian.AppendUint16(message, kind)
	message = binary.BigEndian.AppendUint16(message, uint16(len(data)))
	message = append(message, data...)
	binary.BigEndian.PutUint16(message[at:], uint16(len(message)-at-2))
	n := len(message) - 4
	message[1], message[2], message[3] = byte(n>>16), byte(n>>8), byte(n)
	return message
}

// wordless is a connection on which nobody answers.
type wordless struct{ bytes.Buffer }

func (*wordless) Read([]byte) (int, error)         { return 0, io.EOF }
func (*wordless) Close() error                     { return nil }
func (*wordless) LocalAddr() net.Addr              { return nil }
func (*wordless) RemoteAddr() net.Addr             { return nil }
func (*wordless) SetDeadline(time.Time) error      { return nil }
func (*wordless) SetReadDeadline(time.Time) error  { return nil }
func (*wordless) SetWriteDeadline(time.Time) error { return nil }
