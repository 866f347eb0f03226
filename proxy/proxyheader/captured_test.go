package proxyheader

import (
	"bufio"
	"bytes"
	_ "embed"
	"errors"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/pires/go-proxyproto"
)

//go:embed testdata/captured.txt
var captured string

// eachCaptured calls f with headers of other proxies.
func eachCaptured(t testing.TB, f func(name string, header []byte)) {
	for line := range strings.Lines(captured) {
		name, quoted, ok := strings.Cut(strings.TrimSpace(line), ` "`)
		if !ok {
			continue
		}
		header, err := strconv.Unquote(`"` + quoted)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		f(name, []byte(header))
	}
}

// TestCaptured reads headers of other proxies, and writes them again byte for byte. The
// checksum is one of those bytes.
func TestCaptured(t *testing.T) {
	t.Parallel()
	eachCaptured(t, func(name string, b []byte) {
		h, n, err := Parse(b)
		if err != nil || n != len(b) {
			t.Errorf("%s: Parse = %d, %v; want %d", name, n, err, len(b))
		}
		isLocal := strings.Contains(name, " unix") || strings.Contains(name, "v2") && strings.Contains(name, " check")
		if h.Local != isLocal || !isLocal && !h.Source.Addr().IsLoopback() {
			t.Errorf("%s: %+v", name, h)
		}
		again := AppendV1(nil, &h)
		if h.Version == 2 {
			again = AppendV2(nil, &h)
		}
		if !bytes.Equal(again, b) && !(h.Version == 2 && h.Local) {
			t.Errorf("%s: written again\n got %q\nwant %q", name, again, b)
		}
		hasID := strings.Contains(name, "v2-") && strings.Contains(name, "options") || strings.Contains(name, "ssl-cn")
		if id := UniqueID(h.TLVs); hasID && !isLocal && !bytes.Contains(id, []byte("7F000001:")) && !bytes.Contains(id, []byte("00000001:")) {
			t.Errorf("%s: unique id %q", name, id)
		}
	})
}

// FuzzParse holds that prefixes of some bytes are incomplete or end as the whole does, that a
// header survives writing and reading, and that the library reads the same.
func FuzzParse(f *testing.F) {
	eachCaptured(f, func(_ string, b []byte) { f.Add(b, uint16(13)) })
	for _, s := range []string{v2(0x21, 0x12, inet), v2(0x21, 0x22, inet6), v2(0x21, 0x31, paths), v2(0x21, 0, "\x04\x00\x00")} {
		f.Add([]byte(s), uint16(16))
	}
	f.Fuzz(func(t *testing.T, b []byte, prefix uint16) {
		h, n, err := Parse(b)
		part := b[:min(int(prefix), len(b))]
		switch _, m, early := Parse(part); {
		case early == ErrIncomplete && m <= len(part):
			t.Fatalf("%d bytes are needed, and there", m)
		case early == ErrIncomplete && err == nil && m > n:
			t.Fatalf("%d bytes are needed of %d", m, n)
		case early == nil && m == n || early == ErrIncomplete || early == err:
		default:
			t.Fatalf("%d, %v, but the first %d bytes: %d, %v", n, err, prefix, m, early)
		}
		compare(t, b, &h, n, err)
		if err != nil {
			return
		}
		checkWritten(t, &h)
	})
}

// checkWritten writes a header in both versions and reads it.
func checkWritten(t *testing.T, h *Header) {
	want := *h
	want.Version = 2
	if !h.hasAddresses() {
		want = Header{Version: 2, Local: true}
	}
	b := AppendV2(nil, h)
	if got, n, err := Parse(b); err != nil || n != len(b) || !cmp.Equal(got, want, comparable...) {
		t.Fatalf("version 2: %d of %d, %v\n%s", n, len(b), err, cmp.Diff(want, got, comparable...))
	}
	want = Header{Version: 1, Local: !h.hasAddresses(), Source: h.Source, Destination: h.Destination}
	b = AppendV1(nil, h)
	if got, n, err := Parse(b); err != nil || n != len(b) || !cmp.Equal(got, want, comparable...) {
		t.Fatalf("version 1: %d of %d, %v\n%s", n, len(b), err, cmp.Diff(want, got, comparable...))
	}
}

// compare holds a result against the library's, which refuses a PROXY header without
// addresses, a family that is unknown although it is LOCAL, and more than 4 KiB; but no TLV.
func compare(t *testing.T, b []byte, h *Header, n int, err error) {
	reader := bufio.NewReaderSize(bytes.NewReader(b), MaxLength)
	library, libraryErr := proxyproto.Read(reader)
	switch {
	case h.Version == 2 && !h.hasAddresses() && libraryErr != nil, n > int(proxyproto.MaxV2HeaderSize):
	case errors.Is(err, ErrTLV), errors.Is(err, ErrChecksum):
	case (err == nil) != (libraryErr == nil):
		t.Fatalf("%v, but the library: %v", err, libraryErr)
	case err == nil && h.hasAddresses():
		if s, d := addrPort(library.SourceAddr), addrPort(library.DestinationAddr); s != h.Source || d != h.Destination {
			t.Fatalf("%v to %v, but the library: %v to %v", h.Source, h.Destination, s, d)
		}
	}
}
