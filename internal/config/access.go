package config

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"

	"usher/proxy/limit"
)

// Access says who may come in to a service, how often, and as whom.
type Access struct {
	Allow, Deny    Prefixes // of clients; the most specific one decides
	DropDenied     bool     // clients that these refuse get no answer
	MaxClientConns ClientLimit
	ClientRate     ClientRate
	Rate           limit.Rate // of all clients together; zero: no limit
	AcceptProxy    Prefixes   // of peers that send a PROXY protocol header
	ProxyOnly      bool       // other peers are refused
	HeaderTimeout  time.Duration
	HelloTimeout   time.Duration
}

// defaultAccess lets everybody in. The timeouts are those of package flow.
func defaultAccess() Access {
	return Access{HeaderTimeout: 5 * time.Second, HelloTimeout: 5 * time.Second}
}

// ClientLimit is how many flows a client may have at once.
type ClientLimit struct {
	Most         int // 0: any number
	Bits4, Bits6 int // of its address, which identify a client; 0: all
}

// String returns the canonical word, which parseClientLimit reads.
func (l ClientLimit) String() string {
	if l.Most == 0 {
		return "off"
	}
	return strconv.Itoa(l.Most) + formatBits(l.Bits4, l.Bits6)
}

// parseClientLimit reads off or N[/BITS[/BITS6]].
func parseClientLimit(word string) (l ClientLimit, err error) {
	if word == "off" {
		return ClientLimit{}, nil
	}
	most, bits, masked := strings.Cut(word, "/")
	if l.Most, err = number(1, maxCount)(most); err == nil && masked {
		l.Bits4, l.Bits6, err = parseBits(bits)
	}
	return l, err
}

// ClientRate is how often a client may come.
type ClientRate struct {
	Rate         limit.Rate // zero: any number of times
	Bits4, Bits6 int        // of its address, which identify a client; 0: all
}

// String returns the canonical word, which parseClientRate reads.
func (r ClientRate) String() string {
	if !r.Rate.IsOn() {
		return "off"
	}
	return formatRate(r.Rate) + formatBits(r.Bits4, r.Bits6)
}

// parseClientRate reads off or N/s[,burst=N], and how many bits of an address identify a client, at the end or before the
// options.
func parseClientRate(word string) (r ClientRate, err error) {
	word, bits := cutBits(word)
	if r.Rate, err = parseRate(word); err == nil && bits != "" {
		r.Bits4, r.Bits6, err = parseBits(bits)
	}
	if err == nil && bits != "" && !r.Rate.IsOn() {
		err = fmt.Errorf("off takes no prefix (leave out /%s)", bits)
	}
	return r, err
}

// cutBits takes the prefix lengths out of the word of a rate.
func cutBits(word string) (rate, bits string) {
	at := strings.IndexByte(word, '/') + 1
	begin := at + strings.IndexByte(word[at:], '/')
	if begin < at {
		return word, ""
	}
	end := begin + 1 + strings.IndexByte(word[begin+1:], ',')
	if end <= begin {
		end = len(word)
	}
	return word[:begin] + word[end:], word[begin+1 : end]
}

// periods are those of a rate.
var periods = []struct {
	word string
	of   time.Duration
}{{"s", time.Second}, {"m", time.Minute}, {"h", time.Hour}, {"d", 24 * time.Hour}}

// parseRate reads off or N/s[,burst=N], also of a minute, an hour or a day. By default as many may come at once as in a
// period.
func parseRate(word string) (r limit.Rate, err error) {
	if word == "off" {
		return limit.Rate{}, nil
	}
	head, options, more := strings.Cut(word, ",")
	events, period, ok := strings.Cut(head, "/")
	if !ok {
		return r, fmt.Errorf("%q is not a rate such as 10/s, 100/m, 1000/h or 5000/d", head)
	}
	if r.Events, err = number(1, maxCount)(events); err != nil {
		return limit.Rate{}, err
	}
	var have []string
	for _, p := range periods {
		have = append(have, p.word)
		if p.word == period {
			r.Per = p.of
		}
	}
	if r.Per == 0 {
		return limit.Rate{}, fmt.Errorf("unknown period %q of a rate (have %s)", period, strings.Join(have, ", "))
	}
	if r.Burst = r.Events; more {
		err = setEach(options, "option", setter{key: "burst", set: into(&r.Burst, number(1, maxCount))})
	}
	return r, err
}

func formatRate(r limit.Rate) string {
	if !r.IsOn() {
		return "off"
	}
	word := fmt.Sprintf("%d/%s", r.Events, r.Per)
	for _, p := range periods {
		if p.of == r.Per {
			word = fmt.Sprintf("%d/%s", r.Events, p.word)
		}
	}
	if r.Burst != r.Events {
		word += fmt.Sprintf(",burst=%d", r.Burst)
	}
	return word
}

// Prefixes are addresses of clients or peers.
type Prefixes []netip.Prefix

// String returns the canonical word, which parsePrefixes reads.
func (p Prefixes) String() string {
	if len(p) == 0 {
		return "off"
	}
	words := make([]string, len(p))
	for i, x := range p {
		if words[i] = x.String(); x.IsSingleIP() {
			words[i] = x.Addr().String()
		}
	}
	return strings.Join(words, ",")
}

// parsePrefixes reads off or a list of prefixes and addresses.
func parsePrefixes(word string) (Prefixes, error) {
	if word == "off" {
		return nil, nil
	}
	var all Prefixes
	seen := make(map[netip.Prefix]bool)
	for word := range strings.SplitSeq(word, ",") {
		p, err := parsePrefix(strings.TrimSpace(word))
		if err != nil {
			return nil, err
		}
		if seen[p] {
			return nil, fmt.Errorf("%s is there twice", word)
		}
		seen[p] = true
		all = append(all, p)
	}
	return all, nil
}

// parsePrefix reads a prefix or an address. An IPv4-mapped one is IPv4.
func parsePrefix(word string) (netip.Prefix, error) {
	if word == "" {
		return netip.Prefix{}, errors.New("an address of the list is empty")
	}
	if ip, err := netip.ParseAddr(word); err == nil {
		if ip.Zone() != "" {
			return netip.Prefix{}, fmt.Errorf("%q has a zone, and addresses of clients have none", word)
		}
		ip = ip.Unmap()
		return netip.PrefixFrom(ip, ip.BitLen()), nil
	}
	p, err := netip.ParsePrefix(word)
	if err != nil {
		return netip.Prefix{}, fmt.Errorf("%q is not an address or a prefix, such as 10.1.2.3 or 10.0.0.0/8", word)
	}
	if p.Addr().Is4In6() && p.Bits() >= 96 {
		p = netip.PrefixFrom(p.Addr().Unmap(), p.Bits()-96)
	}
	if p != p.Masked() {
		return netip.Prefix{}, fmt.Errorf("%q has bits beyond its length (did you mean %q?)", word, p.Masked())
	}
	return p, nil
}

// SendProxy says whether and how backends get the client's address.
type SendProxy struct {
	Version int  // of the PROXY protocol; 0: not at all
	Every   bool // of udp: with every datagram
}

// String returns the canonical word, which parseSendProxy reads.
func (p SendProxy) String() string {
	switch {
	case p.Version == 0:
		return "off"
	case p.Every:
		return fmt.Sprintf("v%d,every", p.Version)
	}
	return fmt.Sprintf("v%d", p.Version)
}

// parseSendProxy reads off, v1 or v2, and with the last every.
func parseSendProxy(word string) (p SendProxy, err error) {
	version, how, more := strings.Cut(word, ",")
	if version, err = oneOf("off", "v1", "v2")(version); err != nil {
		return SendProxy{}, err
	}
	p.Version = slices.Index([]string{"off", "v1", "v2"}, version)
	switch {
	case more && how != "every":
		return SendProxy{}, fmt.Errorf("unknown option %q%s", how, OrHave(how, []string{"every"}))
	case more && p.Version != 2:
		return SendProxy{}, fmt.Errorf("%s takes no %q: it is for datagrams, and those need v2", version, how)
	}
	p.Every = more
	return p, nil
}

// trusted returns a word for the peers whose headers a service accepts, in any order, and for who else may come.
func (s *Service) trusted() string {
	a := &s.Access
	if len(a.AcceptProxy) == 0 {
		return ""
	}
	sorted := slices.SortedFunc(slices.Values(a.AcceptProxy), netip.Prefix.Compare)
	return fmt.Sprint(Prefixes(sorted), a.ProxyOnly)
}

// checkAccess refuses options about who may come in that contradict others, or have no effect.
func (s *Service) checkAccess() error {
	a, isUDP := &s.Access, s.IsUDP()
	switch {
	case a.ProxyOnly && len(a.AcceptProxy) == 0:
		return s.optionError("accept-proxy-only", " refuses everybody without %s, which says from whom headers come", Field("accept-proxy"))
	case a.DropDenied && len(a.Allow)+len(a.Deny) == 0:
		return s.optionError("on-deny", " has no effect without %s or %s", Field("allow"), Field("deny"))
	case a.HeaderTimeout != defaultAccess().HeaderTimeout && len(a.AcceptProxy) == 0:
		return s.optionError("accept-proxy-timeout", " has no effect without %s", Field("accept-proxy"))
	case s.SendProxyID && s.SendProxy.Version != 2:
		return s.optionError("send-proxy-id", " has no effect without %s v2, whose header has the id", Field("send-proxy"))
	case s.SendProxy.Version == 1 && isUDP:
		return s.optionError("send-proxy", " v1 has no header for datagrams (v2 has)")
	case s.SendProxy.Every && !isUDP:
		return s.optionError("send-proxy", " every is for udp services: a connection has one header")
	}
	for _, p := range a.Allow {
		if slices.Contains(a.Deny, p) {
			return s.optionError("allow", " %s is in %s, too", Prefixes{p}, Field("deny"))
		}
	}
	if slices.ContainsFunc(s.Listeners, func(l Addr) bool { return l.Network != Unix }) {
		return nil
	}
	without := NewService("", TCP)
	name := firstDifferent(s, without, "allow", "deny", "max-client-conns", "client-rate", "rate", "accept-proxy")
	if name == "" {
		return nil
	}
	return s.optionError(name, " has no effect: clients of a unix socket have no address (the mode of its file says who may connect)")
}

// firstDifferent returns the first of some options in which two services differ, or "".
func firstDifferent(a, b *Service, names ...Field) Field {
	for _, name := range names {
		if a.Text(name) != b.Text(name) {
			return name
		}
	}
	return ""
}
