package flow

import (
	"net/netip"
	"slices"
	"time"

	"usher/proxy/limit"
)

// AccessConfig says who may come to a service, how often, and as whom. The zero value lets
// everybody in.
type AccessConfig struct {
	// Allow and Deny are prefixes of clients. The most specific one that a client is in
	// decides. A client in none is refused if there is an Allow.
	Allow, Deny []netip.Prefix
	// DropDenied gives clients that these refuse no answer, as a rule that drops does.
	DropDenied bool
	// MaxClientConns bounds the flows of one client that live at once. Not for udp, which
	// has UDPConfig.MaxClientFlows.
	MaxClientConns int
	ConnsBits      ClientBits
	// ClientRate bounds how often a client may come, Rate how often all may.
	ClientRate limit.Rate
	RateBits   ClientBits
	Rate       limit.Rate
	// AcceptProxy are the peers whose connections begin with a PROXY protocol header. Other
	// peers are clients themselves, or refused if ProxyOnly.
	AcceptProxy []netip.Prefix
	ProxyOnly   bool
	// HeaderTimeout bounds the wait for the header; zero is DefaultHeaderTimeout.
	HeaderTimeout time.Duration
	// HelloTimeout bounds the wait for the ClientHello on a listener with server names; zero
	// is DefaultHelloTimeout.
	HelloTimeout time.Duration
}

const (
	DefaultHeaderTimeout = 5 * time.Second
	DefaultHelloTimeout  = 5 * time.Second
)

// ClientBits says how many bits of an address make a client; zero is all.
type ClientBits struct{ IPv4, IPv6 uint8 }

// SendProxy says whether and how backends get the client's address before its first byte.
type SendProxy struct {
	Version int  // 1 or 2; zero: not at all
	Every   bool // of udp: with every datagram rather than with the first of a flow
	ID      bool // with a unique-id TLV, of version 2
}

// SamePrefixes reports whether two lists have the same prefixes, in any order.
func SamePrefixes(a, b []netip.Prefix) bool {
	if slices.Equal(a, b) {
		return true
	}
	if len(a) != len(b) {
		return false
	}
	a, b = slices.Clone(a), slices.Clone(b)
	slices.SortFunc(a, netip.Prefix.Compare)
	slices.SortFunc(b, netip.Prefix.Compare)
	return slices.Equal(a, b)
}
