package rules

import (
	"errors"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"usher/proxy/limit"
)

// packet returns a packet of "tcp client local interface" or udp.
func packet(words string) *Packet {
	w := strings.Fields(words)
	p := &Packet{Protocol: TCP, Client: netip.MustParseAddrPort(w[1]), Local: netip.MustParseAddrPort(w[2])}
	if w[0] == "udp" {
		p.Protocol, p.Bytes = UDP, 100
	}
	if len(w) > 3 {
		p.Interface = w[3]
	}
	return p
}

const plain = "tcp 10.0.0.1:1000 192.0.2.1:80 eth0"

func prefix(s string) Prefix {
	s, not := strings.CutPrefix(s, "!")
	return Prefix{netip.MustParsePrefix(s), not}
}

// input returns a list of one chain.
func input(policy Target, all ...*Rule) *List {
	return &List{[]*Chain{{Name: Input, Policy: policy, Rules: all}}}
}

func compile(t testing.TB, list *List, before *Set, o Options) *Set {
	t.Helper()
	s, err := Compile(list, before, o)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// TestConditions checks each condition by itself: a rule with it accepts, or the policy drops.
func TestConditions(t *testing.T) {
	t.Parallel()
	ports := func(first, last uint16) *PortRange { return &PortRange{first, last} }
	for _, test := range []struct {
		name     string
		rule     Rule
		yes, not string // packets, by line
	}{
		{name: "none", yes: plain},
		{"source", Rule{Source: prefix("10.0.0.0/8")}, plain, "tcp 11.0.0.1:1 192.0.2.1:80\ntcp [::1]:1 [::1]:80"},
		{"not source", Rule{Source: prefix("!10.0.0.0/8")}, "tcp 11.0.0.1:1 192.0.2.1:80\ntcp [::1]:1 [::1]:80", plain},
		{"all of IPv4", Rule{Source: prefix("0.0.0.0/0")}, plain, "tcp [::1]:1 [::1]:80"},
		{"none of IPv4", Rule{Source: prefix("!0.0.0.0/0")}, "tcp [::1]:1 [::1]:80", plain},
		{"zone", Rule{Source: prefix("fe80::/10")}, "tcp [fe80::1%eth0]:1 [fe80::2]:80", plain},
		{"destination", Rule{Destination: prefix("192.0.2.1/32")}, plain, "tcp 10.0.0.1:1 192.0.2.2:80"},
		{"protocol", Rule{Protocol: UDP}, "udp 10.0.0.1:1 192.0.2.1:80", plain},
		{"not protocol", Rule{Protocol: UDP, NotProtocol: true}, plain, "udp 10.0.0.1:1 192.0.2.1:80"},
		{"icmp", Rule{Protocol: 1}, "", plain},
		{"not icmp", Rule{Protocol: 1, NotProtocol: true}, plain, ""},
		{"interface", Rule{Interface: Interface{Name: "eth0"}}, plain, "tcp 10.0.0.1:1 192.0.2.1:80 eth01\ntcp 10.0.0.1:1 192.0.2.1:80"},
		{"not interface", Rule{Interface: Interface{"eth0", true}}, "tcp 10.0.0.1:1 192.0.2.1:80 eth01\ntcp 10.0.0.1:1 192.0.2.1:80", plain},
		{"interfaces", Rule{Interface: Interface{Name: "eth+"}}, plain, "tcp 10.0.0.1:1 192.0.2.1:80 lo"},
		{"any interface", Rule{Interface: Interface{Name: "+"}}, plain + "\ntcp 10.0.0.1:1 192.0.2.1:80", ""},
		{
			"ports", Rule{Matches: []Match{&Ports{Protocol: TCP, Source: ports(1000, 1001), Destination: ports(80, 80)}}},
			plain, "tcp 10.0.0.1:1 192.0.2.1:80\ntcp 10.0.0.1:1000 192.0.2.1:81\nudp 10.0.0.1:1000 192.0.2.1:80",
		},
		{
			"not ports", Rule{Matches: []Match{&Ports{Protocol: TCP, Destination: ports(81, 90), NotDestination: true}}},
			plain, "tcp 10.0.0.1:1 192.0.2.1:81\ntcp 10.0.0.1:1 192.0.2.1:90",
		},
		{
			"multiport", Rule{Matches: []Match{&Multiport{Side: DestinationPort, Ranges: []PortRange{{443, 443}, {79, 80}}}}},
			plain, "tcp 10.0.0.1:80 192.0.2.1:81",
		},
		{
			"either port", Rule{Matches: []Match{&Multiport{Side: EitherPort, Ranges: []PortRange{{80, 80}}}}},
			plain + "\ntcp 10.0.0.1:80 192.0.2.1:81", "tcp 10.0.0.1:81 192.0.2.1:81",
		},
		{
			"neither port", Rule{Matches: []Match{&Multiport{Side: EitherPort, Not: true, Ranges: []PortRange{{80, 80}}}}},
			"tcp 10.0.0.1:81 192.0.2.1:81", plain + "\ntcp 10.0.0.1:80 192.0.2.1:81",
		},
		{"new", Rule{Matches: []Match{&Conntrack{States: []string{"NEW", "ESTABLISHED"}}}}, plain, ""},
		{"not new", Rule{Matches: []Match{&Conntrack{States: []string{"NEW"}, Not: true}}}, "", plain},
		{"established", Rule{Matches: []Match{&Conntrack{States: []string{"RELATED", "ESTABLISHED"}}}}, "", plain},
		{"not established", Rule{Matches: []Match{&Conntrack{States: []string{"ESTABLISHED"}, Not: true}}}, plain, ""},
		{"comment", Rule{Matches: []Match{&Comment{"hello"}}}, plain, ""},
		{"always", Rule{Matches: []Match{&Statistic{Probability: 1}}}, plain, ""},
		{"not at any time", Rule{Matches: []Match{&Statistic{Probability: 0}}}, "", plain},
	} {
		test.rule.Target = Accept
		s := compile(t, input(Drop, &test.rule), nil, Options{})
		check := func(lines string, want Target) {
			for line := range strings.Lines(lines) {
				if v := s.Decide(packet(line), 0, new(limit.Holds)); v.Target != want {
					t.Errorf("%s: %s: verdict %d, want %d", test.name, line, v.Target, want)
				}
			}
		}
		check(test.yes, Accept)
		check(test.not, Drop)
	}
}

// TestOrder checks where a packet goes, by what it is counted.
func TestOrder(t *testing.T) {
	t.Parallel()
	var logged []string
	list := &List{[]*Chain{
		{Name: Input, Policy: Drop, Rules: []*Rule{
			{Target: Continue},
			{Target: Log, LogPrefix: "seen "},
			{Target: Jump, Chain: "web", Protocol: TCP},
			{Target: Return, Source: prefix("10.0.0.9/32")},
			{Target: Accept, Protocol: TCP},
			{Target: Reject, Destination: prefix("192.0.2.2/32")},
		}},
		{Name: "web", Rules: []*Rule{
			{Target: Return, Source: prefix("10.0.0.1/32")},
			{Target: Reject, Source: prefix("10.0.0.2/32")},
			{Target: Jump, Chain: "deep"},
		}},
		{Name: "deep", Rules: []*Rule{{Target: Drop, Source: prefix("10.0.0.3/32")}}},
		{Name: "unused", Rules: []*Rule{{Target: Jump, Chain: "deep"}}},
	}}
	s := compile(t, list, nil, Options{Log: func(r *Rule, p Packet) { logged = append(logged, r.LogPrefix+p.Client.String()) }})
	for i, test := range []struct {
		packet string
		target Target
		counts string // of INPUT's rules, of web's, of deep's
	}{
		{"tcp 10.0.0.1:1 192.0.2.1:80", Accept, "111010 100 0"},
		{"tcp 10.0.0.2:1 192.0.2.1:80", Reject, "222010 110 0"},
		{"tcp 10.0.0.3:1 192.0.2.1:80", Drop, "333010 111 1"},
		{"tcp 10.0.0.4:1 192.0.2.1:80", Accept, "444020 112 1"},
		{"tcp 10.0.0.9:1 192.0.2.1:80", Drop, "555120 113 1"},
		{"udp 10.0.0.4:1 192.0.2.1:80", Drop, "665120 113 1"},
		{"udp 10.0.0.4:1 192.0.2.2:80", Reject, "775121 113 1"},
	} {
		v := s.Decide(packet(test.packet), 0, new(limit.Holds))
		var b strings.Builder
		for chain := range 3 {
			_, all := s.Counters(chain)
			for _, c := range all {
				b.WriteByte('0' + byte(c.Flows.Load()+c.Datagrams.Load()))
			}
			b.WriteByte(' ')
		}
		if got := strings.TrimSpace(b.String()); v.Target != test.target || got != test.counts {
			t.Errorf("%d: %s: verdict %d, counted %s, want %d, %s", i, test.packet, v.Target, got, test.target, test.counts)
		}
	}
	policy, all := s.Counters(0)
	if n := policy.Flows.Load() + policy.Datagrams.Load(); n != 2 || policy.Bytes.Load() != 100 || all[5].Bytes.Load() != 100 {
		t.Errorf("the policy counted %d, %d bytes", n, policy.Bytes.Load())
	}
	if len(logged) != 7 || logged[0] != "seen 10.0.0.1:1" {
		t.Errorf("logged %q", logged)
	}
	if s.NeedsInterface() || !compile(t, input(Accept, &Rule{Interface: Interface{Name: "lo"}}), nil, Options{}).NeedsInterface() {
		t.Error("NeedsInterface is wrong")
	}
	if v := (*Set)(nil).Decide(packet(plain), 0, new(limit.Holds)); v.Target != Accept {
		t.Errorf("no set: verdict %d", v.Target)
	}
}

func TestChainErrors(t *testing.T) {
	t.Parallel()
	jump := func(to string) *Rule { return &Rule{Target: Jump, Chain: to} }
	deep := []*Chain{{Name: Input, Policy: Accept, Rules: []*Rule{jump("a")}}}
	wide := slices.Clone(deep)
	for n := range 17 {
		name, next := string(rune('a'+n)), string(rune('b'+n))
		last := n == 16
		deep = append(deep, &Chain{Name: name, Rules: []*Rule{jump(next)}})
		if last {
			deep[n+1].Rules = nil
		}
		if n < 15 {
			wide = append(wide, &Chain{Name: name, Rules: []*Rule{jump(next), jump(next), jump(next)}})
		}
	}
	wide[15].Rules = nil
	for _, test := range []struct {
		chains []*Chain
		err    error
		text   string
	}{
		{nil, ErrNoInput, ""},
		{[]*Chain{{Name: "web"}}, ErrNoInput, ""},
		{[]*Chain{{Name: Input, Policy: Reject}}, ErrPolicy, ""},
		{[]*Chain{{Name: Input, Policy: Accept}, {Name: "web", Policy: Drop}}, ErrPolicy, `chain "web"`},
		{[]*Chain{{Name: Input, Policy: Accept}, {Name: "web"}, {Name: "web"}}, ErrDuplicateChain, `chain "web"`},
		{[]*Chain{{Name: Input, Policy: Accept}, {Name: "DROP"}}, ErrReservedName, `chain "DROP"`},
		{[]*Chain{{Name: Input, Policy: Accept, Rules: []*Rule{{}, jump("web")}}}, ErrNoChain, `chain "INPUT", rule 2: jump to "web"`},
		{[]*Chain{{Name: Input, Policy: Accept}, {Name: "web", Rules: []*Rule{jump(Input)}}}, ErrNoChain, ""},
		{[]*Chain{{Name: Input, Policy: Accept}, {Name: "web", Rules: []*Rule{jump("web")}}}, ErrLoop, ""},
		{[]*Chain{{Name: Input, Policy: Accept}, {Name: "a", Rules: []*Rule{jump("b")}}, {Name: "b", Rules: []*Rule{jump("a")}}}, ErrLoop, ""},
		{deep, ErrTooDeep, ""},
		{wide, ErrTooManyJumps, ""},
	} {
		_, err := Compile(&List{test.chains}, nil, Options{})
		var chainErr *ChainError
		if !errors.Is(err, test.err) || !errors.As(err, &chainErr) || !strings.Contains(err.Error(), test.text) {
			t.Errorf("error is %v, want %v with %q", err, test.err, test.text)
		}
	}
}

// TestJudge checks that a verdict on a living flow takes nothing.
func TestJudge(t *testing.T) {
	t.Parallel()
	r := limit.Rate{Events: 1, Per: time.Second, Burst: 1}
	s := compile(t, input(Accept,
		&Rule{Target: Drop, Matches: []Match{&Limit{r}}, Protocol: UDP},
		&Rule{Target: Reject, Matches: []Match{&Connlimit{Above: true, N: 1, Bits: 24}}},
	), nil, Options{})
	var first, second, third limit.Holds
	if v := s.Judge(packet(plain)); v.Target != Accept || v.Counter.Flows.Load() != 0 {
		t.Errorf("nobody there: verdict %d, counted %d", v.Target, v.Counter.Flows.Load())
	}
	if v := s.Judge(packet("udp 10.0.0.1:1 192.0.2.1:80")); v.Target != Accept {
		t.Errorf("a limit: verdict %d", v.Target)
	}
	if v := s.Decide(packet(plain), 0, &first); v.Target != Accept {
		t.Errorf("first flow: verdict %d", v.Target)
	}
	if v := s.Decide(packet(plain), 0, &second); v.Target != Reject || second != (limit.Holds{}) {
		t.Errorf("second flow: verdict %d", v.Target)
	}
	if v := s.Judge(packet(plain)); v.Target != Accept {
		t.Errorf("one flow lives: verdict %d", v.Target)
	}
	s.Rejoin(packet(plain), &third)
	if v := s.Judge(packet(plain)); v.Target != Reject {
		t.Errorf("a second flow rejoined: verdict %d", v.Target)
	}
	first.Release()
	third.Release()
	if v := s.Decide(packet(plain), 0, &first); v.Target != Accept {
		t.Errorf("all left: verdict %d", v.Target)
	}
}
