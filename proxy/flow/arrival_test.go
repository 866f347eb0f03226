package flow

import (
	"fmt"
	"net/netip"
	"testing"
	"time"

	"usher/balancer"
	"usher/proxy/limit"
	"usher/proxy/proxyheader"
	"usher/proxy/rules"
)

// inputRules returns a set of rules that accepts what none of them decides.
func inputRules(t testing.TB, all ...*rules.Rule) *rules.Set {
	t.Helper()
	set, err := rules.Compile(&rules.List{Chains: []*rules.Chain{{Name: rules.Input, Policy: rules.Accept, Rules: all}}}, nil, rules.Options{})
	if err != nil {
		t.Fatal(err)
	}
	return set
}

// source is a condition on the client.
func source(prefix string) rules.Prefix { return rules.Prefix{Prefix: netip.MustParsePrefix(prefix)} }

// doorstep is where datagrams of a service come by.
type doorstep struct {
	m   *Sessions
	svc *Service
	at  *Binding
	cut int
}

func newDoorstep(t testing.TB, set *rules.Set, edit func(*ServiceConfig)) *doorstep {
	t.Helper()
	c := testUDPService(t, UDPConfig{}, netip.MustParseAddrPort("10.0.0.1:53"), netip.MustParseAddrPort("10.0.0.2:53"))
	if edit != nil {
		edit(&c)
	}
	d := &doorstep{svc: testService(c)}
	a := admissionFor(t, 100, d.svc)
	a.SetRules(set)
	d.m, d.at = sessionsOf(a, func(*Session) { d.cut++ }), testBinding(d.svc)
	return d
}

// arrive routes a datagram, and sends it to its backend.
func (d *doorstep) arrive(in *Arrival, now time.Duration) (*Session, Action) {
	if !in.Local.IsValid() {
		in.Local = netip.MustParseAddrPort("192.0.2.2:53")
	}
	x, do := d.m.Route(d.at, in, now)
	if x != nil {
		d.m.Sent(x, 1, len(in.Payload)-in.Skip, now)
	}
	return x, do
}

func (d *doorstep) from(peer, payload string, now time.Duration) (*Session, Action) {
	return d.arrive(&Arrival{Peer: netip.MustParseAddrPort(peer), Payload: []byte(payload)}, now)
}

// TestDatagramsAreJudged has datagrams of a second each come by. The string says what becomes of
// them: a session, or an outcome.
func TestDatagramsAreJudged(t *testing.T) {
	t.Parallel()
	drop := inputRules(t, &rules.Rule{Source: source("192.0.2.0/24"), Protocol: rules.UDP, Target: rules.Drop})
	reject := inputRules(t, &rules.Rule{Protocol: rules.UDP, Matches: []rules.Match{&rules.Ports{Protocol: rules.UDP, Destination: &rules.PortRange{First: 53, Last: 53}}}, Target: rules.Reject})
	ofTCP := inputRules(t, &rules.Rule{Protocol: rules.TCP, Target: rules.Drop})
	one := inputRules(t, &rules.Rule{Matches: []rules.Match{&rules.Connlimit{Above: true, N: 1, Bits: 32}}, Target: rules.Drop})
	const a, b, other = "192.0.2.1:1", "192.0.2.1:2", "198.51.100.1:1"
	for _, tt := range []struct {
		name   string
		set    *rules.Set
		access AccessConfig
		ops    bool
		from   []string
		want   string
	}{
		{"nothing", nil, AccessConfig{}, false, []string{a, b, other, a}, "open open open send"},
		{"DROP", drop, AccessConfig{}, false, []string{a, other, b, other}, "denied open denied send"},
		{"REJECT", reject, AccessConfig{}, false, []string{a, other}, "denied denied"},
		{"of TCP", ofTCP, AccessConfig{}, false, []string{a}, "open"},
		{"connlimit", one, AccessConfig{}, false, []string{a, b, a, other}, "open denied send open"},
		{"connlimit of one packet", one, AccessConfig{}, true, []string{a, a, b, a}, "open open denied send"},
		{"deny", nil, AccessConfig{Deny: []netip.Prefix{netip.MustParsePrefix("192.0.2.0/24")}}, false, []string{a, other}, "denied open"},
		{"allow", nil, AccessConfig{Allow: []netip.Prefix{netip.MustParsePrefix("192.0.2.0/24")}}, false, []string{a, other}, "open denied"},
		{"client rate", nil, AccessConfig{ClientRate: limit.Rate{Events: 1, Per: time.Minute, Burst: 1}}, false,
			[]string{a, b, a, other}, "open rate-limited send open"},
		{"rate", nil, AccessConfig{Rate: limit.Rate{Events: 1, Per: time.Minute, Burst: 2}}, false,
			[]string{a, b, other, a}, "open open rate-limited send"},
		{"only named", nil, AccessConfig{AcceptProxy: []netip.Prefix{netip.MustParsePrefix("192.0.2.9/32")}, ProxyOnly: true}, false,
			[]string{a}, "denied"},
		{"without header", nil, AccessConfig{AcceptProxy: []netip.Prefix{netip.MustParsePrefix("192.0.2.0/24")}}, false,
			[]string{a, other}, "bad-proxy-header open"},
	} {
		d := newDoorstep(t, tt.set, func(c *ServiceConfig) { c.Access, c.UDP.OnePacket = tt.access, tt.ops })
		got := ""
		for i, from := range tt.from {
			x, do := d.from(from, "x", time.Duration(i)*time.Second)
			switch {
			case x == nil:
				got += " " + do.Outcome.String()
			case do.Do == Open:
				got += " open"
			default:
				got += " send"
			}
		}
		if got = got[1:]; got != tt.want {
			t.Errorf("%s: %s, want %s", tt.name, got, tt.want)
		}
		var refused uint64
		for _, o := range []Outcome{Denied, RateLimited, BadProxyHeader} {
			refused += d.svc.Ended(o)
		}
		if begun := d.svc.Accepted(); begun != refused+uint64(d.m.Len()) {
			t.Errorf("%s: %d accepted, %d refused and %d live", tt.name, begun, refused, d.m.Len())
		}
		d.m.Stop(time.Hour)
		if n := d.m.door.pass; n != (Pass{}) {
			t.Errorf("%s: the door holds %+v", tt.name, n)
		}
	}
}

// TestRulesCountDatagrams: each one that is judged, and the bytes both ways of sessions.
func TestRulesCountDatagrams(t *testing.T) {
	t.Parallel()
	set := inputRules(t,
		&rules.Rule{Source: source("192.0.2.0/24"), Target: rules.Drop},
		&rules.Rule{Target: rules.Continue},
		&rules.Rule{Source: source("198.51.100.0/24"), Target: rules.Accept})
	d := newDoorstep(t, set, nil)
	group := &Arrival{Peer: netip.MustParseAddrPort("192.0.2.1:1"), Payload: make([]byte, 25), Segment: 10}
	if x, do := d.arrive(group, 0); x != nil || do.Outcome != Denied {
		t.Errorf("got %+v", do)
	}
	for now := range 2 * time.Nanosecond {
		x, _ := d.from("198.51.100.1:1", "12345", now)
		d.m.Replied(x, 100, now)
	}
	d.m.Stop(time.Second)
	_, counters := set.Counters(0)
	want := [][3]uint64{{0, 3, 25}, {0, 1, 5}, {0, 1, 210}}
	for i, c := range counters {
		if got := [3]uint64{c.Flows.Load(), c.Datagrams.Load(), c.Bytes.Load()}; got != want[i] {
			t.Errorf("rule %d: %d flows, datagrams and bytes, want %d", i+1, got, want[i])
		}
	}
	if n := d.svc.Ended(Denied); n != 3 {
		t.Errorf("%d datagrams were denied, want 3", n)
	}
}

// TestGroupIsJudgedOneByOne: the first datagrams of a group may be refused.
func TestGroupIsJudgedOneByOne(t *testing.T) {
	t.Parallel()
	set := inputRules(t, &rules.Rule{Matches: []rules.Match{&rules.Statistic{Every: 3, Packet: 2, Not: true}}, Target: rules.Drop})
	d := newDoorstep(t, set, nil)
	group := &Arrival{Peer: netip.MustParseAddrPort("192.0.2.1:1"), Payload: make([]byte, 45), Segment: 10}
	x, do := d.arrive(group, 0)
	if x == nil || do.Do != Open || group.Skip != 20 || group.Refused != 2 {
		t.Errorf("got %+v, %d bytes skipped of %d datagrams", do, group.Skip, group.Refused)
	}
	if x, _ := d.arrive(group, 0); x == nil || group.Skip != 0 {
		t.Errorf("%d bytes of a session are skipped", group.Skip)
	}
}

// TestCountsAreLeftOnce: whatever becomes of a session, its client may come again.
func TestCountsAreLeftOnce(t *testing.T) {
	t.Parallel()
	const a, b, c = "192.0.2.1:1", "192.0.2.1:2", "192.0.2.1:3"
	for name, end := range map[string]func(*doorstep, time.Duration){
		"idle": func(d *doorstep, now time.Duration) { d.m.Expire(now + time.Hour) },
		"cut":  func(d *doorstep, now time.Duration) { d.m.CutFlows(CutTarget{Service: d.svc}, 0, now) },
		"refused": func(d *doorstep, now time.Duration) {
			for _, from := range []string{a, b} {
				x, _ := d.from(from, "x", now)
				d.m.PeerAbsent(x, now)
				d.m.PeerAbsent(x, now)
			}
		},
	} {
		set := inputRules(t, &rules.Rule{Matches: []rules.Match{&rules.Connlimit{Above: true, N: 2, Bits: 32}}, Target: rules.Drop})
		d := newDoorstep(t, set, nil)
		for round := range 5 {
			now := time.Duration(round) * 2 * time.Hour
			d.from(a, "x", now)
			d.from(b, "x", now)
			if _, do := d.from(c, "x", now); do.Outcome != Denied {
				t.Errorf("%s: the third session %+v", name, do)
			}
			if end(d, now); d.m.Len() > 0 {
				t.Errorf("%s: %d sessions live", name, d.m.Len())
			}
		}
	}
	// Nor does one hold a count that has no backend.
	set := inputRules(t, &rules.Rule{Matches: []rules.Match{&rules.Connlimit{Above: true, N: 1, Bits: 32}}, Target: rules.Drop})
	d := newDoorstep(t, set, func(c *ServiceConfig) { c.Pool, _ = balancer.NewPool(balancer.Options{}) })
	for range 3 {
		if _, do := d.from("192.0.2.1:1", "x", 0); do.Outcome != NoBackend {
			t.Errorf("a client without backend ends as %v", do.Outcome)
		}
	}
}

// TestRulesSeeInterfaces by the name that the engine knows.
func TestRulesSeeInterfaces(t *testing.T) {
	t.Parallel()
	d := newDoorstep(t, inputRules(t, &rules.Rule{Interface: rules.Interface{Name: "eth1"}, Target: rules.Drop}), nil)
	d.m.InterfaceName = func(index int32) string { return fmt.Sprint("eth", index) }
	for index, want := range []Outcome{Running, Denied, Running} {
		in := &Arrival{Peer: netip.AddrPortFrom(netip.MustParseAddr("192.0.2.1"), uint16(index+1)), Interface: int32(index)}
		if _, do := d.arrive(in, 0); do.Outcome != want {
			t.Errorf("by eth%d: %v, want %v", index, do.Outcome, want)
		}
	}
}

// TestDatagramsAreJudgedWithoutAllocation with all that is on.
func TestDatagramsAreJudgedWithoutAllocation(t *testing.T) {
	set := inputRules(t, &rules.Rule{Source: source("192.0.2.0/24"), Target: rules.Drop},
		&rules.Rule{Matches: []rules.Match{&rules.Connlimit{Above: true, N: 10, Bits: 32}}, Target: rules.Drop})
	d := newDoorstep(t, set, func(c *ServiceConfig) {
		c.UDP.Replies = 1
		c.Access.Deny = []netip.Prefix{netip.MustParsePrefix("192.0.2.0/24")}
		c.Access.ClientRate = limit.Rate{Events: 1000, Per: time.Second, Burst: 1 << 20}
		c.Access.AcceptProxy = []netip.Prefix{netip.MustParsePrefix("203.0.113.0/24")}
	})
	in := &Arrival{Peer: netip.MustParseAddrPort("198.51.100.1:1"), Payload: []byte("x")}
	allocateNothing(t, func() {
		x, _ := d.arrive(in, time.Second)
		d.m.Replied(x, 1, time.Second)
	})
	in.Peer = netip.MustParseAddrPort("192.0.2.1:1")
	allocateNothing(t, func() {
		if x, _ := d.arrive(in, time.Second); x != nil {
			t.Fatal("let in")
		}
	})
	in.Peer = netip.MustParseAddrPort("203.0.113.1:1")
	in.Payload = proxyheader.AppendV2(nil, &proxyheader.Header{Source: netip.MustParseAddrPort("198.51.100.1:1"), Destination: in.Local, Datagram: true})
	d.arrive(in, time.Second)
	allocateNothing(t, func() {
		if _, do := d.arrive(in, time.Second); do.Do != Send {
			t.Fatal("no session")
		}
	})
}
