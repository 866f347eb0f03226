package proxyheader

import (
	"errors"
	"net/netip"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
)

var comparable = []cmp.Option{
	cmp.Comparer(func(a, b netip.AddrPort) bool { return a == b }),
	cmpopts.EquateEmpty(),
}

// v2 is a header of version 2 with the right length.
func v2(command, family byte, rest string) string {
	return signatureV2 + string([]byte{command, family, byte(len(rest) >> 8), byte(len(rest))}) + rest
}

// pair is a header with two IP addresses.
func pair(version int, source, destination string) Header {
	return Header{Version: version, Source: netip.MustParseAddrPort(source), Destination: netip.MustParseAddrPort(destination)}
}

const (
	inet  = "\x0a\x00\x00\x01\x0a\x00\x00\x02\x04\xd2\x01\xbb"
	inet6 = "\x20\x01\x0d\xb8\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x01" +
		"\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\xff\xff\x0a\x00\x00\x02\x04\xd2\x01\xbb"
	mapped = "\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\xff\xff\x0a\x00\x00\x01" +
		"\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\xff\xff\x0a\x00\x00\x02\x04\xd2\x01\xbb"
)

// paths are those of a unix socket.
var paths = "/run/a" + strings.Repeat("\x00", 102) + "\x00b" + strings.Repeat("\x00", 106)

func with(h Header, change func(*Header)) Header {
	change(&h)
	return h
}

func TestParse(t *testing.T) {
	t.Parallel()
	v4 := pair(2, "10.0.0.1:1234", "10.0.0.2:443")
	for _, c := range []struct {
		name, in string
		want     Header
	}{
		{"v1 TCP4", "PROXY TCP4 10.0.0.1 10.0.0.2 1234 443\r\n", pair(1, "10.0.0.1:1234", "10.0.0.2:443")},
		{"v1 TCP6", "PROXY TCP6 2001:db8::1 2001:DB8::2 0 65535\r\n", pair(1, "[2001:db8::1]:0", "[2001:db8::2]:65535")},
		{"v1 mapped", "PROXY TCP6 ::ffff:10.0.0.1 ::ffff:a00:2 1 2\r\n", pair(1, "10.0.0.1:1", "10.0.0.2:2")},
		{"v1 mixed", "PROXY TCP6 ::ffff:10.0.0.1 2001:db8::2 1 2\r\n", pair(1, "10.0.0.1:1", "[2001:db8::2]:2")},
		{"v1 UNKNOWN", "PROXY UNKNOWN\r\n", Header{Version: 1, Local: true}},
		{"v1 UNKNOWN, long", "PROXY UNKNOWN " + strings.Repeat("f", 91) + "\r\n", Header{Version: 1, Local: true}},
		{"TCP4", v2(0x21, 0x11, inet), v4},
		{"UDP4", v2(0x21, 0x12, inet), with(v4, func(h *Header) { h.Datagram = true })},
		{"TCP6, mixed", v2(0x21, 0x21, inet6), pair(2, "[2001:db8::1]:1234", "10.0.0.2:443")},
		{"UDP6, mapped", v2(0x21, 0x22, mapped), with(v4, func(h *Header) { h.Datagram = true })},
		{"unix", v2(0x21, 0x31, paths+"\xe0\x00\x01x"), Header{Version: 2, TLVs: []byte("\xe0\x00\x01x")}},
		{"unixgram", v2(0x21, 0x32, paths), Header{Version: 2, Datagram: true}},
		{"UNSPEC", v2(0x21, 0, ""), Header{Version: 2}},
		{"UNSPEC with a TLV", v2(0x21, 0, "\xe0\x00\x01x"), Header{Version: 2, TLVs: []byte("\xe0\x00\x01x")}},
		{"TLVs", v2(0x21, 0x11, inet+"\x04\x00\x00\x05\x00\x02id"),
			with(v4, func(h *Header) { h.TLVs = []byte("\x04\x00\x00\x05\x00\x02id") })},
		{"checksum", v2(0x21, 0x11, inet+"\x03\x00\x04\xbe\xd2\x9a\x65"),
			with(v4, func(h *Header) { h.TLVs = []byte("\x03\x00\x04\xbe\xd2\x9a\x65") })},
		{"LOCAL", v2(0x20, 0, ""), Header{Version: 2, Local: true}},
		{"LOCAL with anything", v2(0x20, 0x77, "\x03\x00"), Header{Version: 2, Local: true}},
		{"as long as can be", v2(0x21, 0, "\xe0\x3f\xed"+strings.Repeat("x", 0x3fed)),
			Header{Version: 2, TLVs: []byte("\xe0\x3f\xed" + strings.Repeat("x", 0x3fed))}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			h, n, err := Parse([]byte(c.in + "GET /"))
			if err != nil || n != len(c.in) {
				t.Fatalf("Parse = %d, %v; want %d", n, err, len(c.in))
			}
			if diff := cmp.Diff(c.want, h, comparable...); diff != "" {
				t.Errorf("-want +got\n%s", diff)
			}
			for i := range c.in {
				if _, n, err := Parse([]byte(c.in[:i])); err != ErrIncomplete || n <= i || n > len(c.in) {
					t.Fatalf("Parse of the first %d bytes = %d, %v", i, n, err)
				}
			}
		})
	}
}

func TestParseErrors(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name, in string
		want     error
	}{
		{"http", "GET / HTTP/1.1\r\n\r\n", ErrNoHeader},
		{"no space", "PROXYTCP4 1.2.3.4 1.2.3.4 1 2\r\n", ErrNoHeader},
		{"two spaces", "PROXY  TCP4 1.2.3.4 1.2.3.4 1 2\r\n", ErrFamily},
		{"no CR", "PROXY TCP4 1.2.3.4 1.2.3.4 1 2\n", ErrLine},
		{"lower case", "PROXY tcp4 1.2.3.4 1.2.3.4 1 2\r\n", ErrFamily},
		{"more words", "PROXY TCP4 1.2.3.4 1.2.3.4 1 2 3\r\n", ErrFamily},
		{"port", "PROXY TCP4 1.2.3.4 1.2.3.4 1 65536\r\n", ErrAddress},
		{"octal", "PROXY TCP4 1.2.3.04 1.2.3.4 1 2\r\n", ErrAddress},
		{"zone", "PROXY TCP6 fe80::1%lo fe80::2 1 2\r\n", ErrAddress},
		{"other family", "PROXY TCP4 ::1 ::1 1 2\r\n", ErrAddress},
		{"endless", "PROXY TCP4 " + strings.Repeat("1", 96), ErrTooLong},
		{"106 bytes and LF", "PROXY UNKNOWN " + strings.Repeat("f", 92) + "\r\n", ErrTooLong},
		{"http/2", "\r\n\r\n\x00\r\nQUIT\r", ErrNoHeader},
		{"version 3", signatureV2 + "\x31", ErrVersion},
		{"command 2", signatureV2 + "\x22", ErrVersion},
		{"family 4", signatureV2 + "\x21\x41", ErrFamily},
		{"transport 3", signatureV2 + "\x21\x13", ErrFamily},
		{"transport alone", signatureV2 + "\x21\x01", ErrFamily},
		{"short addresses", signatureV2 + "\x21\x21\x00\x23", ErrAddress},
		{"too long", signatureV2 + "\x21\x21\x3f\xf1", ErrTooLong},
		{"too long, LOCAL", signatureV2 + "\x20\x00\xff\xff", ErrTooLong},
		{"half a TLV", v2(0x21, 0x11, inet+"\x04\x00"), ErrTLV},
		{"long TLV", v2(0x21, 0x11, inet+"\x04\x00\x02x"), ErrTLV},
		{"long id", v2(0x21, 0x11, inet+"\x05\x00\x81"+strings.Repeat("x", 0x81)), ErrTLV},
		{"short checksum", v2(0x21, 0x11, inet+"\x03\x00\x03abc"), ErrTLV},
		{"two checksums", v2(0x21, 0x11, inet+strings.Repeat("\x03\x00\x04\xbe\xd2\x9a\x65", 2)), ErrTLV},
		{"wrong checksum", v2(0x21, 0x11, inet+"\x03\x00\x04\xbe\xd2\x9a\x64"), ErrChecksum},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			for i := range len(c.in) + 1 {
				if _, _, err := Parse([]byte(c.in[:i])); err != c.want && !errors.Is(err, ErrIncomplete) || err == nil {
					t.Fatalf("Parse of the first %d bytes = %v", i, err)
				}
			}
			if _, _, err := Parse([]byte(c.in)); err != c.want {
				t.Errorf("Parse = %v, want %v", err, c.want)
			}
		})
	}
}

func TestAppend(t *testing.T) {
	t.Parallel()
	v4 := pair(2, "10.0.0.1:1234", "10.0.0.2:443")
	for _, c := range []struct {
		name   string
		h      Header
		v1, v2 string
	}{
		{"TCP4", v4, "PROXY TCP4 10.0.0.1 10.0.0.2 1234 443\r\n", v2(0x21, 0x11, inet)},
		{"UDP4", with(v4, func(h *Header) { h.Datagram = true }), "", v2(0x21, 0x12, inet)},
		{"mapped", pair(1, "[::ffff:10.0.0.1]:1234", "[::ffff:10.0.0.2]:443"), "PROXY TCP4 10.0.0.1 10.0.0.2 1234 443\r\n", v2(0x21, 0x11, inet)},
		{"mixed", pair(1, "[2001:db8::1%eth0]:1234", "10.0.0.2:443"), "PROXY TCP6 2001:db8::1 ::ffff:10.0.0.2 1234 443\r\n", v2(0x21, 0x21, inet6)},
		{"nobody", Header{}, "PROXY UNKNOWN\r\n", v2(0x20, 0, "")},
		{"LOCAL", with(v4, func(h *Header) { h.Local = true }), "PROXY UNKNOWN\r\n", v2(0x20, 0, "")},
		{"TLVs", with(v4, func(h *Header) { h.TLVs = AppendUniqueID([]byte("\x04\x00\x01\x00"), []byte("id")) }),
			"", v2(0x21, 0x11, inet+"\x04\x00\x01\x00\x05\x00\x02id")},
		{"checksum", with(v4, func(h *Header) { h.TLVs = []byte("\x03\x00\x04old!") }), "", v2(0x21, 0x11, inet+"\x03\x00\x04\xbe\xd2\x9a\x65")},
		{"too many TLVs", with(v4, func(h *Header) { h.TLVs = make([]byte, MaxLength-len(v2(0x21, 0x11, inet))+1) }), "", v2(0x21, 0x11, inet)},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			if got := string(AppendV1([]byte("a"), &c.h)); c.v1 != "" && got != "a"+c.v1 {
				t.Errorf("version 1: %q", got)
			}
			if got := string(AppendV2([]byte("a"), &c.h)); got != "a"+c.v2 {
				t.Errorf("version 2:\n got %q\nwant %q", got, "a"+c.v2)
			}
		})
	}
}

func TestUniqueID(t *testing.T) {
	t.Parallel()
	tlvs := AppendUniqueID([]byte("\x04\x00\x01\x00"), []byte(strings.Repeat("x", 200)))
	if got := UniqueID(tlvs); string(got) != strings.Repeat("x", maxUniqueID) {
		t.Errorf("unique id %q", got)
	}
	for _, tlvs := range []string{"", "\x04\x00\x01\x00", "\x05\x00\x02x"} {
		if got := UniqueID([]byte(tlvs)); got != nil {
			t.Errorf("unique id of %q: %q", tlvs, got)
		}
	}
}

// TestAllocs: headers of version 2 may stand in every datagram.
func TestAllocs(t *testing.T) {
	h := pair(2, "[2001:db8::1]:1234", "10.0.0.2:443")
	h.TLVs = AppendUniqueID(nil, []byte("0123456789abcdef"))
	var b []byte
	other := []byte("GET / HTTP/1.1\r\n")
	work := func() {
		b = AppendV2(AppendV1(b[:0], &h), &h)
		b = AppendV2(b[:0], &h)
		if _, _, err := Parse(b); err != nil {
			t.Error(err)
		}
		if _, _, err := Parse(other); err != ErrNoHeader {
			t.Error(err)
		}
	}
	work()
	if n := testing.AllocsPerRun(100, work); n != 0 {
		t.Errorf("%v allocations", n)
	}
}
