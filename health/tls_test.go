package health_test

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/binary"
	"encoding/pem"
	"errors"
	"io"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"usher/health"
)

// identity is a self-signed certificate.
type identity struct {
	certificate tls.Certificate
	pem         []byte
}

// newIdentity returns one for names and addresses.
func newIdentity(t testing.TB, names ...string) identity {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber:          big.NewInt(1),
		Subject:               pkix.Name{CommonName: "test"},
		NotBefore:             time.Now().Add(-time.Hour),
		NotAfter:              time.Now().Add(time.Hour),
		KeyUsage:              x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign,
		IsCA:                  true,
		BasicConstraintsValid: true,
	}
	for _, name := range names {
		if ip := net.ParseIP(name); ip != nil {
			template.IPAddresses = append(template.IPAddresses, ip)
		} else {
			template.DNSNames = append(template.DNSNames, name)
		}
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	return identity{
		certificate: tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key},
		pem:         pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}),
	}
}

func file(t testing.TB, content []byte) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "ca.pem")
	if err := os.WriteFile(path, content, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func (i identity) trust(t testing.TB, serverName string) *health.TLS {
	t.Helper()
	secure, err := health.NewTLS(health.TLSOptions{ServerName: serverName, CAFile: file(t, i.pem)})
	if err != nil {
		t.Fatal(err)
	}
	return secure
}

// over returns a TLS listener.
func (i identity) over(ln net.Listener, protocols ...string) net.Listener {
	return tls.NewListener(ln, &tls.Config{Certificates: []tls.Certificate{i.certificate}, NextProtos: protocols})
}

func TestNewTLS(t *testing.T) {
	t.Parallel()
	good := newIdentity(t, "a").pem
	noise := []byte("-----BEGIN CERTIFICATE-----\nTk9OU0VOU0U=\n-----END CERTIFICATE-----\n")
	for _, tt := range []struct {
		name string
		o    health.TLSOptions
		want []string // in the error; none: no error
	}{
		{name: "nothing"},
		{name: "server name", o: health.TLSOptions{ServerName: "db.example.com"}},
		{name: "server address", o: health.TLSOptions{ServerName: "::1"}},
		{name: "name without verification", o: health.TLSOptions{ServerName: "a", SkipVerify: true}},
		{name: "authorities", o: health.TLSOptions{CAFile: file(t, slices.Concat([]byte("# two\n"), good, good))}},
		{name: "port in the name", o: health.TLSOptions{ServerName: "a:443"}, want: []string{"a:443", "without a port"}},
		{name: "no name", o: health.TLSOptions{ServerName: "a b"}, want: []string{"server name", "a b"}},
		{name: "no file", o: health.TLSOptions{CAFile: "/nowhere/ca.pem"}, want: []string{"CA file /nowhere/ca.pem", "no such file"}},
		{name: "directory", o: health.TLSOptions{CAFile: t.TempDir()}, want: []string{"CA file ", "directory"}},
		{name: "empty file", o: health.TLSOptions{CAFile: file(t, nil)}, want: []string{"ca.pem", "no certificate in PEM"}},
		{name: "a key", o: health.TLSOptions{CAFile: file(t, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: []byte("x")}))}, want: []string{"ca.pem", "no certificate"}},
		{name: "one of two is noise", o: health.TLSOptions{CAFile: file(t, slices.Concat(good, noise))}, want: []string{"ca.pem", "certificate 2"}},
		{name: "giant", o: health.TLSOptions{CAFile: file(t, bytes.Repeat([]byte("x"), 5<<20))}, want: []string{"ca.pem", "larger than"}},
		{name: "of no effect", o: health.TLSOptions{CAFile: file(t, good), SkipVerify: true}, want: []string{"ca.pem", "no effect"}},
	} {
		_, err := health.NewTLS(tt.o)
		expectRefusal(t, tt.name, err, tt.want)
	}
}

// expectRefusal expects a one-line error with all of want, or none if want is empty.
func expectRefusal(t *testing.T, name string, err error, want []string) {
	t.Helper()
	if (err != nil) != (len(want) > 0) {
		t.Errorf("%s: %v, want an error with %q", name, err, want)
		return
	}
	if err == nil {
		return
	}
	if strings.Contains(err.Error(), "\n") || len(err.Error()) > 300 {
		t.Errorf("%s: not a line: %v", name, err)
	}
	for _, word := range want {
		if !strings.Contains(err.Error(), word) {
			t.Errorf("%s: %v, want it to have %q", name, err, word)
		}
	}
}

func TestTLSVerifies(t *testing.T) {
	t.Parallel()
	local, other, stranger := newIdentity(t, "127.0.0.1", "localhost"), newIdentity(t, "other.example"), newIdentity(t, "127.0.0.1")
	skip, err := health.NewTLS(health.TLSOptions{SkipVerify: true})
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		name    string
		network string
		server  identity
		client  *health.TLS
		want    string
	}{
		{"address", "tcp", local, local.trust(t, ""), ""},
		{"unix socket", "unix", local, local.trust(t, ""), ""},
		{"name", "tcp", other, other.trust(t, "other.example"), ""},
		{"name on a unix socket", "unix", other, other.trust(t, "other.example"), ""},
		{"wrong name", "tcp", local, local.trust(t, "else.example"), "else.example"},
		{"not the address", "tcp", other, other.trust(t, ""), "127.0.0.1"},
		{"stranger", "tcp", stranger, local.trust(t, ""), "TLS handshake"},
		{"anybody", "tcp", stranger, skip, ""},
		{"system", "tcp", stranger, mustTLS(t), "TLS handshake"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			ln, target := listen(t, tt.network)
			serveConns(t, tt.server.over(ln), func(conn net.Conn) {
				_, _ = io.WriteString(conn, "220 hello\r\n")
				hear(conn)
			})
			c := newSendExpect(t, []health.Step{{Expect: []string{"220"}, Anchored: true}, {Send: "QUIT\r\n"}}, tt.client)
			expectError(t, check(t, c, target, false), tt.want)
		})
	}
}

func mustTLS(t testing.TB) *health.TLS {
	t.Helper()
	secure, err := health.NewTLS(health.TLSOptions{})
	if err != nil {
		t.Fatal(err)
	}
	return secure
}

// A check ends TLS and TCP cleanly: the last record is an alert, visible in TLS 1.2, and
// then comes a FIN.
func TestTLSCleanEnd(t *testing.T) {
	t.Parallel()
	ln, target := listen(t, "tcp")
	me := newIdentity(t, "127.0.0.1")
	type ending struct {
		record byte
		err    error
	}
	ended := make(chan ending, 1)
	serveConns(t, ln, func(raw net.Conn) {
		spied := &spy{Conn: raw}
		conn := tls.Server(spied, &tls.Config{Certificates: []tls.Certificate{me.certificate}, MaxVersion: tls.VersionTLS12})
		_, _ = io.WriteString(conn, "220 hello\r\n"+strings.Repeat("x", 25_000))
		_, _ = io.ReadAll(conn)
		_, err := raw.Read(make([]byte, 1))
		ended <- ending{spied.lastRecord(), err}
	})
	c := newSendExpect(t, []health.Step{{Expect: []string{"220"}}}, me.trust(t, ""))
	expectError(t, check(t, c, target, false), "")
	const alert = 21
	if got := <-ended; got.record != alert || !errors.Is(got.err, io.EOF) {
		t.Errorf("the server saw a record of type %d and %v, want an alert and a clean end", got.record, got.err)
	}
}

// spy keeps what is read.
type spy struct {
	net.Conn
	read []byte
}

func (s *spy) Read(b []byte) (int, error) {
	n, err := s.Conn.Read(b)
	s.read = append(s.read, b[:n]...)
	return n, err
}

// lastRecord is the type of the last whole TLS record (RFC 5246, 6.2.1).
func (s *spy) lastRecord() (kind byte) {
	for b := s.read; len(b) >= 5; {
		kind = b[0]
		b = b[min(len(b), 5+int(binary.BigEndian.Uint16(b[3:]))):]
	}
	return kind
}

// Bytes of the handshake do not count as a reply.
func TestTLSSilentAfterTheHandshake(t *testing.T) {
	t.Parallel()
	me := newIdentity(t, "127.0.0.1")
	trust := me.trust(t, "")
	for name, c := range map[string]health.Checker{
		"http":        newHTTP(t, health.HTTPOptions{TLS: trust}),
		"send/expect": newSendExpect(t, []health.Step{{Expect: []string{"220"}}}, trust),
		"grpc":        newGRPC(t, health.GRPCOptions{TLS: trust}),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			ln, target := listen(t, "tcp")
			serveConns(t, ln, func(raw net.Conn) {
				// TLS 1.3 sends tickets after the handshake.
				conn := tls.Server(raw, &tls.Config{Certificates: []tls.Certificate{me.certificate}, MaxVersion: tls.VersionTLS12, NextProtos: []string{"h2", "http/1.1"}})
				hear(conn)
			})
			expectCheck(t, c, target, true, "no reply in time")
		})
	}
}
