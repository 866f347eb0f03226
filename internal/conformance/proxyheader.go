//go:build linux

package conformance

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"net/netip"
	"strings"
	"time"

	"github.com/pires/go-proxyproto"
)

// header formats a header of the PROXY protocol. It names the client source.
func (c *C) header(version byte, source string, tlvs ...proxyproto.TLV) string {
	return c.headerOf(proxyproto.HeaderProxyFromAddrs(version, addrOf("tcp", source), addrOf("tcp", destinationOf(source))), tlvs)
}

// datagramHeader is header in front of datagrams.
func (c *C) datagramHeader(source string) string {
	return c.headerOf(proxyproto.HeaderProxyFromAddrs(2, addrOf("udp", source), addrOf("udp", destinationOf(source))), nil)
}

func (c *C) headerOf(h *proxyproto.Header, tlvs []proxyproto.TLV) string {
	c.Must(h.SetTLVs(tlvs))
	text, err := h.Format()
	c.Must(err)
	return string(text)
}

// destinationOf returns an address of the family of source.
func destinationOf(source string) string {
	if netip.MustParseAddrPort(source).Addr().Is4() {
		return "192.0.2.80:80"
	}
	return "[2001:db8::80]:80"
}

func addrOf(network, addr string) net.Addr {
	ap := netip.MustParseAddrPort(addr)
	if network == "udp" {
		return net.UDPAddrFromAddrPort(ap)
	}
	return net.TCPAddrFromAddrPort(ap)
}

// signature begins a header of version 2.
const signature = "\r\n\r\n\x00\r\nQUIT\n"

// HearHeader reads a header of the PROXY protocol.
func (e *Conn) HearHeader() (*proxyproto.Header, error) {
	e.SetReadDeadline(time.Now().Add(e.patience))
	h, raw, err := ReadHeader(e.Conn)
	if err != nil {
		return nil, e.errorf("hear a PROXY header, got %.40q: %w", raw, short(err))
	}
	return h, nil
}

// ReadHeader reads a header of the PROXY protocol and not a byte more. It returns what it
// has read.
func ReadHeader(from io.Reader) (h *proxyproto.Header, raw []byte, err error) {
	take := func(n int) error {
		at := len(raw)
		raw = append(raw, make([]byte, n)...)
		n, err := io.ReadFull(from, raw[at:])
		raw = raw[:at+n]
		return err
	}
	if err = take(len("PROXY ")); err != nil {
		return nil, raw, err
	}
	switch {
	case string(raw) == "PROXY ":
		for err == nil && !bytes.HasSuffix(raw, []byte("\r\n")) && len(raw) < 107 {
			err = take(1)
		}
	case strings.HasPrefix(signature, string(raw)):
		if err = take(16 - len(raw)); err == nil {
			err = take(int(binary.BigEndian.Uint16(raw[14:])))
		}
	default:
		err = errors.New("something else came")
	}
	if len(raw) > 13 && raw[12] == byte(proxyproto.PROXY) && raw[13] == byte(proxyproto.UNSPEC) {
		raw[12] = byte(proxyproto.LOCAL) // the library refuses unknown addresses of a client
	}
	if err == nil {
		h, err = proxyproto.Read(bufio.NewReaderSize(bytes.NewReader(raw), len(raw)))
	}
	return h, raw, err
}

// sourceOf is the client that a header names; empty: none.
func sourceOf(h *proxyproto.Header) string {
	if h.Command.IsLocal() || !h.TransportProtocol.IsIPv4() && !h.TransportProtocol.IsIPv6() {
		return ""
	}
	return h.SourceAddr.String()
}

// HearSource reads a header that names a client.
func (e *Conn) HearSource(client string) error {
	h, err := e.HearHeader()
	if err == nil && sourceOf(h) != client {
		err = e.errorf("the PROXY header names client %q, and it is %s", sourceOf(h), client)
	}
	return err
}
