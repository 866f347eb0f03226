package names

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/miekg/dns"
	"go.uber.org/zap"
)

const (
	maxForwarded    = 256 // questions that wait for upstreams at one time; more fail at once
	upstreamTimeout = 2 * time.Second
	totalTimeout    = 5 * time.Second // when resolvers ask again
	maxStray        = 64              // datagrams of an upstream that are not the answer
	silentAfter     = 3               // questions in a row without an answer, until it is logged
)

var (
	errNoUpstream = errors.New("there is no upstream")
	errLoop       = errors.New("the upstream asks usher what usher asks it")
	errBusy       = errors.New("too many questions wait for upstreams")
)

// query is a question for an upstream with the flags that its answer depends on.
type query struct {
	dns.Question
	rd, ad, cd, do bool
}

// forwarder asks upstreams. Equal questions at one time are asked once: so an upstream that leads back to this server
// costs one question, which then waits for itself until its time is over.
type forwarder struct {
	upstreams []*upstream
	first     atomic.Uint32 // the upstream to ask first: the last one that answered
	slots     chan struct{}
	timeout   time.Duration // for each transport of each upstream
	total     time.Duration // for all of them
	log       *zap.Logger

	mu      sync.Mutex
	flights map[query]*flight
}

// noID is the ID of no message.
const noID = 1 << 16

// flight is a question that waits for upstreams.
type flight struct {
	id    atomic.Uint32 // of the message that was sent last
	ended chan struct{} // closed when reply and err are set
	reply *dns.Msg
	err   error
}

type upstream struct {
	addr       netip.AddrPort
	unanswered atomic.Int32 // questions in a row
}

func newForwarder(addrs []netip.AddrPort, log *zap.Logger) *forwarder {
	f := &forwarder{
		slots: make(chan struct{}, maxForwarded), timeout: upstreamTimeout, total: totalTimeout, log: log, flights: make(map[query]*flight),
	}
	for _, addr := range addrs {
		f.upstreams = append(f.upstreams, &upstream{addr: addr})
	}
	return f
}

func (f *forwarder) hasUpstream() bool { return len(f.upstreams) > 0 }

// exchange returns what an upstream answers to a question, for a query of that ID. The caller may write to the
// message, but not to its records.
func (f *forwarder) exchange(ctx context.Context, q query, id uint16) (*dns.Msg, error) {
	if !f.hasUpstream() {
		return nil, errNoUpstream
	}
	select {
	case f.slots <- struct{}{}:
		defer func() { <-f.slots }()
	default:
		return nil, errBusy
	}
	f.mu.Lock()
	joined := f.flights[q]
	if joined == nil {
		own := &flight{ended: make(chan struct{})}
		own.id.Store(noID)
		f.flights[q] = own
		f.mu.Unlock()
		f.fly(ctx, q, own)
		return own.reply, own.err
	}
	f.mu.Unlock()
	if joined.id.Load() == uint32(id) {
		return nil, errLoop
	}
	select {
	case <-joined.ended:
		return joined.reply, joined.err
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// fly asks for a flight, and ends it.
func (f *forwarder) fly(ctx context.Context, q query, own *flight) {
	ctx, cancel := context.WithTimeout(ctx, f.total)
	defer cancel()
	own.reply, own.err = f.ask(ctx, q, own)
	f.mu.Lock()
	delete(f.flights, q)
	f.mu.Unlock()
	close(own.ended)
}

// ask asks one upstream after the other, until one answers. One that fails or refuses has the last word only if all do.
func (f *forwarder) ask(ctx context.Context, q query, own *flight) (*dns.Msg, error) {
	var (
		poor *dns.Msg
		errs []error
	)
	n := uint32(len(f.upstreams))
	start := f.first.Load()
	for i := range n {
		at := (start + i) % n
		up := f.upstreams[at]
		reply, err := f.askOne(ctx, up, q, own)
		if ctx.Err() != nil && err != nil {
			errs = append(errs, ctx.Err())
			break
		}
		f.note(up, err)
		switch {
		case err != nil:
			errs = append(errs, fmt.Errorf("upstream %s: %w", up.addr, err))
		case reply.Rcode == dns.RcodeSuccess || reply.Rcode == dns.RcodeNameError:
			f.first.Store(at)
			return reply, nil
		default:
			poor = reply
		}
	}
	if poor != nil {
		return poor, nil
	}
	return nil, errors.Join(errs...)
}

// note logs when an upstream falls silent, and when it answers again.
func (f *forwarder) note(up *upstream, err error) {
	if err == nil {
		if up.unanswered.Swap(0) >= silentAfter {
			f.log.Info("dns upstream answers again", zap.Stringer("upstream", up.addr))
		}
		return
	}
	if up.unanswered.Add(1) == silentAfter {
		f.log.Warn("dns upstream does not answer", zap.Stringer("upstream", up.addr), zap.Error(err))
	}
}

// askOne asks over UDP, and over TCP if the answer is truncated.
func (f *forwarder) askOne(ctx context.Context, up *upstream, q query, own *flight) (*dns.Msg, error) {
	reply, err := f.askOver(ctx, "udp", up, q, own)
	if err != nil || !reply.Truncated {
		return reply, err
	}
	return f.askOver(ctx, "tcp", up, q, own)
}

// askOver asks once, from a port of its own and with a random ID.
func (f *forwarder) askOver(ctx context.Context, network string, up *upstream, q query, own *flight) (*dns.Msg, error) {
	m := &dns.Msg{Question: []dns.Question{q.Question}}
	m.Id, m.RecursionDesired, m.AuthenticatedData, m.CheckingDisabled = dns.Id(), q.rd, q.ad, q.cd
	m.SetEdns0(ednsSize, q.do)
	own.id.Store(uint32(m.Id))

	ctx, cancel := context.WithTimeout(ctx, f.timeout)
	defer cancel()
	client := dns.Client{Net: network, Timeout: f.timeout, UDPSize: dns.DefaultMsgSize}
	conn, err := client.DialContext(ctx, up.addr.String())
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	defer context.AfterFunc(ctx, func() { conn.Close() })()
	if err := conn.WriteMsg(m); err != nil {
		return nil, err
	}
	for range maxStray {
		reply, err := conn.ReadMsg()
		switch {
		case err == nil && isReply(reply, m):
			return reply, nil
		case err != nil && (network == "tcp" || isOfSocket(err)):
			return nil, err
		}
	}
	return nil, errors.New("it sends messages that are no answers")
}

// isOfSocket tells an error of a socket from that of a message.
func isOfSocket(err error) bool {
	var of net.Error
	return errors.As(err, &of)
}

// isReply reports whether a message answers another. A server that can't parse a query may leave its question out.
func isReply(reply, to *dns.Msg) bool {
	if !reply.Response || reply.Id != to.Id {
		return false
	}
	if len(reply.Question) == 0 {
		return reply.Rcode != dns.RcodeSuccess && reply.Rcode != dns.RcodeNameError
	}
	got, asked := reply.Question[0], to.Question[0]
	return len(reply.Question) == 1 && strings.EqualFold(got.Name, asked.Name) && got.Qtype == asked.Qtype && got.Qclass == asked.Qclass
}
