package names

import (
	"net"
	"net/netip"
	"strconv"
	"strings"

	"github.com/miekg/dns"

	"usher/internal/kube/planner"
)

// schemaVersion is that of the specification that the zone follows.
const schemaVersion = "1.1.0"

// question is one question to a zone.
type question struct {
	dns.Question
	most int          // answers that are of use: more do not fit the reply
	self []netip.Addr // where the server listens
}

// answer is what a zone knows. Alias is the name to go on with; it stands in no zone of ours.
type answer struct {
	rcode     int
	rrs       []dns.RR
	extra     []dns.RR
	authority []dns.RR
	alias     string
}

// maxAliases bounds a chain of ExternalName Services.
const maxAliases = 8

// lookup answers a question for a name of the zone, or the reverse name of an address that it knows; false: it is
// none of the zone's.
func (z *Zone) lookup(q question) (answer, bool) {
	if a, is := z.lookupAddr(q); is {
		return a, true
	}
	var a answer
	for range maxAliases {
		labels, is := z.labels(q.Name)
		if !is {
			a.alias = q.Name
			return a, len(a.rrs) > 0
		}
		n, s, exists := z.find(labels)
		var rrs []dns.RR
		switch {
		case !exists:
			a.rcode = dns.RcodeNameError
		case q.Qtype == dns.TypeANY: // RFC 8482
			rrs = []dns.RR{&dns.HINFO{Hdr: header(q.Name, dns.TypeHINFO), Cpu: "RFC8482"}}
		case len(labels) == 0:
			rrs = z.apex(q.Qtype)
		case n != nil && n.cname != "":
			rrs = []dns.RR{&dns.CNAME{Hdr: header(q.Name, dns.TypeCNAME), Target: n.cname}}
			if q.Qtype == dns.TypeA || q.Qtype == dns.TypeAAAA {
				a.rrs, q.Name = append(a.rrs, rrs...), n.cname
				continue
			}
		default:
			rrs, a.extra = z.records(q, labels, n, s)
		}
		a.rrs = append(a.rrs, rrs...)
		if len(rrs) == 0 {
			a.authority = []dns.RR{z.soa(z.domain)}
		}
		return a, true
	}
	return answer{rcode: dns.RcodeServerFailure}, true
}

// labels returns the labels of a name before the domain, in lower case; false: it is not in the zone.
func (z *Zone) labels(name string) ([]string, bool) {
	name = dns.CanonicalName(name)
	if name == z.domain {
		return nil, true
	}
	before, is := strings.CutSuffix(name, "."+z.domain)
	return strings.Split(before, "."), is
}

// find returns the node of a name with its Service; nil: it has none, though the name may exist.
func (z *Zone) find(labels []string) (_ *node, _ *service, exists bool) {
	n := len(labels)
	switch {
	case n == 0:
		return nil, nil, true
	case labels[n-1] == "dns-version":
		return nil, nil, n == 1
	case labels[n-1] == "dns":
		return nil, nil, n == 1 || n == 2 && labels[0] == "ns"
	case labels[n-1] == "pod":
		return nil, nil, n <= 2 || n == 3 && podAddr(labels[0]).IsValid()
	case labels[n-1] != "svc":
		return nil, nil, false
	case n == 1:
		return nil, nil, true
	case n == 2:
		return nil, nil, z.hasNamespace(labels[0])
	}
	s := z.service(planner.Key{Namespace: labels[n-2], Name: labels[n-3]})
	if s == nil {
		return nil, nil, false
	}
	found := s.nodes[strings.Join(labels[:n-3], ".")]
	return found, s, found != nil
}

// records returns the records of a name that exists, and addresses that go with them.
func (z *Zone) records(q question, labels []string, n *node, s *service) (rrs, extra []dns.RR) {
	switch {
	case n != nil && q.Qtype == dns.TypeSRV:
		return n.srvRecords(q, s)
	case n != nil && q.Qtype == dns.TypeA:
		return addressRecords(q.Name, n.v4.take(q.most)), nil
	case n != nil && q.Qtype == dns.TypeAAAA:
		return addressRecords(q.Name, n.v6.take(q.most)), nil
	case n != nil:
		return nil, nil
	}
	switch {
	case labels[0] == "dns-version" && q.Qtype == dns.TypeTXT:
		return []dns.RR{&dns.TXT{Hdr: header(q.Name, dns.TypeTXT), Txt: []string{schemaVersion}}}, nil
	case labels[0] == "ns" && labels[len(labels)-1] == "dns":
		return addressRecords(q.Name, ofType(q.self, q.Qtype)), nil
	case len(labels) == 3: // of a pod
		return addressRecords(q.Name, ofType([]netip.Addr{podAddr(labels[0])}, q.Qtype)), nil
	}
	return nil, nil
}

// srvRecords returns SRV records, and the addresses of their targets as far as they are of use.
func (n *node) srvRecords(q question, s *service) (rrs, extra []dns.RR) {
	weight := uint16(max(1, 100/max(1, len(n.srv.items))))
	done := make(map[string]bool)
	for _, to := range n.srv.take(q.most) {
		rrs = append(rrs, &dns.SRV{Hdr: header(q.Name, dns.TypeSRV), Weight: weight, Port: to.port, Target: to.name})
		if at := s.nodes[to.node]; at != nil && !done[to.name] && len(extra) < q.most {
			done[to.name] = true
			extra = append(extra, addressRecords(to.name, at.v4.take(q.most-len(extra)))...)
			extra = append(extra, addressRecords(to.name, at.v6.take(q.most-len(extra)))...)
		}
	}
	return rrs, extra
}

// lookupAddr answers for the reverse name of an address that the zone has names for; false: it is not one.
func (z *Zone) lookupAddr(q question) (answer, bool) {
	addr, is := reverseAddr(q.Name)
	if !is {
		return answer{}, false
	}
	names := z.pointers(addr)
	if len(names) == 0 {
		return answer{}, false
	}
	if q.Qtype != dns.TypePTR {
		return answer{authority: []dns.RR{z.soa(q.Name)}}, true
	}
	var a answer
	for _, name := range names {
		a.rrs = append(a.rrs, &dns.PTR{Hdr: header(q.Name, dns.TypePTR), Ptr: name})
	}
	return a, true
}

func (z *Zone) apex(qtype uint16) []dns.RR {
	switch qtype {
	case dns.TypeSOA:
		return []dns.RR{z.soa(z.domain)}
	case dns.TypeNS:
		return []dns.RR{&dns.NS{Hdr: header(z.domain, dns.TypeNS), Ns: "ns.dns." + z.domain}}
	}
	return nil
}

func (z *Zone) soa(name string) dns.RR {
	return &dns.SOA{
		Hdr: header(name, dns.TypeSOA), Ns: "ns.dns." + z.domain, Mbox: "hostmaster." + z.domain, Serial: z.serial.Load(),
		Refresh: 7200, Retry: 1800, Expire: 86400, Minttl: ttl,
	}
}

func header(name string, rrtype uint16) dns.RR_Header {
	return dns.RR_Header{Name: name, Rrtype: rrtype, Class: dns.ClassINET, Ttl: ttl}
}

func addressRecords(name string, addrs []netip.Addr) []dns.RR {
	rrs := make([]dns.RR, 0, len(addrs))
	for _, addr := range addrs {
		if addr.Is4() {
			rrs = append(rrs, &dns.A{Hdr: header(name, dns.TypeA), A: net.IP(addr.AsSlice())})
		} else {
			rrs = append(rrs, &dns.AAAA{Hdr: header(name, dns.TypeAAAA), AAAA: net.IP(addr.AsSlice())})
		}
	}
	return rrs
}

// ofType returns the addresses that records of a type have.
func ofType(addrs []netip.Addr, qtype uint16) []netip.Addr {
	var of []netip.Addr
	for _, addr := range addrs {
		if addr.Is4() && qtype == dns.TypeA || addr.Is6() && qtype == dns.TypeAAAA {
			of = append(of, addr)
		}
	}
	return of
}

// podAddr returns the address that the name of a pod stands for; invalid: none. Any address is taken for a pod's, as
// CoreDNS's default ("insecure") has it and section 2.6 of the specification asks: no source tells usher of pods.
func podAddr(label string) netip.Addr {
	for _, sep := range []string{".", ":"} {
		addr, err := netip.ParseAddr(strings.ReplaceAll(label, "-", sep))
		if err == nil && addr.Zone() == "" {
			return addr
		}
	}
	return netip.Addr{}
}

// reverseAddr returns the address that a name of in-addr.arpa or ip6.arpa stands for.
func reverseAddr(name string) (netip.Addr, bool) {
	name = dns.CanonicalName(name)
	if before, is := strings.CutSuffix(name, ".in-addr.arpa."); is {
		labels := strings.Split(before, ".")
		if len(labels) != 4 {
			return netip.Addr{}, false
		}
		addr, err := netip.ParseAddr(labels[3] + "." + labels[2] + "." + labels[1] + "." + labels[0])
		return addr, err == nil
	}
	before, is := strings.CutSuffix(name, ".ip6.arpa.")
	if !is || len(before) != 63 {
		return netip.Addr{}, false
	}
	var bytes [16]byte
	for i := range 32 {
		digit, err := strconv.ParseUint(before[2*i:2*i+1], 16, 8)
		if err != nil || i < 31 && before[2*i+1] != '.' {
			return netip.Addr{}, false
		}
		bytes[15-i/2] |= byte(digit) << (4 * (i % 2))
	}
	return netip.AddrFrom16(bytes), true
}
