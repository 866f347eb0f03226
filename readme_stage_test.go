package main

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"io"
	"math/big"
	"net"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/miekg/dns"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"usher/internal/kube/kubetest"
)

// readmeStage is what the commands of a block of the README find: servers at the addresses that stand there, and files.
type readmeStage struct {
	t       *testing.T
	root    string                 // of the repository
	home    string                 // HOME, and where the commands run
	env     []string               // beside HOME and PATH
	address func(netip.Addr) error // gives the machine an address
}

// listen has an address served until the test ends.
func (s *readmeStage) listen(address string) net.Listener {
	s.t.Helper()
	s.own(netip.MustParseAddrPort(address).Addr())
	l, err := net.Listen("tcp", address)
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(func() { _ = l.Close() })
	return l
}

func (s *readmeStage) own(a netip.Addr) {
	s.t.Helper()
	if a.IsLoopback() {
		return
	}
	if err := s.address(a); err != nil {
		s.t.Fatal(err)
	}
}

// answer is a web server that names its address.
func (s *readmeStage) answer(l net.Listener) {
	name := l.Addr().String()
	server := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		_, _ = io.WriteString(w, "backend "+name+"\n")
	})}
	s.t.Cleanup(func() { _ = server.Close() })
	go func() { _ = server.Serve(l) }() // ends with the server
}

func (s *readmeStage) serveHTTP(addresses ...string) {
	for _, a := range addresses {
		s.answer(s.listen(a))
	}
}

// serveTLS is a web server with a certificate of its own for a name, which curl trusts.
func (s *readmeStage) serveTLS(address, name string) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		s.t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: name}, DNSNames: []string{name}, NotAfter: time.Now().Add(time.Hour), IsCA: true, BasicConstraintsValid: true,
	}
	certificate, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		s.t.Fatal(err)
	}
	trusted, err := os.OpenFile(s.file("trusted.pem"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err == nil {
		err = pem.Encode(trusted, &pem.Block{Type: "CERTIFICATE", Bytes: certificate})
		_ = trusted.Close()
	}
	if err != nil {
		s.t.Fatal(err)
	}
	s.env = append(s.env, "CURL_CA_BUNDLE="+s.file("trusted.pem"))
	s.answer(tls.NewListener(s.listen(address), &tls.Config{
		Certificates: []tls.Certificate{{Certificate: [][]byte{certificate}, PrivateKey: key}},
	}))
}

// servePostgres answers the first message of a client as a PostgreSQL that is ready: with one of type R.
func (s *readmeStage) servePostgres(address string) {
	l := s.listen(address)
	go func() { // ends with the listener
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				_ = c.SetDeadline(time.Now().Add(patience))
				if _, err := io.ReadFull(c, make([]byte, 23)); err == nil {
					_, _ = io.WriteString(c, "R\x00\x00\x00\x08\x00\x00\x00\x00")
				}
			}()
		}
	}()
}

// serveDNS answers each question at port 53 with an address.
func (s *readmeStage) serveDNS(addresses ...string) {
	for _, a := range addresses {
		s.own(netip.MustParseAddr(a))
		conn, err := net.ListenPacket("udp", net.JoinHostPort(a, "53"))
		if err != nil {
			s.t.Fatal(err)
		}
		server := &dns.Server{PacketConn: conn, Handler: dns.HandlerFunc(func(w dns.ResponseWriter, q *dns.Msg) {
			reply := new(dns.Msg).SetReply(q)
			reply.Answer = []dns.RR{&dns.A{
				Hdr: dns.RR_Header{Name: q.Question[0].Name, Rrtype: dns.TypeA, Class: dns.ClassINET, Ttl: 60},
				A:   net.IPv4(192, 0, 2, 1),
			}}
			_ = w.WriteMsg(reply)
		})}
		s.t.Cleanup(func() { _ = conn.Close() })
		go func() { _ = server.ActivateAndServe() }() // ends with the socket
	}
}

// serveCluster is an API server with one Service, whose kubeconfig is where kubectl has it.
func (s *readmeStage) serveCluster() {
	server, err := kubetest.Start()
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(server.Close)
	s.serveHTTP("10.244.0.5:8080")
	name, port, isReady := "http", int32(8080), true
	meta := func(name string) metav1.ObjectMeta {
		return metav1.ObjectMeta{Name: name, Namespace: "default", Labels: map[string]string{discoveryv1.LabelServiceName: "web"}}
	}
	for _, o := range []kubetest.Object{
		&corev1.Service{ObjectMeta: meta("web"), Spec: corev1.ServiceSpec{
			Type: corev1.ServiceTypeClusterIP, ClusterIP: "10.96.0.10", ClusterIPs: []string{"10.96.0.10"},
			Ports: []corev1.ServicePort{{Name: name, Protocol: corev1.ProtocolTCP, Port: 8080}},
		}},
		&discoveryv1.EndpointSlice{
			ObjectMeta: meta("web-1"), AddressType: discoveryv1.AddressTypeIPv4,
			Ports:     []discoveryv1.EndpointPort{{Name: &name, Port: &port}},
			Endpoints: []discoveryv1.Endpoint{{Addresses: []string{"10.244.0.5"}, Conditions: discoveryv1.EndpointConditions{Ready: &isReady}}},
		},
	} {
		if err := server.Set(o); err != nil {
			s.t.Fatal(err)
		}
	}
	s.write(".kube/config", string(server.Kubeconfig()))
}

// writeConfig makes usher.yaml of the README's own example.
func (s *readmeStage) writeConfig() {
	for _, text := range readmeCode(s.t) {
		if strings.HasPrefix(text, "drain-timeout:") {
			s.write("usher.yaml", text)
		}
	}
}

func (s *readmeStage) copyFile(from, to string) {
	s.write(to, readFile(s.t, filepath.Join(s.root, from)))
}

func (s *readmeStage) file(name string) string { return filepath.Join(s.home, name) }

func (s *readmeStage) write(name, text string) {
	s.t.Helper()
	err := os.MkdirAll(filepath.Dir(s.file(name)), 0o700)
	if err == nil {
		err = os.WriteFile(s.file(name), []byte(text), 0o600)
	}
	if err != nil {
		s.t.Fatal(err)
	}
}
