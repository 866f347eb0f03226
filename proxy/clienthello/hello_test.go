package clienthello

import (
	"bytes"
	"crypto/ecdh"
	"crypto/rand"
	"crypto/tls"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"strings"
	"testing"
)

// pipe is one end of a connection: it reads from one buffer, and writes to another.
type pipe struct {
	net.Conn
	in, out bytes.Buffer
}

func (p *pipe) Read(b []byte) (int, error)  { return p.in.Read(b) }
func (p *pipe) Write(b []byte) (int, error) { return p.out.Write(b) }

// hello returns the ClientHello of crypto/tls.
func hello(t testing.TB, c *tls.Config) []byte {
	t.Helper()
	var p pipe
	if err := tls.Client(&p, c).Handshake(); !errors.Is(err, io.EOF) {
		t.Fatal(err)
	}
	return p.out.Bytes()
}

// serve returns what a server of crypto/tls finds in a ClientHello; nil if it refuses it.
func serve(b []byte) *tls.ClientHelloInfo {
	var p pipe
	p.in.Write(b)
	var found *tls.ClientHelloInfo
	_ = tls.Server(&p, &tls.Config{GetConfigForClient: func(info *tls.ClientHelloInfo) (*tls.Config, error) {
		found = info
		return nil, io.EOF
	}}).Handshake()
	return found
}

// cut makes records of n bytes out of one record.
func cut(b []byte, n int) (out []byte) {
	for part := range slices.Chunk(b[recordHead:], n) {
		out = append(out, b[0], b[1], b[2], byte(len(part)>>8), byte(len(part)))
		out = append(out, part...)
	}
	return out
}

// frame makes a record of the body of a ClientHello.
func frame(body string) []byte {
	n := len(body)
	out := []byte{typeHandshake, 3, 1, byte((n + 4) >> 8), byte(n + 4), typeClientHello, 0, byte(n >> 8), byte(n)}
	return append(out, body...)
}

// u16 puts the length before bytes.
func u16(s string) string { return string(binary.BigEndian.AppendUint16(nil, uint16(len(s)))) + s }

// before is a ClientHello up to its extensions, with a cipher suite for GREASE.
var before = "\x03\x03" + strings.Repeat("r", 32) + "\x01s" + u16("\x0a\x0a\x13\x01") + "\x01\x00"

func extension(kind uint16, data string) string {
	return string(binary.BigEndian.AppendUint16(nil, kind)) + u16(data)
}

func serverName(name string) string { return extension(0, u16("\x00"+u16(name))) }

// echConfig is a list with one configuration, whose public name is the outer one.
func echConfig(t testing.TB, name string) []byte {
	key, err := ecdh.X25519().GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	content := "\x01\x00\x20" + u16(string(key.PublicKey().Bytes())) + u16("\x00\x01\x00\x01") +
		"\x20" + string(byte(len(name))) + name + "\x00\x00"
	return []byte(u16("\xfe\x0d" + u16(content)))
}

// hellos are ClientHellos of crypto/tls under many configurations.
func hellos(t testing.TB) map[string][]byte {
	all := make(map[string][]byte)
	names := []string{"a.example.com", "UPPER.Example.COM", "dot.example.com.", "192.0.2.1", "under_score", ""}
	protocols := [][]string{nil, {"h2"}, {"h2", "http/1.1"}, slices.Repeat([]string{strings.Repeat("x", 255)}, 4)}
	versions := [][2]uint16{{tls.VersionTLS10, tls.VersionTLS10}, {tls.VersionTLS10, tls.VersionTLS12}, {tls.VersionTLS12, tls.VersionTLS13}, {tls.VersionTLS13, tls.VersionTLS13}}
	for _, name := range names {
		for i, p := range protocols {
			for _, v := range versions {
				c := &tls.Config{ServerName: name, NextProtos: p, MinVersion: v[0], MaxVersion: v[1], InsecureSkipVerify: true}
				all[fmt.Sprintf("%s, protocols %d, %x-%x", name, i, v[0], v[1])] = hello(t, c)
			}
		}
	}
	all["one curve"] = hello(t, &tls.Config{ServerName: "curve.example.com", CurvePreferences: []tls.CurveID{tls.CurveP521}})
	all["encrypted"] = hello(t, &tls.Config{ServerName: "inner.example.com", NextProtos: []string{"h2"}, MinVersion: tls.VersionTLS13,
		EncryptedClientHelloConfigList: echConfig(t, "outer.example.com")})
	all["grease"] = frame(before + u16(extension(0x0a0a, "")+extension(0xfe0d, "\x00\x00\x01\x00\x01\x01"+u16(strings.Repeat("k", 32))+u16(strings.Repeat("e", 200)))+
		serverName("grease.example.com")+extension(16, u16("\x02\x1a\x1a\x02h2"))+extension(0xfafa, "\x00")))
	all["no extensions"] = frame(before)
	return all
}

// TestParseLikeAServer compares with crypto/tls what ClientHellos hold, whole and in records
// of all sizes.
func TestParseLikeAServer(t *testing.T) {
	t.Parallel()
	for name, b := range hellos(t) {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			info := serve(b)
			if info == nil {
				t.Fatal("crypto/tls refuses it")
			}
			for _, n := range []int{1, 2, 3, 5, 100, 1000, maxRecord} {
				in := cut(b, n)
				if len(in) > MaxLength {
					continue
				}
				h, err := Parse(append(in, "application data"...))
				if err != nil || h.ServerName != strings.ToLower(info.ServerName) {
					t.Fatalf("records of %d: server name %q, %v; want %q", n, h.ServerName, err, info.ServerName)
				}
				for _, p := range info.SupportedProtos {
					if !h.HasProtocol(p) {
						t.Errorf("records of %d: no protocol %q", n, p)
					}
				}
				if h.HasProtocol("") || h.HasProtocol("h") || h.HasProtocol("http/0.9") || len(info.SupportedProtos) == 0 && h.HasProtocol("h2") {
					t.Error("a protocol that is not offered")
				}
				for i := range in {
					if n < 100 && i%97 > 0 {
						continue // each prefix is a walk over its records
					}
					if _, err := Parse(in[:i]); err != ErrIncomplete {
						t.Fatalf("records of %d: the first %d bytes: %v", n, i, err)
					}
				}
			}
		})
	}
	if h, err := Parse(hellos(t)["encrypted"]); err != nil || h.ServerName != "outer.example.com" {
		t.Errorf("server name %q, %v", h.ServerName, err)
	}
}

func TestParseErrors(t *testing.T) {
	t.Parallel()
	withExtensions := func(s string) string { return string(frame(before + u16(s))) }
	withName := func(s string) string { return withExtensions(serverName(s)) }
	one := withName("a.example.com")
	for _, c := range []struct {
		name, in string
		want     error
	}{
		{"http", "GET / HTTP/1.1\r\n", ErrNotTLS},
		{"SSLv2", "\x80\x2e\x01\x03\x01", ErrNotTLS},
		{"alert", "\x15\x03\x01\x00\x02\x02\x28", ErrNotTLS},
		{"DTLS", "\x16\xfe\xff", ErrNotTLS},
		{"ServerHello", "\x16\x03\x01\x00\x04\x02\x00\x00\x00", ErrMalformed},
		{"empty record", "\x16\x03\x01\x00\x00", ErrMalformed},
		{"large record", "\x16\x03\x01\x40\x01", ErrMalformed},
		{"large message", "\x16\x03\x01\x40\x00\x01\x00\x40\x01", ErrTooLong},
		{"data amid", one[:3] + "\x00\x05" + one[5:10] + "\x17\x03\x03\x00\x05", ErrMalformed},
		{"many records", string(cut(frame(before+u16(extension(21, strings.Repeat("\x00", 9000)))), 1)), ErrTooLong},
		{"cut session", string(frame("\x03\x03" + strings.Repeat("r", 32) + "\x02s")), ErrMalformed},
		{"odd suites", string(frame("\x03\x03" + strings.Repeat("r", 32) + "\x00\x00\x03abc\x01\x00")), ErrMalformed},
		{"more behind the extensions", string(frame(before + u16("") + "x")), ErrMalformed},
		{"cut extension", withExtensions("\x00\x10\x00\x01"), ErrMalformed},
		{"name twice", withExtensions(serverName("a") + serverName("b")), ErrMalformed},
		{"two names", withExtensions(extension(0, u16("\x00"+u16("a")+"\x00"+u16("b")))), ErrMalformed},
		{"no name", withExtensions(extension(0, u16(""))), ErrMalformed},
		{"empty name", withName(""), ErrMalformed},
		{"cut name", withExtensions(extension(0, u16("\x00\x00\x02a"))), ErrMalformed},
		{"byte behind the names", withExtensions(extension(0, u16("\x00"+u16("a"))+"x")), ErrMalformed},
		{"root", withName("."), ErrServerName},
		{"empty label", withName("a..b"), ErrServerName},
		{"space", withName("a b"), ErrServerName},
		{"line feed", withName("a\nb"), ErrServerName},
		{"IPv6 address", withName("[::1]"), ErrServerName},
		{"wildcard", withName("*.example.com"), ErrServerName},
		{"long label", withName(strings.Repeat("a", 64)), ErrServerName},
		{"long name", withName(strings.Repeat("a.", 126) + "bc"), ErrServerName},
		{"protocols twice", withExtensions(extension(16, u16("\x02h2")) + extension(16, u16("\x02h2"))), ErrMalformed},
		{"no protocols", withExtensions(extension(16, u16(""))), ErrMalformed},
		{"empty protocol", withExtensions(extension(16, u16("\x00"))), ErrMalformed},
		{"cut protocol", withExtensions(extension(16, u16("\x03h2"))), ErrMalformed},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			for i := 0; i < len(c.in); i += 1 + i/64 {
				if _, err := Parse([]byte(c.in[:i])); err != ErrIncomplete && err != c.want {
					t.Fatalf("the first %d bytes: %v", i, err)
				}
			}
			if _, err := Parse([]byte(c.in)); err != c.want {
				t.Errorf("error %v, want %v", err, c.want)
			}
		})
	}
}

func TestServerNames(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("a.", 126) + "b"
	for in, want := range map[string]string{
		"a": "a", "A-1_b.Example": "a-1_b.example", "dot.": "dot", "192.0.2.1": "192.0.2.1",
		"xn--bcher-kva.example": "xn--bcher-kva.example", long + ".": long,
	} {
		for _, extensions := range []string{
			serverName(in),
			extension(0, u16("\x07"+u16("other kind")+"\x00"+u16(in))),
		} {
			if h, err := Parse(frame(before + u16(extensions))); err != nil || h.ServerName != want {
				t.Errorf("%q: %q, %v; want %q", in, h.ServerName, err, want)
			}
		}
	}
	if h, err := Parse(frame(before + u16(extension(0, u16("\x07"+u16("other kind")))))); err != nil || h.ServerName != "" {
		t.Errorf("a name of another kind: %q, %v", h.ServerName, err)
	}
}

// TestLargestHello: a message of 16 KiB in two records is read, which a record cannot hold.
func TestLargestHello(t *testing.T) {
	t.Parallel()
	name := serverName("a.example.com")
	padding := maxMessage - len(before) - 2 - len(name) - 4
	body := before + u16(extension(21, strings.Repeat("\x00", padding))+name)
	in := cut(append([]byte("\x16\x03\x01\x00\x00\x01\x00\x40\x00"), body...), maxRecord)
	if h, err := Parse(in); err != nil || h.ServerName != "a.example.com" || len(body) != maxMessage {
		t.Errorf("%d bytes: %q, %v", len(body), h.ServerName, err)
	}
}

func TestAllocs(t *testing.T) {
	b := hello(t, &tls.Config{ServerName: "a.example.com", NextProtos: []string{"h2"}})
	n := testing.AllocsPerRun(100, func() {
		if h, err := Parse(b); err != nil || !h.HasProtocol("h2") {
			t.Error(err)
		}
		if _, err := Parse(b[:len(b)-1]); err != ErrIncomplete {
			t.Error(err)
		}
	})
	if n > 1 {
		t.Errorf("%v allocations", n)
	}
}
