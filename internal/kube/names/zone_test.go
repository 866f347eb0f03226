package names

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/miekg/dns"
	"go.uber.org/zap"

	"usher/internal/kube/planner"
)

func addrs(words ...string) []netip.Addr {
	var list []netip.Addr
	for _, word := range words {
		list = append(list, netip.MustParseAddr(word))
	}
	return list
}

func key(namespace, name string) planner.Key { return planner.Key{Namespace: namespace, Name: name} }

// longest is a name of 63 letters.
var longest = strings.Repeat("n", 63)

// testRecords are a Service of each kind.
func testRecords() []planner.Record {
	http, dnsUDP := planner.Port{Name: "http", Protocol: "tcp", Number: 80}, planner.Port{Name: "Dns", Protocol: "udp", Number: 53}
	return []planner.Record{
		{Key: key("default", "web"), Addrs: addrs("10.96.0.1", "fd00::1"), ClusterIPs: addrs("10.96.0.1", "fd00::1"), Ports: []planner.Port{http, dnsUDP}},
		{Key: key("default", "mapped"), Addrs: addrs("127.96.0.2"), ClusterIPs: addrs("10.96.0.2"), Ports: []planner.Port{{Protocol: "tcp", Number: 10080}}},
		{Key: key("six", "only"), Addrs: addrs("fd00::6"), ClusterIPs: addrs("fd00::6"), Ports: []planner.Port{http}},
		{Key: key(longest, longest), Addrs: addrs("10.96.0.63"), Ports: []planner.Port{http}},
		{Key: key("db", "empty")},
		{Key: key("db", "pets"), Headless: []planner.Endpoint{
			{Hostname: "pet-0", Addr: netip.MustParseAddr("10.1.0.1"), Ports: []planner.Port{http}},
			{Hostname: "pet-0", Addr: netip.MustParseAddr("fd01::1"), Ports: []planner.Port{http}},
			{Addr: netip.MustParseAddr("10.1.0.2"), Ports: []planner.Port{{Name: "http", Protocol: "tcp", Number: 8080}}},
			{Addr: netip.MustParseAddr("fd01::2")},
			{Addr: netip.MustParseAddr("127.0.0.1")},
		}},
		{Key: key("db", "out"), ExternalName: "db.example.com"},
		{Key: key("db", "in"), ExternalName: "web.default.svc.cluster.local"},
		{Key: key("db", "gone"), ExternalName: "no.default.svc.cluster.local."},
		{Key: key("db", "round"), ExternalName: "round.db.svc.cluster.local"},
		{Key: key("db", "wrong"), ExternalName: strings.Repeat("x", 64) + ".example.com"},
	}
}

func testZone(t testing.TB, records ...planner.Record) *Zone {
	t.Helper()
	z, err := New("cluster.local")
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range records {
		z.Set(r)
	}
	z.serial.Store(1)
	return z
}

// ask returns the reply of a server that is not there.
func ask(t testing.TB, z *Zone, name string, qtype uint16) *dns.Msg {
	t.Helper()
	h := &handler{zone: z, forward: newForwarder(nil, zap.NewNop()), self: addrs("127.0.0.53")}
	return h.reply(context.Background(), new(dns.Msg).SetQuestion(name, qtype), false)
}

// shown returns records as they are written in zone files, with single spaces, in order.
func shown(rrs []dns.RR) []string {
	var lines []string
	for _, rr := range rrs {
		lines = append(lines, strings.Join(strings.Fields(rr.String()), " "))
	}
	slices.Sort(lines)
	return lines
}

// TestAnswers holds the zone to the specification, by its section, and to CoreDNS where that leaves a choice.
func TestAnswers(t *testing.T) {
	t.Parallel()
	const svc = "svc.cluster.local."
	tests := []struct {
		section string
		name    string
		qtype   uint16
		rcode   int
		want    []string // of the answer; @ is the name of the question's
	}{
		{"2.2", "dns-version.cluster.local.", dns.TypeTXT, 0, []string{`@ 5 IN TXT "1.1.0"`}},
		{"2.2", "x.dns-version.cluster.local.", dns.TypeTXT, dns.RcodeNameError, nil},
		{"2.3.1", "web.default." + svc, dns.TypeA, 0, []string{"@ 5 IN A 10.96.0.1"}},
		{"2.3.1", "web.default." + svc, dns.TypeAAAA, 0, []string{"@ 5 IN AAAA fd00::1"}},
		{"2.1: no case", "WeB.default.SVC.Cluster.local.", dns.TypeA, 0, []string{"@ 5 IN A 10.96.0.1"}},
		{"mapped", "mapped.default." + svc, dns.TypeA, 0, []string{"@ 5 IN A 127.96.0.2"}},
		{"one family", "only.six." + svc, dns.TypeA, 0, nil},
		{"one family", "only.six." + svc, dns.TypeAAAA, 0, []string{"@ 5 IN AAAA fd00::6"}},
		{"63 letters", longest + "." + longest + "." + svc, dns.TypeA, 0, []string{"@ 5 IN A 10.96.0.63"}},
		{"another type", "web.default." + svc, dns.TypeMX, 0, nil},
		{"ANY", "web.default." + svc, dns.TypeANY, 0, []string{`@ 5 IN HINFO "RFC8482" ""`}},
		{"2.3.2", "_http._tcp.web.default." + svc, dns.TypeSRV, 0, []string{"@ 5 IN SRV 0 100 80 web.default." + svc}},
		{"2.3.2", "_dns._udp.web.default." + svc, dns.TypeSRV, 0, []string{"@ 5 IN SRV 0 100 53 web.default." + svc}},
		{"2.3.2", "_http._udp.web.default." + svc, dns.TypeSRV, dns.RcodeNameError, nil},
		{"2.3.2: no name", "_._tcp.mapped.default." + svc, dns.TypeSRV, dns.RcodeNameError, nil},
		{"CoreDNS", "mapped.default." + svc, dns.TypeSRV, 0, []string{"@ 5 IN SRV 0 100 10080 mapped.default." + svc}},
		{"no addresses", "_http._tcp.web.default." + svc, dns.TypeA, 0, nil},
		{"RFC 8020", "_tcp.web.default." + svc, dns.TypeA, 0, nil},
		{"2.3.3", "1.0.96.10.in-addr.arpa.", dns.TypePTR, 0, []string{"@ 5 IN PTR web.default." + svc}},
		{"2.3.3", "1." + strings.Repeat("0.", 27) + "0.0.d.f.ip6.arpa.", dns.TypePTR, 0, []string{"@ 5 IN PTR web.default." + svc}},
		{"mapped", "2.0.96.10.in-addr.arpa.", dns.TypePTR, 0, []string{"@ 5 IN PTR mapped.default." + svc}},
		{"mapped", "2.0.96.127.in-addr.arpa.", dns.TypePTR, 0, []string{"@ 5 IN PTR mapped.default." + svc}},
		{"another type", "1.0.96.10.in-addr.arpa.", dns.TypeA, 0, nil},
		{"localhost", "1.0.0.127.in-addr.arpa.", dns.TypePTR, dns.RcodeRefused, nil},
		{"2.4.1", "pets.db." + svc, dns.TypeA, 0, []string{"@ 5 IN A 10.1.0.1", "@ 5 IN A 10.1.0.2", "@ 5 IN A 127.0.0.1"}},
		{"2.4.1", "pets.db." + svc, dns.TypeAAAA, 0, []string{"@ 5 IN AAAA fd01::1", "@ 5 IN AAAA fd01::2"}},
		{"2.4.1", "pet-0.pets.db." + svc, dns.TypeA, 0, []string{"@ 5 IN A 10.1.0.1"}},
		{"2.4.1", "10-1-0-2.pets.db." + svc, dns.TypeA, 0, []string{"@ 5 IN A 10.1.0.2"}},
		{"2.4.1", "fd01--2.pets.db." + svc, dns.TypeAAAA, 0, []string{"@ 5 IN AAAA fd01::2"}},
		{"2.4.1", "10-1-0-1.pets.db." + svc, dns.TypeA, dns.RcodeNameError, nil},
		{"2.4.1: none ready", "empty.db." + svc, dns.TypeA, dns.RcodeNameError, nil},
		{"2.4.2", "_http._tcp.pets.db." + svc, dns.TypeSRV, 0, []string{
			"@ 5 IN SRV 0 50 80 pet-0.pets.db." + svc, "@ 5 IN SRV 0 50 8080 10-1-0-2.pets.db." + svc}},
		{"2.4.3", "1.0.1.10.in-addr.arpa.", dns.TypePTR, 0, []string{"@ 5 IN PTR pet-0.pets.db." + svc}},
		{"2.4.3", "2.0.1.10.in-addr.arpa.", dns.TypePTR, 0, []string{"@ 5 IN PTR 10-1-0-2.pets.db." + svc}},
		{"2.5", "out.db." + svc, dns.TypeA, 0, []string{"@ 5 IN CNAME db.example.com."}},
		{"2.5", "out.db." + svc, dns.TypeCNAME, 0, []string{"@ 5 IN CNAME db.example.com."}},
		{"2.5", "x.out.db." + svc, dns.TypeA, dns.RcodeNameError, nil},
		{"2.5: chased", "in.db." + svc, dns.TypeA, 0, []string{"@ 5 IN CNAME web.default." + svc, "web.default." + svc + " 5 IN A 10.96.0.1"}},
		{"2.5: chased", "gone.db." + svc, dns.TypeA, dns.RcodeNameError, []string{"@ 5 IN CNAME no.default." + svc}},
		{"2.5: endless", "round.db." + svc, dns.TypeA, dns.RcodeServerFailure, nil},
		{"2.5: no name", "wrong.db." + svc, dns.TypeA, 0, nil},
		{"2.6", "10-1-0-77.any.pod.cluster.local.", dns.TypeA, 0, []string{"@ 5 IN A 10.1.0.77"}},
		{"2.6", "10-1-0-77.any.pod.cluster.local.", dns.TypeAAAA, 0, nil},
		{"2.6", "fd01--7.any.pod.cluster.local.", dns.TypeAAAA, 0, []string{"@ 5 IN AAAA fd01::7"}},
		{"2.6", "10-1-0-256.any.pod.cluster.local.", dns.TypeA, dns.RcodeNameError, nil},
		{"2.6", "x.10-1-0-7.any.pod.cluster.local.", dns.TypeA, dns.RcodeNameError, nil},
		{"RFC 8020", "any.pod.cluster.local.", dns.TypeA, 0, nil},
		{"RFC 8020", "db." + svc, dns.TypeA, 0, nil},
		{"RFC 8020", svc, dns.TypeA, 0, nil},
		{"no namespace", "nobody." + svc, dns.TypeA, dns.RcodeNameError, nil},
		{"no Service", "nobody.default." + svc, dns.TypeA, dns.RcodeNameError, nil},
		{"no wildcard", "*.default." + svc, dns.TypeA, dns.RcodeNameError, nil},
		{"search path", "example.com.cluster.local.", dns.TypeA, dns.RcodeNameError, nil},
		{"apex", "cluster.local.", dns.TypeSOA, 0, []string{"@ 5 IN SOA ns.dns.cluster.local. hostmaster.cluster.local. 1 7200 1800 86400 5"}},
		{"apex", "cluster.local.", dns.TypeNS, 0, []string{"@ 5 IN NS ns.dns.cluster.local."}},
		{"apex", "cluster.local.", dns.TypeA, 0, nil},
		{"name server", "ns.dns.cluster.local.", dns.TypeA, 0, []string{"@ 5 IN A 127.0.0.53"}},
		{"name server", "dns.cluster.local.", dns.TypeA, 0, nil},
		{"other names", "example.com.", dns.TypeA, dns.RcodeRefused, nil},
		{"other names", "notcluster.local.", dns.TypeA, dns.RcodeRefused, nil},
		{"other names", ".", dns.TypeANY, dns.RcodeRefused, nil},
		{"transfer", "cluster.local.", dns.TypeAXFR, dns.RcodeRefused, nil},
	}
	z := testZone(t, testRecords()...)
	for _, test := range tests {
		t.Run(fmt.Sprint(test.section, "/", test.name, "/", dns.TypeToString[test.qtype]), func(t *testing.T) {
			t.Parallel()
			m := ask(t, z, test.name, test.qtype)
			var want []string
			for _, line := range test.want {
				want = append(want, strings.ReplaceAll(line, "@", test.name))
			}
			slices.Sort(want)
			if diff := cmp.Diff(want, shown(m.Answer)); diff != "" || m.Rcode != test.rcode {
				t.Errorf("rcode %s, want %s; answer:\n%s", dns.RcodeToString[m.Rcode], dns.RcodeToString[test.rcode], diff)
			}
			isOurs := test.rcode != dns.RcodeRefused
			isNegative := isOurs && test.rcode != dns.RcodeServerFailure && (test.want == nil || test.rcode != 0)
			if hasSOA := len(m.Ns) == 1 && m.Ns[0].Header().Rrtype == dns.TypeSOA; hasSOA != isNegative || m.Authoritative != isOurs {
				t.Errorf("authoritative %v, authority %v", m.Authoritative, m.Ns)
			}
		})
	}
}

// TestAdditional finds the addresses of SRV targets, unless the reply would not fit.
func TestAdditional(t *testing.T) {
	t.Parallel()
	m := ask(t, testZone(t, testRecords()...), "_http._tcp.pets.db.svc.cluster.local.", dns.TypeSRV)
	want := []string{
		"10-1-0-2.pets.db.svc.cluster.local. 5 IN A 10.1.0.2",
		"pet-0.pets.db.svc.cluster.local. 5 IN A 10.1.0.1",
		"pet-0.pets.db.svc.cluster.local. 5 IN AAAA fd01::1",
	}
	if diff := cmp.Diff(want, shown(m.Extra)); diff != "" {
		t.Error(diff)
	}
}

// TestNamesFollow replaces and deletes Services, and expects nothing of old ones to stay.
func TestNamesFollow(t *testing.T) {
	t.Parallel()
	z := testZone(t, testRecords()...)
	serial := z.serial.Load()
	z.Set(planner.Record{Key: key("default", "web"), Addrs: addrs("10.96.0.9"), ClusterIPs: addrs("10.96.0.9")})
	if got := shown(ask(t, z, "9.0.96.10.in-addr.arpa.", dns.TypePTR).Answer); len(got) != 1 {
		t.Error("no new reverse name:", got)
	}
	for _, name := range []string{"1.0.96.10.in-addr.arpa.", "_http._tcp.web.default.svc.cluster.local."} {
		if m := ask(t, z, name, dns.TypePTR); m.Rcode == dns.RcodeSuccess {
			t.Error("still there:", m)
		}
	}
	if z.serial.Load() == serial {
		t.Error("serial is the same")
	}
	for _, r := range testRecords() {
		z.Delete(r.Key)
	}
	z.Delete(key("default", "web"))
	z.Set(planner.Record{Key: key("default", "a.b"), Addrs: addrs("10.96.0.9")}) // no name of a Service
	if n := len(z.services) + len(z.namespaces) + len(z.clusterIPs) + len(z.endpoints); n != 0 {
		t.Errorf("%d entries are left", n)
	}
}

// TestChangesWhileAsked changes Services from several goroutines while others ask for them.
func TestChangesWhileAsked(t *testing.T) {
	t.Parallel()
	z := testZone(t)
	h := &handler{zone: z, forward: newForwarder(nil, zap.NewNop())}
	var all sync.WaitGroup
	for i := range 4 {
		all.Go(func() {
			for n := range 100 {
				for _, r := range testRecords()[i:] {
					if z.Set(r); n%3 == i%3 {
						z.Delete(r.Key)
					}
				}
			}
		})
		all.Go(func() {
			for range 100 {
				for _, name := range []string{"web.default.svc.cluster.local.", "pets.db.svc.cluster.local.", "1.0.1.10.in-addr.arpa."} {
					h.reply(context.Background(), new(dns.Msg).SetQuestion(name, dns.TypeSRV), true)
				}
			}
		})
	}
	all.Wait()
	for _, r := range testRecords() {
		z.Delete(r.Key)
	}
	if n := len(z.services) + len(z.namespaces) + len(z.clusterIPs) + len(z.endpoints); n != 0 {
		t.Errorf("%d entries are left", n)
	}
}

// TestTurns expects each address of a Service first, in turn, and the same for its SRV records.
func TestTurns(t *testing.T) {
	t.Parallel()
	const n = 5
	r := planner.Record{Key: key("db", "pets")}
	for i := range n {
		r.Headless = append(r.Headless, planner.Endpoint{
			Addr: netip.AddrFrom4([4]byte{10, 1, 0, byte(i)}), Ports: []planner.Port{{Name: "http", Protocol: "tcp", Number: 80}}})
	}
	z := testZone(t, r)
	for name, qtype := range map[string]uint16{"pets.db.svc.cluster.local.": dns.TypeA, "_http._tcp.pets.db.svc.cluster.local.": dns.TypeSRV} {
		first := make(map[string]bool)
		for range n {
			ask(t, z, name, dns.TypeAAAA) // as resolvers ask for both families
			first[ask(t, z, name, qtype).Answer[0].String()] = true
		}
		if len(first) != n {
			t.Errorf("%s: %d of %d were first", name, len(first), n)
		}
	}
}

func TestDomains(t *testing.T) {
	t.Parallel()
	for domain, isValid := range map[string]bool{
		"cluster.local": true, "Cluster.Local.": true, "k8s": true, "": false, ".": false, "a..b": false, "a b": false,
		longest + "." + longest: false, strings.Repeat("x", 64): false,
	} {
		if _, err := New(domain); (err == nil) != isValid {
			t.Errorf("%q: %v", domain, err)
		}
	}
}
