package clienthello

import (
	"strings"
	"testing"
)

// FuzzParse holds that prefixes of some bytes are incomplete or end as the whole does, that
// records do not matter, and that crypto/tls finds the same name where it finds one.
func FuzzParse(f *testing.F) {
	for _, b := range hellos(f) {
		f.Add(b, uint16(7), uint16(100))
	}
	f.Fuzz(func(t *testing.T, b []byte, prefix, record uint16) {
		h, err := Parse(b)
		if _, early := Parse(b[:min(int(prefix), len(b))]); early != ErrIncomplete && early != err {
			t.Fatalf("%v, but the first %d bytes: %v", err, prefix, early)
		}
		if err != nil {
			return
		}
		if len(b) <= recordHead+maxRecord && len(b) == recordHead+int(b[3])<<8+int(b[4]) {
			again, err := Parse(cut(b, max(1, int(record), len(b)/100)))
			if err != nil || again.ServerName != h.ServerName || string(again.protocols) != string(h.protocols) {
				t.Fatalf("in records: %+v, %v; want %+v", again, err, h)
			}
		}
		if info := serve(b); info != nil {
			if want := strings.TrimSuffix(strings.ToLower(info.ServerName), "."); h.ServerName != want {
				t.Fatalf("server name %q, want %q", h.ServerName, want)
			}
			for _, p := range info.SupportedProtos {
				if !h.HasProtocol(p) {
					t.Fatalf("no protocol %q", p)
				}
			}
		}
	})
}
