package names

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"slices"
	"sync"
	"testing"
	"testing/synctest"

	"github.com/google/go-cmp/cmp"
	"github.com/miekg/dns"
	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"

	"usher/internal/kube/planner"
)

// upstreamServer answers over both transports, until the test ends.
func upstreamServer(t *testing.T, answer func(w dns.ResponseWriter, m *dns.Msg, isUDP bool)) netip.AddrPort {
	t.Helper()
	var s Server
	if err := s.bind("", netip.MustParseAddrPort("127.0.0.1:0")); err != nil {
		t.Fatal(err)
	}
	var serving sync.WaitGroup
	started := make(chan struct{}, 2)
	for _, server := range []*dns.Server{{PacketConn: s.udp}, {Listener: s.tcp}} {
		server.NotifyStartedFunc = func() { started <- struct{}{} }
		server.Handler = dns.HandlerFunc(func(w dns.ResponseWriter, m *dns.Msg) { answer(w, m, server.PacketConn != nil) })
		serving.Go(func() { _ = server.ActivateAndServe() })
		<-started
		t.Cleanup(func() { _ = server.Shutdown() })
	}
	return s.Addr()
}

// replyWith sends a reply with an address.
func replyWith(w dns.ResponseWriter, m *dns.Msg, rcode int, change ...func(*dns.Msg)) {
	reply := new(dns.Msg).SetRcode(m, rcode)
	if rcode == dns.RcodeSuccess {
		reply.Answer = addressRecords(m.Question[0].Name, addrs("192.0.2.1"))
	}
	for _, do := range change {
		do(reply)
	}
	_ = w.WriteMsg(reply)
}

// refusingPort returns an address that refuses datagrams: its socket is connected, so datagrams of others do not
// reach it, and nobody else has the port while the test runs.
func refusingPort(t *testing.T) netip.AddrPort {
	t.Helper()
	loopback := net.IPv4(127, 0, 0, 1)
	conn, err := net.DialUDP("udp4", &net.UDPAddr{IP: loopback}, &net.UDPAddr{IP: loopback, Port: 9})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	return conn.LocalAddr().(*net.UDPAddr).AddrPort()
}

// TestForward asks for names of others: the answer is the one that an upstream gave, whatever else it sends.
func TestForward(t *testing.T) {
	t.Parallel()
	good := func(w dns.ResponseWriter, m *dns.Msg, _ bool) { replyWith(w, m, dns.RcodeSuccess) }
	with := func(rcode int) func(dns.ResponseWriter, *dns.Msg, bool) {
		return func(w dns.ResponseWriter, m *dns.Msg, _ bool) { replyWith(w, m, rcode) }
	}
	tests := map[string]struct {
		upstreams []func(w dns.ResponseWriter, m *dns.Msg, isUDP bool) // nil: nobody listens
		rcode     int
		answers   int
	}{
		"answers":            {[]func(dns.ResponseWriter, *dns.Msg, bool){good}, dns.RcodeSuccess, 1},
		"has no such name":   {[]func(dns.ResponseWriter, *dns.Msg, bool){with(dns.RcodeNameError), good}, dns.RcodeNameError, 0},
		"is not there":       {[]func(dns.ResponseWriter, *dns.Msg, bool){nil, good}, dns.RcodeSuccess, 1},
		"fails":              {[]func(dns.ResponseWriter, *dns.Msg, bool){with(dns.RcodeServerFailure), good}, dns.RcodeSuccess, 1},
		"refuse, all":        {[]func(dns.ResponseWriter, *dns.Msg, bool){with(dns.RcodeRefused), nil}, dns.RcodeRefused, 0},
		"are not there, all": {[]func(dns.ResponseWriter, *dns.Msg, bool){nil, nil}, dns.RcodeServerFailure, 0},
		"truncates": {[]func(dns.ResponseWriter, *dns.Msg, bool){func(w dns.ResponseWriter, m *dns.Msg, isUDP bool) {
			replyWith(w, m, dns.RcodeSuccess, func(r *dns.Msg) {
				r.Truncated = isUDP
				if isUDP {
					r.Answer = nil
				}
			})
		}}, dns.RcodeSuccess, 1},
		"sends what was not asked for": {[]func(dns.ResponseWriter, *dns.Msg, bool){func(w dns.ResponseWriter, m *dns.Msg, _ bool) {
			replyWith(w, m, dns.RcodeNameError, func(r *dns.Msg) { r.Id++ })
			replyWith(w, m, dns.RcodeNameError, func(r *dns.Msg) { r.Question[0].Name = "www.example.net." })
			replyWith(w, m, dns.RcodeNameError, func(r *dns.Msg) { r.Response = false })
			_, _ = w.Write([]byte("garbage that is no message"))
			replyWith(w, m, dns.RcodeSuccess, func(r *dns.Msg) {
				r.Extra = []dns.RR{&dns.TSIG{Hdr: dns.RR_Header{Name: "k.", Rrtype: dns.TypeTSIG, Class: dns.ClassANY}, Algorithm: dns.HmacSHA256}}
			})
			replyWith(w, m, dns.RcodeSuccess)
		}}, dns.RcodeSuccess, 1},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var list []netip.AddrPort
			for _, answer := range test.upstreams {
				if answer == nil {
					list = append(list, refusingPort(t))
				} else {
					list = append(list, upstreamServer(t, answer))
				}
			}
			s := serve(t, "127.0.0.1:0", Options{Zone: testZone(t), Upstreams: list})
			for range 2 {
				reply, _ := send(t, "udp", s, new(dns.Msg).SetQuestion("www.example.com.", dns.TypeA))
				if reply.Rcode != test.rcode || len(reply.Answer) != test.answers || !reply.RecursionAvailable || reply.Authoritative {
					t.Error(reply)
				}
			}
		})
	}
}

// TestExternalNames are chased when addresses are asked for.
func TestExternalNames(t *testing.T) {
	t.Parallel()
	up := upstreamServer(t, func(w dns.ResponseWriter, m *dns.Msg, _ bool) {
		if m.Question[0].Name == "db.example.com." {
			replyWith(w, m, dns.RcodeSuccess)
		} else {
			replyWith(w, m, dns.RcodeNameError)
		}
	})
	records := append(testRecords(), planner.Record{Key: key("db", "lost"), ExternalName: "lost.example.com"})
	s := serve(t, "127.0.0.1:0", Options{Zone: testZone(t, records...), Upstreams: []netip.AddrPort{up}})
	for name, want := range map[string][]string{
		"out":  {"db.example.com. 5 IN A 192.0.2.1", "out.db.svc.cluster.local. 5 IN CNAME db.example.com."},
		"lost": {"lost.db.svc.cluster.local. 5 IN CNAME lost.example.com."},
	} {
		m := new(dns.Msg).SetQuestion(name+".db.svc.cluster.local.", dns.TypeA)
		m.RecursionDesired = false
		reply, _ := send(t, "udp", s, m)
		if diff := cmp.Diff(want, shown(reply.Answer)); diff != "" || (reply.Rcode == dns.RcodeNameError) != (name == "lost") {
			t.Error(reply, diff)
		}
	}
}

// TestSilentUpstream is asked once for equal questions; no more than maxForwarded wait for it.
func TestSilentUpstream(t *testing.T) {
	t.Parallel()
	q := query{Question: dns.Question{Name: "www.example.com.", Qtype: dns.TypeA, Qclass: dns.ClassINET}}
	synctest.Test(t, func(t *testing.T) {
		f := newForwarder([]netip.AddrPort{netip.MustParseAddrPort("192.0.2.1:53")}, zap.NewNop())
		asked := &flight{ended: make(chan struct{}), reply: new(dns.Msg)}
		asked.id.Store(77)
		f.flights[q] = asked
		var clients sync.WaitGroup
		for range maxForwarded {
			clients.Go(func() {
				if reply, err := f.exchange(t.Context(), q, 1); err != nil || reply != asked.reply {
					t.Error(reply, err)
				}
			})
		}
		synctest.Wait()
		if _, err := f.exchange(t.Context(), q, 1); err != errBusy {
			t.Error(err)
		}
		close(asked.ended)
		clients.Wait()
		if _, err := f.exchange(t.Context(), q, 77); err != errLoop || len(f.slots) != 0 {
			t.Error(err, len(f.slots))
		}
	})
}

// TestStop ends a server while an upstream is asked: it does not wait for the answer.
func TestStop(t *testing.T) {
	t.Parallel()
	silent, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer silent.Close()
	f := newForwarder([]netip.AddrPort{silent.LocalAddr().(*net.UDPAddr).AddrPort()}, zap.NewNop())
	f.timeout, f.total = patience, patience
	ctx, cancel := context.WithCancel(context.Background())
	go func() {
		_, _, _ = silent.ReadFrom(make([]byte, dns.MaxMsgSize))
		cancel()
	}()
	q := query{Question: dns.Question{Name: "www.example.com.", Qtype: dns.TypeA, Qclass: dns.ClassINET}}
	if _, err := f.exchange(ctx, q, 1); !errors.Is(err, context.Canceled) || len(f.flights) != 0 {
		t.Error(err)
	}
}

// TestLoop gives a server itself as its upstream. Listen leaves it out; where it can't know, the second query is refused.
func TestLoop(t *testing.T) {
	t.Parallel()
	var s Server
	if err := s.bind("", netip.MustParseAddrPort("127.0.0.1:0")); err != nil {
		t.Fatal(err)
	}
	s.slots = make(chan struct{}, maxQueries)
	s.handler = &handler{zone: testZone(t), forward: newForwarder([]netip.AddrPort{s.Addr()}, zap.NewNop())}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- s.Serve(ctx) }()
	reply, _ := send(t, "udp", &s, new(dns.Msg).SetQuestion("www.example.com.", dns.TypeA))
	if reply.Rcode != dns.RcodeRefused {
		t.Error(reply)
	}
	cancel()
	if err := <-ended; err != nil {
		t.Error(err)
	}
	wildcard, loopback := netip.MustParseAddrPort("[::]:53"), netip.MustParseAddrPort("127.0.0.53:53")
	for _, test := range []struct {
		server, to netip.AddrPort
		want       bool
	}{
		{loopback, loopback, true}, {wildcard, loopback, true}, {wildcard, netip.MustParseAddrPort("0.0.0.0:53"), true},
		{wildcard, netip.MustParseAddrPort("192.0.2.1:53"), false}, {loopback, netip.MustParseAddrPort("127.0.0.1:53"), false},
		{loopback, netip.MustParseAddrPort("127.0.0.53:54"), false},
	} {
		if got := isSelf(test.server, test.to); got != test.want {
			t.Errorf("isSelf(%s, %s) = %v", test.server, test.to, got)
		}
	}
}

// TestSilenceIsSaidOnce logs an upstream that does not answer, and that it answers again.
func TestSilenceIsSaidOnce(t *testing.T) {
	t.Parallel()
	core, logged := observer.New(zap.InfoLevel)
	f := newForwarder([]netip.AddrPort{netip.MustParseAddrPort("192.0.2.1:53")}, zap.New(core))
	for _, err := range []error{errBusy, nil, errBusy, errBusy, errBusy, errBusy, nil, nil} {
		f.note(f.upstreams[0], err)
	}
	var got []string
	for _, entry := range logged.All() {
		got = append(got, entry.Message)
	}
	if want := []string{"dns upstream does not answer", "dns upstream answers again"}; !slices.Equal(got, want) {
		t.Error(got)
	}
}

func TestParseUpstreams(t *testing.T) {
	t.Parallel()
	got, err := ParseUpstreams("1.1.1.1, [2606:4700::1111]:5353,::1")
	want := []netip.AddrPort{netip.MustParseAddrPort("1.1.1.1:53"), netip.MustParseAddrPort("[2606:4700::1111]:5353"), netip.MustParseAddrPort("[::1]:53")}
	if err != nil || !slices.Equal(got, want) {
		t.Error(got, err)
	}
	for _, list := range []string{"", "dns.example.com", "1.1.1.1,", "53", ":53", "1.1.1.1:0", "1.1.1.1:x"} {
		if got, err := ParseUpstreams(list); err == nil {
			t.Error(list, got)
		}
	}
}
