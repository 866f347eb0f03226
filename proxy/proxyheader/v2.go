package proxyheader

import (
	"encoding/binary"
	"net/netip"

	"github.com/pires/go-proxyproto"
)

// The fixed part of version 2: signature, version and command, family and transport, and the
// length of what follows.
const fixedV2 = len(signatureV2) + 4

// addressSize returns the size of the addresses of a family and transport.
func addressSize(family proxyproto.AddressFamilyAndProtocol) (n int, isKnown bool) {
	switch family {
	case proxyproto.UNSPEC:
		return 0, true
	case proxyproto.TCPv4, proxyproto.UDPv4:
		return 2 * (4 + 2), true
	case proxyproto.TCPv6, proxyproto.UDPv6:
		return 2 * (16 + 2), true
	case proxyproto.UnixStream, proxyproto.UnixDatagram:
		return 2 * 108, true
	}
	return 0, false
}

// parseV2 reads a header that begins with the signature, as far as there are bytes. Of LOCAL
// it ignores family, addresses and TLVs, as the specification says.
func parseV2(b []byte) (Header, int, error) {
	h := Header{Version: 2}
	if i := len(signatureV2); len(b) > i {
		switch proxyproto.ProtocolVersionAndCommand(b[i]) {
		case proxyproto.LOCAL:
			h.Local = true
		case proxyproto.PROXY:
		default:
			return Header{}, 0, ErrVersion
		}
	}
	var family proxyproto.AddressFamilyAndProtocol
	var size int
	if i := len(signatureV2) + 1; len(b) > i && !h.Local {
		var isKnown bool
		family = proxyproto.AddressFamilyAndProtocol(b[i])
		if size, isKnown = addressSize(family); !isKnown {
			return Header{}, 0, ErrFamily
		}
	}
	if len(b) < fixedV2 {
		return Header{}, fixedV2, ErrIncomplete
	}
	length := int(binary.BigEndian.Uint16(b[fixedV2-2:]))
	n := fixedV2 + length
	switch {
	case n > MaxLength:
		return Header{}, 0, ErrTooLong
	case length < size:
		return Header{}, 0, ErrAddress
	case len(b) < n:
		return Header{}, n, ErrIncomplete
	case h.Local:
		return h, n, nil
	}
	h.Datagram = family.IsDatagram()
	h.readAddresses(b[fixedV2:][:size])
	h.TLVs = b[fixedV2+size : n : n]
	if err := checkTLVs(b[:n], len(h.TLVs)); err != nil {
		return Header{}, 0, err
	}
	return h, n, nil
}

// readAddresses reads the addresses of version 2, whose size tells the family. It skips those
// of unix sockets.
func (h *Header) readAddresses(b []byte) {
	var source, destination netip.Addr
	switch len(b) {
	default:
		return
	case 2 * (4 + 2):
		source, destination = netip.AddrFrom4([4]byte(b)), netip.AddrFrom4([4]byte(b[4:]))
	case 2 * (16 + 2):
		source, destination = netip.AddrFrom16([16]byte(b)), netip.AddrFrom16([16]byte(b[16:]))
	}
	ports := b[len(b)-4:]
	h.Source = unmapped(netip.AddrPortFrom(source, binary.BigEndian.Uint16(ports)))
	h.Destination = unmapped(netip.AddrPortFrom(destination, binary.BigEndian.Uint16(ports[2:])))
}

// AppendV2 appends the header of version 2. Without addresses it says LOCAL, as HAProxy does:
// HAProxy 2.6 refuses a PROXY of a family that is not IP. It writes the checksum anew if the
// TLVs have one. TLVs that would make the header longer than MaxLength are left out.
func AppendV2(dst []byte, h *Header) []byte {
	start := len(dst)
	dst = append(dst, signatureV2...)
	switch {
	case h.hasAddresses() && h.isIPv4():
		dst = appendFixed(dst, h, proxyproto.TCPv4, proxyproto.UDPv4)
		dst = append4(dst, h.Source.Addr())
		dst = append4(dst, h.Destination.Addr())
		dst = appendPorts(dst, h)
	case h.hasAddresses():
		dst = appendFixed(dst, h, proxyproto.TCPv6, proxyproto.UDPv6)
		dst = append16(dst, h.Source.Addr())
		dst = append16(dst, h.Destination.Addr())
		dst = appendPorts(dst, h)
	default:
		dst = append(dst, byte(proxyproto.LOCAL), byte(proxyproto.UNSPEC), 0, 0)
	}
	tlvs := h.TLVs
	if len(dst)-start+len(tlvs) > MaxLength {
		tlvs = nil
	}
	dst = append(dst, tlvs...)
	header := dst[start:]
	binary.BigEndian.PutUint16(header[fixedV2-2:], uint16(len(header)-fixedV2))
	putChecksum(header, len(tlvs))
	return dst
}

// appendFixed appends what follows the signature, with a length of zero.
func appendFixed(dst []byte, h *Header, stream, datagram proxyproto.AddressFamilyAndProtocol) []byte {
	if h.Datagram {
		stream = datagram
	}
	return append(dst, byte(proxyproto.PROXY), byte(stream), 0, 0)
}

func append4(dst []byte, a netip.Addr) []byte {
	b := a.Unmap().As4()
	return append(dst, b[:]...)
}

func append16(dst []byte, a netip.Addr) []byte {
	b := a.As16()
	return append(dst, b[:]...)
}

func appendPorts(dst []byte, h *Header) []byte {
	dst = binary.BigEndian.AppendUint16(dst, h.Source.Port())
	return binary.BigEndian.AppendUint16(dst, h.Destination.Port())
}
