package proxyheader

import (
	"bufio"
	"bytes"
	"errors"
	"net/netip"
	"strconv"

	"github.com/pires/go-proxyproto"
)

// maxV1 is the length of the longest line, with CR LF.
const maxV1 = 107

// parseV1 reads a line that begins with the signature, as far as there are bytes.
func parseV1(b []byte) (Header, int, error) {
	n := bytes.IndexByte(b[:min(len(b), maxV1)], '\n') + 1
	switch {
	case n == 0 && len(b) >= maxV1:
		return Header{}, 0, ErrTooLong
	case n == 0:
		return Header{}, max(minV1, len(b)+1), ErrIncomplete
	}
	// The library wants the whole line in the reader's buffer.
	line, err := proxyproto.Read(bufio.NewReaderSize(bytes.NewReader(b[:n]), maxV1))
	switch {
	case errors.Is(err, proxyproto.ErrInvalidAddress), errors.Is(err, proxyproto.ErrInvalidPortNumber):
		return Header{}, 0, ErrAddress
	case errors.Is(err, proxyproto.ErrCantReadAddressFamilyAndProtocol):
		return Header{}, 0, ErrFamily
	case err != nil:
		return Header{}, 0, ErrLine
	case line.Command.IsLocal(): // UNKNOWN
		return Header{Version: 1, Local: true}, n, nil
	}
	h := Header{Version: 1, Source: addrPort(line.SourceAddr), Destination: addrPort(line.DestinationAddr)}
	return h, n, nil
}

// addrPort returns a TCP address of package net.
func addrPort(a any) netip.AddrPort {
	tcp, _ := a.(interface{ AddrPort() netip.AddrPort })
	return unmapped(tcp.AddrPort())
}

// AppendV1 appends the line of version 1. It says UNKNOWN without IP addresses, and leaves
// out TLVs.
func AppendV1(dst []byte, h *Header) []byte {
	if !h.hasAddresses() {
		return append(dst, "PROXY UNKNOWN\r\n"...)
	}
	family := "PROXY TCP6 "
	if h.isIPv4() {
		family = "PROXY TCP4 "
	}
	dst = append(dst, family...)
	dst = appendAddr(dst, h, h.Source.Addr())
	dst = append(dst, ' ')
	dst = appendAddr(dst, h, h.Destination.Addr())
	dst = append(dst, ' ')
	dst = strconv.AppendUint(dst, uint64(h.Source.Port()), 10)
	dst = append(dst, ' ')
	dst = strconv.AppendUint(dst, uint64(h.Destination.Port()), 10)
	return append(dst, "\r\n"...)
}

// appendAddr appends an address in the family of both.
func appendAddr(dst []byte, h *Header, a netip.Addr) []byte {
	a = a.Unmap().WithZone("")
	if a.Is4() && !h.isIPv4() {
		a = netip.AddrFrom16(a.As16())
	}
	return a.AppendTo(dst)
}
