package names

import (
	"context"
	"errors"
	"net/netip"

	"github.com/miekg/dns"
)

// ednsSize is the largest datagram sent and asked for: it passes every path without fragments.
const ednsSize = 1232

// smallestRecord is the size of an A record whose name is compressed: no record is smaller.
const smallestRecord = 16

// handler answers queries: those for the zone itself, others by the forwarder.
type handler struct {
	zone    *Zone
	forward *forwarder
	self    []netip.Addr // where the server listens, for the address of its own name
}

// accept says what is done with a query by its header alone. Responses are not answered: two servers would talk for ever.
func accept(h dns.Header) dns.MsgAcceptAction {
	const isResponse, opcode = 1 << 15, 0xf << 11
	switch {
	case h.Bits&isResponse != 0:
		return dns.MsgIgnore
	case h.Bits&opcode != 0:
		return dns.MsgRejectNotImplemented
	case h.Qdcount != 1 || h.Ancount > 0 || h.Nscount > 0 || h.Arcount > 2:
		return dns.MsgReject
	}
	return dns.MsgAccept
}

// reply returns the reply to a query that was accepted, which fits its transport.
func (h *handler) reply(ctx context.Context, req *dns.Msg, isUDP bool) *dns.Msg {
	m := new(dns.Msg).SetReply(req)
	m.RecursionAvailable = h.forward.hasUpstream()
	m.Compress = true
	size := dns.MaxMsgSize
	if isUDP {
		size = dns.MinMsgSize
	}
	opt, isValid := findOPT(req)
	if opt != nil {
		m.SetEdns0(ednsSize, opt.Do())
		if isUDP {
			size = min(max(int(opt.UDPSize()), dns.MinMsgSize), ednsSize)
		}
	}
	switch {
	case !isValid || len(req.Question) != 1: // a header may promise a question that is not there
		m.Rcode = dns.RcodeFormatError
	case opt != nil && opt.Version() != 0:
		m.Rcode = dns.RcodeBadVers
	case req.Question[0].Qclass != dns.ClassINET || isMeta(req.Question[0].Qtype):
		m.Rcode = dns.RcodeRefused
	default:
		h.answer(ctx, m, req, size)
	}
	m.Truncate(size)
	return m
}

// answer fills in a reply to a question that may be asked.
func (h *handler) answer(ctx context.Context, m, req *dns.Msg, size int) {
	asked := query{Question: req.Question[0], rd: req.RecursionDesired, ad: req.AuthenticatedData, cd: req.CheckingDisabled}
	if opt := req.IsEdns0(); opt != nil {
		asked.do = opt.Do()
	}
	a, is := h.zone.lookup(question{Question: req.Question[0], most: size/smallestRecord + 1, self: h.self})
	if !is {
		if asked.Qtype == dns.TypeANY {
			m.Rcode = dns.RcodeRefused
			return
		}
		h.follow(ctx, m, asked, req.Id)
		return
	}
	m.Authoritative, m.Rcode, m.Answer, m.Ns = true, a.rcode, a.rrs, a.authority
	if a.alias != "" && h.forward.hasUpstream() {
		asked.Name, asked.rd = a.alias, true
		h.follow(ctx, m, asked, req.Id)
	}
	if m.Len()+lenOf(a.extra) <= size { // additional records are no reason to truncate
		m.Extra = append(a.extra, m.Extra...)
	}
}

// follow appends to a reply what an upstream answers.
func (h *handler) follow(ctx context.Context, m *dns.Msg, q query, id uint16) {
	from, err := h.forward.exchange(ctx, q, id)
	switch {
	case errors.Is(err, errNoUpstream), errors.Is(err, errLoop):
		m.Rcode = dns.RcodeRefused
		return
	case err != nil:
		m.Rcode = dns.RcodeServerFailure
		return
	}
	if len(m.Answer) == 0 {
		m.Authoritative, m.AuthenticatedData = from.Authoritative, from.AuthenticatedData
	}
	m.Rcode = from.Rcode
	m.Answer = append(m.Answer, from.Answer...)
	m.Ns = append(m.Ns, from.Ns...)
	var extra []dns.RR
	for _, rr := range from.Extra {
		switch rr.Header().Rrtype {
		case dns.TypeOPT, dns.TypeTSIG, dns.TypeSIG: // of the hop to the upstream alone
		default:
			extra = append(extra, rr)
		}
	}
	m.Extra = append(extra, m.Extra...)
}

// findOPT returns the EDNS record of a query; false: it has two.
func findOPT(m *dns.Msg) (opt *dns.OPT, isValid bool) {
	for _, rr := range m.Extra {
		if found, is := rr.(*dns.OPT); is {
			if opt != nil {
				return opt, false
			}
			opt = found
		}
	}
	return opt, true
}

// isMeta reports whether a type stands for no record: transfers, signatures of messages, EDNS. ANY is answered.
func isMeta(qtype uint16) bool {
	return qtype == dns.TypeNone || qtype == dns.TypeOPT || dns.TypeTKEY <= qtype && qtype <= dns.TypeMAILA
}

func lenOf(rrs []dns.RR) int {
	n := 0
	for _, rr := range rrs {
		n += dns.Len(rr)
	}
	return n
}
