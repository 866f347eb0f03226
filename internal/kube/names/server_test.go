package names

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/miekg/dns"

	"usher/internal/kube/planner"
)

// patience is how long a test waits for what comes at once on an idle machine.
const patience = 30 * time.Second

// serve starts a server, which ends with the test.
func serve(t *testing.T, addr string, o Options) *Server {
	t.Helper()
	s, err := Listen(addr, o)
	if err != nil {
		if strings.Contains(addr, "::1") {
			t.Skip("no IPv6:", err)
		}
		t.Fatal(err)
	}
	s.handler.forward.timeout, s.handler.forward.total = patience, patience
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- s.Serve(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
	return s
}

// send returns the reply of a server and its size.
func send(t *testing.T, network string, s *Server, m *dns.Msg) (*dns.Msg, int) {
	t.Helper()
	conn, err := (&dns.Client{Net: network, Timeout: patience}).Dial(s.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	conn.UDPSize = dns.MaxMsgSize
	if err := conn.SetDeadline(time.Now().Add(patience)); err != nil {
		t.Fatal(err)
	}
	if err := conn.WriteMsg(m); err != nil {
		t.Fatal(err)
	}
	packed, err := conn.ReadMsgHeader(nil)
	if err != nil {
		t.Fatal(err)
	}
	reply := new(dns.Msg)
	if err := reply.Unpack(packed); err != nil || reply.Id != m.Id {
		t.Fatal(err, reply)
	}
	return reply, len(packed)
}

// crowd is a headless Service of that many endpoints.
func crowd(n int) planner.Record {
	r := planner.Record{Key: key("db", "crowd")}
	for i := range n {
		r.Headless = append(r.Headless, planner.Endpoint{Addr: netip.AddrFrom4([4]byte{10, 1, byte(i >> 8), byte(i)}),
			Ports: []planner.Port{{Name: "http", Protocol: "tcp", Number: 80}}})
	}
	return r
}

// TestTransports asks a server at an address of each family over both transports, and expects replies that fit.
func TestTransports(t *testing.T) {
	t.Parallel()
	const crowdName, few = "crowd.db.svc.cluster.local.", "web.default.svc.cluster.local."
	tests := []struct {
		network     string
		name        string
		qtype, edns uint16 // edns 0: none
		maxSize     int
		isTruncated bool
		answers     int // 0: some
	}{
		{"udp", few, dns.TypeA, 0, 512, false, 1},
		{"tcp", few, dns.TypeA, 0, 512, false, 1},
		{"udp", crowdName, dns.TypeA, 0, 512, true, 0},
		{"udp", crowdName, dns.TypeA, 100, 512, true, 0},
		{"udp", crowdName, dns.TypeA, 700, 700, true, 0},
		{"udp", crowdName, dns.TypeA, 65535, ednsSize, true, 0},
		{"udp", "_http._tcp." + crowdName, dns.TypeSRV, 1232, ednsSize, true, 0},
		{"tcp", crowdName, dns.TypeA, 1232, dns.MaxMsgSize, false, 1000},
		{"tcp", "_http._tcp." + crowdName, dns.TypeSRV, 0, dns.MaxMsgSize, false, 1000},
	}
	for _, addr := range []string{"127.0.0.1:0", "[::1]:0", ":0"} {
		t.Run(addr, func(t *testing.T) {
			t.Parallel()
			s := serve(t, addr, Options{Zone: testZone(t, append(testRecords(), crowd(1000))...)})
			for _, test := range tests {
				m := new(dns.Msg).SetQuestion(test.name, test.qtype)
				if test.edns > 0 {
					m.SetEdns0(test.edns, true)
				}
				reply, size := send(t, test.network, s, m)
				opt := reply.IsEdns0()
				if size > test.maxSize || reply.Truncated != test.isTruncated || len(reply.Answer) == 0 || test.answers > 0 && len(reply.Answer) != test.answers ||
					(opt != nil) != (test.edns > 0) || opt != nil && (opt.UDPSize() != ednsSize || !opt.Do()) {
					t.Errorf("%+v: %d bytes, truncated %v, %d answers, %v", test, size, reply.Truncated, len(reply.Answer), opt)
				}
			}
		})
	}
}

// TestSource asks a server of all addresses at one of them, by a socket that takes replies of that one alone.
func TestSource(t *testing.T) {
	t.Parallel()
	s := serve(t, ":0", Options{Zone: testZone(t, testRecords()...)})
	for _, addr := range addrs("127.0.0.2", "::1") {
		at := netip.AddrPortFrom(addr, s.Addr().Port()).String()
		reply, _, err := (&dns.Client{Timeout: patience}).Exchange(new(dns.Msg).SetQuestion("web.default.svc.cluster.local.", dns.TypeA), at)
		switch {
		case errors.Is(err, syscall.EADDRNOTAVAIL) || errors.Is(err, syscall.ENETUNREACH) || errors.Is(err, syscall.EAFNOSUPPORT):
			t.Log("no such address:", addr)
		case err != nil || len(reply.Answer) != 1:
			t.Error(addr, err, reply)
		}
	}
}

// oddQueries are those that are not answered as asked, and their rcodes; -1: none.
func oddQueries() map[string]struct {
	m     *dns.Msg
	rcode int
} {
	of := func(rcode int, change func(m *dns.Msg)) struct {
		m     *dns.Msg
		rcode int
	} {
		m := new(dns.Msg).SetQuestion("web.default.svc.cluster.local.", dns.TypeA)
		change(m)
		return struct {
			m     *dns.Msg
			rcode int
		}{m, rcode}
	}
	type odd = map[string]struct {
		m     *dns.Msg
		rcode int
	}
	return odd{
		"two questions": of(dns.RcodeFormatError, func(m *dns.Msg) { m.Question = append(m.Question, m.Question[0]) }),
		"no question":   of(dns.RcodeFormatError, func(m *dns.Msg) { m.Question = nil }),
		"notify":        of(dns.RcodeNotImplemented, func(m *dns.Msg) { m.Opcode = dns.OpcodeNotify }),
		"update":        of(dns.RcodeNotImplemented, func(m *dns.Msg) { m.Opcode = dns.OpcodeUpdate }),
		"chaos":         of(dns.RcodeRefused, func(m *dns.Msg) { m.Question[0].Qclass = dns.ClassCHAOS }),
		"an answer":     of(dns.RcodeFormatError, func(m *dns.Msg) { m.Answer = []dns.RR{&dns.ANY{Hdr: header(".", dns.TypeA)}} }),
		"EDNS 1":        of(dns.RcodeBadVers, func(m *dns.Msg) { m.SetEdns0(1232, false).IsEdns0().SetVersion(1) }),
		"EDNS twice":    of(dns.RcodeFormatError, func(m *dns.Msg) { m.SetEdns0(1232, false).SetEdns0(1232, false) }),
		"a response":    of(-1, func(m *dns.Msg) { m.Response = true }),
	}
}

// TestOddQueries sends more queries of each kind than may be in progress at one time: each gives its slot back.
func TestOddQueries(t *testing.T) {
	t.Parallel()
	s := serve(t, "127.0.0.1:0", Options{Zone: testZone(t, testRecords()...)})
	for name, odd := range oddQueries() {
		packed, err := odd.m.Pack()
		if err != nil {
			t.Fatal(name, err)
		}
		if odd.rcode >= 0 {
			reply, _ := send(t, "udp", s, odd.m)
			if reply.Rcode != odd.rcode || len(reply.Answer) > 0 {
				t.Errorf("%s: %s", name, dns.RcodeToString[reply.Rcode])
			}
		}
		flood(t, s, packed)
		flood(t, s, packed[:len(packed)-1])
	}
	const headerAlone = "\x00\x01\x01\x00\x00\x01\x00\x00\x00\x00\x00\x00" // it promises a question
	for _, datagram := range []string{headerAlone, headerAlone[:3], ""} {
		flood(t, s, []byte(datagram))
	}
	reply, _ := send(t, "udp", s, new(dns.Msg).SetQuestion("web.default.svc.cluster.local.", dns.TypeA))
	if len(reply.Answer) != 1 {
		t.Error(reply)
	}
}

// flood sends a datagram more often than there are slots, in bursts that the socket's buffer holds.
func flood(t *testing.T, s *Server, datagram []byte) {
	t.Helper()
	conn, err := net.Dial("udp", s.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	for i := range maxQueries + 64 {
		if _, err := conn.Write(datagram); err != nil {
			t.Fatal(err)
		}
		if i%64 == 63 {
			send(t, "udp", s, new(dns.Msg).SetQuestion("web.default.svc.cluster.local.", dns.TypeA))
		}
	}
}

// TestConnections asks over more connections than may be open at one time, while some stay silent.
func TestConnections(t *testing.T) {
	t.Parallel()
	s := serve(t, "127.0.0.1:0", Options{Zone: testZone(t, testRecords()...)})
	for range maxConnections - 1 {
		silent, err := net.Dial("tcp", s.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		defer silent.Close()
	}
	var clients sync.WaitGroup
	for range 2 * maxConnections {
		clients.Go(func() {
			m := new(dns.Msg).SetQuestion("web.default.svc.cluster.local.", dns.TypeA)
			reply, _, err := (&dns.Client{Net: "tcp", Timeout: patience}).Exchange(m, s.Addr().String())
			if err != nil || len(reply.Answer) != 1 {
				t.Error(err, reply)
			}
		})
	}
	clients.Wait()
}

// TestListen refuses addresses that are none, and those that another has.
func TestListen(t *testing.T) {
	t.Parallel()
	s, err := Listen("127.0.0.1:0", Options{Zone: testZone(t)})
	if err != nil {
		t.Fatal(err)
	}
	for _, addr := range []string{s.Addr().String(), "", "localhost:53", "1.2.3.4:x", "99999"} {
		if other, err := Listen(addr, Options{Zone: testZone(t)}); err == nil {
			t.Error(addr, "is taken")
			other.Close()
		}
	}
	if err := s.Close(); err != nil {
		t.Error(err)
	}
	for word, want := range map[string]string{
		"5353": "127.0.0.1:5353", ":53": "[::]:53", "127.0.0.53": "127.0.0.53:53", "::1": "[::1]:53", "[::1]": "[::1]:53", "[::1]:5353": "[::1]:5353",
	} {
		if got, err := ParseAddr(word); err != nil || got.String() != want {
			t.Error(word, got, err)
		}
	}
}

// TestDig asks with BIND's client.
func TestDig(t *testing.T) {
	t.Parallel()
	dig, err := exec.LookPath("dig")
	if err != nil {
		t.Skip("dig is not installed")
	}
	s := serve(t, "127.0.0.1:0", Options{Zone: testZone(t, append(testRecords(), crowd(100))...)})
	tests := map[string]string{
		"web.default.svc.cluster.local A":              "10.96.0.1",
		"+tcp web.default.svc.cluster.local AAAA":      "fd00::1",
		"_http._tcp.web.default.svc.cluster.local SRV": "0 100 80 web.default.svc.cluster.local.",
		"-x 10.96.0.1": "web.default.svc.cluster.local.",
		"-x fd00::1":   "web.default.svc.cluster.local.",
		"+search +ndots=5 +domain=cluster.local web.default.svc A": "10.96.0.1",
		"dns-version.cluster.local TXT":                            `"1.1.0"`,
		"nobody.default.svc.cluster.local A":                       "",
		"+ignore +noedns +bufsize=0 nobody.cluster.local A":        "",
	}
	for words, want := range tests {
		out, err := exec.Command(dig, append([]string{"@127.0.0.1", "-p", fmt.Sprint(s.Addr().Port()), "+short", "+time=30"},
			strings.Fields(words)...)...).CombinedOutput()
		if diff := cmp.Diff(want, strings.TrimSpace(string(out))); err != nil || diff != "" {
			t.Errorf("dig %s: %v\n%s", words, err, diff)
		}
	}
	out, err := exec.Command(dig, "@127.0.0.1", "-p", fmt.Sprint(s.Addr().Port()), "+short", "+time=30", "crowd.db.svc.cluster.local").CombinedOutput()
	if n := strings.Count(string(out), "10.1.0."); err != nil || n != 100 { // by TCP, after a truncated reply
		t.Errorf("%d of 100 addresses: %v", n, err)
	}
}

// FuzzQuery expects a reply that fits to every query that can be parsed.
func FuzzQuery(f *testing.F) {
	for _, odd := range oddQueries() {
		if packed, err := odd.m.Pack(); err == nil {
			f.Add(packed, true)
		}
	}
	z := testZone(f, append(testRecords(), crowd(1000))...)
	for _, name := range []string{"web.default", "_http._tcp.crowd.db", "crowd.db", "out.db", "pet-0.pets.db"} {
		for _, qtype := range []uint16{dns.TypeA, dns.TypeSRV, dns.TypeANY} {
			packed, _ := new(dns.Msg).SetQuestion(name+".svc.cluster.local.", qtype).SetEdns0(4096, true).Pack()
			f.Add(packed, false)
		}
	}
	h := &handler{zone: z, forward: newForwarder(nil, nil)}
	f.Fuzz(func(t *testing.T, query []byte, isUDP bool) {
		m := new(dns.Msg)
		if m.Unpack(query) != nil {
			return
		}
		packed, err := h.reply(context.Background(), m, isUDP).Pack()
		if err != nil || isUDP && len(packed) > ednsSize {
			t.Fatal(err, len(packed))
		}
	})
}

// BenchmarkReply measures a query for one of 5,000 Services.
func BenchmarkReply(b *testing.B) {
	z := testZone(b)
	for i := range 5000 {
		z.Set(planner.Record{Key: key("default", fmt.Sprint("web-", i)), Addrs: []netip.Addr{netip.AddrFrom4([4]byte{10, 96, byte(i >> 8), byte(i)})}})
	}
	h := &handler{zone: z, forward: newForwarder(nil, nil)}
	m := new(dns.Msg).SetQuestion("web-77.default.svc.cluster.local.", dns.TypeA).SetEdns0(1232, false)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := h.reply(context.Background(), m, true).Pack(); err != nil {
			b.Fatal(err)
		}
	}
}
