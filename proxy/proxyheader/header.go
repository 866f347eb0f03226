// Package proxyheader reads and writes the header of the PROXY protocol, versions 1 and 2, by
// which a proxy tells the next one who its client is. It is pure: bytes in, bytes out.
//
//	Parse                     bytes received so far → Header, its length
//	AppendV1, AppendV2        Header → bytes to send
//	UniqueID, AppendUniqueID  the TLV that names a connection
//
// The line of version 1 is read by github.com/pires/go-proxyproto, once a connection, with
// some ten allocations. Version 2 may stand in every datagram, so its fixed fields are read
// here, without one; the library is the oracle of the tests.
package proxyheader

import (
	"errors"
	"net/netip"
)

// Header is what a PROXY protocol header says.
type Header struct {
	Version int // 1 or 2
	// Local: the connection is the peer's own, or its client has no address that the
	// protocol could name. The peer itself is the client.
	Local bool
	// Datagram: the client has sent the peer a datagram. A header without addresses does
	// not say.
	Datagram bool
	// Source is the client, Destination the address that it has reached. Both are valid or
	// neither, as with a client on a unix socket. IPv4-mapped addresses are unmapped.
	Source, Destination netip.AddrPort
	// TLVs are the extensions of version 2, unparsed. After Parse they are a part of the bytes
	// that it was given.
	TLVs []byte
}

// MaxLength bounds a whole header. Version 2 could say 65,551 bytes. HAProxy sends and
// receives no more than its buffer of 16 KiB; nginx receives 4 KiB.
const MaxLength = 16 << 10

var (
	// ErrIncomplete means that a header has begun, and more bytes are needed.
	ErrIncomplete = errors.New("the PROXY header is incomplete")
	ErrNoHeader   = errors.New("no PROXY header")
	ErrLine       = errors.New("the line of a PROXY header is malformed")
	ErrVersion    = errors.New("unknown version or command of a PROXY header")
	ErrTooLong    = errors.New("the PROXY header is too long")
	ErrFamily     = errors.New("unknown address family or transport in a PROXY header")
	ErrAddress    = errors.New("the addresses of the PROXY header do not fit its family")
	ErrTLV        = errors.New("a TLV of the PROXY header is malformed")
	ErrChecksum   = errors.New("the checksum of the PROXY header is wrong")
)

const (
	signatureV1 = "PROXY "
	signatureV2 = "\r\n\r\n\x00\r\nQUIT\n"
	minV1       = len("PROXY UNKNOWN\r\n")
)

// Parse reads the header with which b begins; n is its length. With ErrIncomplete n is how
// many bytes are needed, more than len(b), though they may turn out not to be enough. More
// bytes never change another error.
func Parse(b []byte) (h Header, n int, err error) {
	switch {
	case beginsLike(b, signatureV1):
		return parseV1(b)
	case beginsLike(b, signatureV2):
		return parseV2(b)
	}
	return Header{}, 0, ErrNoHeader
}

// IsVersion2 reports whether b begins with the signature of version 2.
func IsVersion2(b []byte) bool { return len(b) >= len(signatureV2) && beginsLike(b, signatureV2) }

// beginsLike reports whether b begins with a signature, as far as b goes.
func beginsLike(b []byte, signature string) bool {
	n := min(len(b), len(signature))
	return string(b[:n]) == signature[:n]
}

// hasAddresses reports whether the header names IP addresses.
func (h *Header) hasAddresses() bool {
	return !h.Local && h.Source.IsValid() && h.Destination.IsValid()
}

// isIPv4 reports whether both addresses are IPv4. A mixed pair is sent as IPv6, with the
// IPv4 address mapped.
func (h *Header) isIPv4() bool {
	return h.Source.Addr().Unmap().Is4() && h.Destination.Addr().Unmap().Is4()
}

// unmapped returns an address without a zone and not IPv4-mapped.
func unmapped(a netip.AddrPort) netip.AddrPort {
	return netip.AddrPortFrom(a.Addr().Unmap().WithZone(""), a.Port())
}
