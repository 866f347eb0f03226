package iptables

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"usher/proxy/limit"
	"usher/proxy/rules"
)

// randomRule is a rule of any form that the language has; chains are those that it may jump to.
func randomRule(r *rand.Rand, chains []string) *rules.Rule {
	rule := &rules.Rule{
		Source: randomPrefix(r), Destination: randomPrefix(r),
		Protocol: []rules.Protocol{rules.All, rules.TCP, rules.UDP}[r.IntN(3)],
	}
	rule.NotProtocol = rule.Protocol != rules.All && oneIn(r, 8)
	if oneIn(r, 3) {
		rule.Interface = rules.Interface{Name: []string{"eth0", "eth+", "lo", "wg0.1"}[r.IntN(4)], Not: oneIn(r, 3)}
	}
	for range r.IntN(4) {
		if m := randomMatch(r, rule); m != nil {
			rule.Matches = append(rule.Matches, m)
		}
	}
	rule.Target = rules.Target(r.IntN(7))
	switch rule.Target {
	case rules.Reject:
		rule.RejectWith = []string{"", "icmp-host-prohibited", "icmp6-no-route"}[r.IntN(3)]
		if rule.Protocol == rules.TCP && !rule.NotProtocol && oneIn(r, 2) {
			rule.RejectWith = "tcp-reset"
		}
	case rules.Log:
		rule.LogPrefix, rule.LogLevel = []string{"", "drop: ", `a"b\'$x`, "ü`"}[r.IntN(4)], uint8(r.IntN(8))
	case rules.Jump:
		if len(chains) == 0 {
			rule.Target = rules.Continue
			break
		}
		rule.Chain = chains[r.IntN(len(chains))]
	}
	return rule
}

func oneIn(r *rand.Rand, n int) bool { return r.IntN(n) == 0 }

func randomPrefix(r *rand.Rand) rules.Prefix {
	if oneIn(r, 2) {
		return rules.Prefix{}
	}
	var b [16]byte
	for i := range b {
		b[i] = byte(r.Uint32())
	}
	addr, bits := netip.AddrFrom4([4]byte(b[:4])), r.IntN(33)
	if oneIn(r, 3) {
		b[0] = 0x20
		addr, bits = netip.AddrFrom16(b), r.IntN(129)
	}
	return rules.Prefix{Prefix: netip.PrefixFrom(addr, bits).Masked(), Not: oneIn(r, 4)}
}

func randomRange(r *rand.Rand) rules.PortRange {
	first := uint16(r.IntN(65535))
	if oneIn(r, 2) {
		return rules.PortRange{First: first, Last: first}
	}
	return rules.PortRange{First: first, Last: first + 1 + uint16(r.IntN(65535-int(first)))}
}

// randomMatch is a match that the rule can have; nil: there is none this time.
func randomMatch(r *rand.Rand, rule *rules.Rule) rules.Match {
	hasPorts := rule.Protocol != rules.All && !rule.NotProtocol
	bits := []int{0, 8, 24, 32, 64, 128}
	switch r.IntN(9) {
	case 0:
		return randomPorts(r, rule, hasPorts)
	case 1:
		if !hasPorts {
			return nil
		}
		m := &rules.Multiport{Side: rules.PortSide(r.IntN(3)), Not: oneIn(r, 3)}
		for range 1 + r.IntN(7) {
			m.Ranges = append(m.Ranges, randomRange(r))
		}
		return m
	case 2:
		states := [][]string{{"NEW"}, {"NEW", "ESTABLISHED"}, {"RELATED", "ESTABLISHED"}, {"INVALID"}}
		return &rules.Conntrack{States: states[r.IntN(4)], Not: oneIn(r, 4)}
	case 3:
		return &rules.Comment{Text: []string{"", "web", "hello world", `"it's"\ $HOME`, "ü `x`", "-j", "!"}[r.IntN(7)]}
	case 4:
		return &rules.Limit{Rate: randomRate(r, maxLimit)}
	case 5:
		m := &rules.Hashlimit{Name: "web", Rate: randomRate(r, maxHashlimit), Above: oneIn(r, 2), SourcePort: oneIn(r, 3),
			DestinationPort: oneIn(r, 3), Source: oneIn(r, 2), Destination: oneIn(r, 2), SourceBits: 32, DestinationBits: 32,
			TableSize: r.IntN(2) * 128, TableMax: r.IntN(2) * 1000, Interval: time.Duration(r.IntN(2)) * 500 * time.Millisecond}
		if oneIn(r, 3) {
			m.Expire = 1500 * time.Millisecond
		}
		if m.Source {
			m.SourceBits = bits[r.IntN(6)]
		}
		if m.Destination {
			m.DestinationBits = bits[r.IntN(6)]
		}
		return m
	case 6:
		return &rules.Connlimit{Above: oneIn(r, 2), N: r.IntN(100), Bits: bits[r.IntN(6)], Destination: oneIn(r, 2)}
	case 7:
		return randomRecent(r)
	}
	m := &rules.Statistic{Not: oneIn(r, 3), Probability: float64(r.IntN(probabilityScale+1)) / probabilityScale}
	if oneIn(r, 2) {
		m.Probability, m.Every = 0, 1+r.Uint32N(10)
		m.Packet = r.Uint32N(m.Every)
	}
	return m
}

func randomPorts(r *rand.Rand, rule *rules.Rule, can bool) rules.Match {
	if !can {
		return nil
	}
	m := &rules.Ports{Protocol: rule.Protocol, SYN: rule.Protocol == rules.TCP && oneIn(r, 3)}
	if p := randomRange(r); oneIn(r, 2) {
		m.Source, m.NotSource = &p, oneIn(r, 3)
	}
	if p := randomRange(r); oneIn(r, 2) {
		m.Destination, m.NotDestination = &p, oneIn(r, 3)
	}
	return m
}

func randomRecent(r *rand.Rand) rules.Match {
	m := &rules.Recent{Name: []string{"DEFAULT", "ssh"}[r.IntN(2)], Action: rules.RecentAction(r.IntN(4)), Not: oneIn(r, 3),
		Mask: netip.MustParseAddr([]string{"255.255.255.255", "255.255.0.0", "ffff:ffff::"}[r.IntN(3)]), Destination: oneIn(r, 2)}
	if m.Action == rules.RecentCheck || m.Action == rules.RecentUpdate {
		m.Seconds, m.HitCount = r.IntN(3)*30, r.IntN(20)
		m.Reap = m.Seconds > 0 && oneIn(r, 2)
	}
	return m
}

// randomRate is a rate in the shortest unit in which it is whole.
func randomRate(r *rand.Rand, most int) limit.Rate {
	rate, _, _ := parseRate(fmt.Sprintf("%d/%s", 1+r.IntN(most), []string{"s", "m", "h", "d"}[r.IntN(4)]), most)
	rate.Burst = 1 + r.IntN(10)
	return rate
}

var equate = cmp.Options{cmpopts.EquateComparable(netip.Prefix{}, netip.Addr{})}

// TestFormat: a rule that is written is read as the same rule.
func TestFormat(t *testing.T) {
	t.Parallel()
	const seed = 1 // another one tests other cases
	r := rand.New(rand.NewPCG(seed, 0))
	for range 20_000 {
		want := randomRule(r, []string{"web", "a-b.c"})
		line := Format(rules.Input, want)
		cmd, err := ParseRule(line)
		if err != nil || len(cmd.Rules) != 1 {
			t.Fatalf("seed %d: %s: %v, %d rules", seed, line, err, len(cmd.Rules))
		}
		got, err := cmd.Rules[0].Front()
		if err != nil {
			t.Fatalf("seed %d: %s: %v", seed, line, err)
		}
		if diff := cmp.Diff(want, got, equate); diff != "" {
			t.Fatalf("seed %d: %s:\n%s", seed, line, diff)
		}
	}
}

// TestBuild covers what several lines make together.
func TestBuild(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		lines string
		want  string // of Lines, or the error
	}{
		{"", ""},
		{"-j DROP|-I INPUT -j ACCEPT|-I INPUT 2 -s 1.1.1.1,2.2.2.2 -j DROP",
			"-A INPUT -j ACCEPT|-A INPUT -s 1.1.1.1/32 -j DROP|-A INPUT -s 2.2.2.2/32 -j DROP|-A INPUT -j DROP"},
		{"-N b|-N a|-A b -j DROP|-j b|-A a -j b", "-N a|-N b|-A INPUT -j b|-A a -j b|-A b -j DROP"},
		{"-P INPUT DROP", "0:0: command -P has no use here (the policy is an option of its own)"},
		{"-I INPUT 2 -j DROP", "0:9: Index of insertion too big. (INPUT has 0 rules)"},
		{"-j DROP|-A web -j DROP", "1:3: No chain/target/match by that name. (-N web before it makes the chain web)"},
		{"-j web|-N web", "0:3: Chain 'web' does not exist (-N web before it makes the chain web)"},
		{"-N web|-N web", "1:3: Chain already exists. (-N web stands above)"},
		{"-N a|-N b|-N c|-A a -j b|-A b -j c|-j a|-A c -j a|-j c",
			"6:8: Too many links: the chains make a loop: a → b → c → a"},
		{"-N a|-A a -j a", "1:8: Too many links: the chains make a loop: a → a"},
	} {
		var lines []string
		if tt.lines != "" {
			lines = strings.Split(tt.lines, "|")
		}
		list, err := Build(lines)
		got := strings.Join(Lines(list), "|")
		if e, ok := err.(*Error); ok {
			got = fmt.Sprintf("%d:%d: %v", e.Line, e.Offset, e)
		}
		if got != tt.want {
			t.Errorf("%s:\ngot  %s\nwant %s", tt.lines, got, tt.want)
		}
	}
}

// TestBounds: a list, its chains and what a line stands for are bounded.
func TestBounds(t *testing.T) {
	t.Parallel()
	addresses := strings.TrimSuffix(strings.Repeat("10.0.0.1,", 65), ",")
	line := "-s " + addresses + " -d " + addresses + " -j DROP"
	if _, err := ParseRule(line); err == nil || !strings.Contains(err.Error(), "4225 rules") {
		t.Error(err)
	}
	line = "-s " + addresses + " -d " + addresses[:9*63-1] + " -j DROP"
	many := make([]string, 25)
	for i := range many {
		many[i] = line
	}
	if _, err := Build(many); err == nil || !strings.Contains(err.Error(), "more than 100000 rules") {
		t.Error(err)
	}
	var chains []string
	for i := range maxChains {
		chains = append(chains, fmt.Sprintf("-N c%d", i))
	}
	if _, err := Build(chains); err == nil || !strings.Contains(err.Error(), "more than 4096 chains") {
		t.Error(err)
	}
	deep := []string{"-N c0", "-j c0"}
	for i := range 16 {
		deep = append(deep, fmt.Sprintf("-N c%d", i+1), fmt.Sprintf("-A c%d -j c%d", i, i+1))
	}
	if _, err := Build(deep); err == nil || !strings.Contains(err.Error(), "nest deeper than 16") || err.(*Error).Line != 1 {
		t.Error(err)
	}
	if _, err := ParseRule("-m comment --comment " + strings.Repeat("x", maxLine)); err == nil {
		t.Error("a line without end is accepted")
	}
}

// FuzzRule: nothing that is read panics, and what is accepted is written as a line that reads as the same rules.
func FuzzRule(f *testing.F) {
	for _, name := range []string{"accepted.txt", "accepted_by_usher.txt", "refused.txt", "refused_by_usher.txt"} {
		for _, e := range examples(f, name) {
			f.Add(e.line)
		}
	}
	f.Add("-P INPUT DROP")
	f.Fuzz(func(t *testing.T, line string) {
		list, err := Build([]string{"-N web", line})
		if err != nil {
			e := err.(*Error)
			if e.Offset < 0 || e.Offset > len(line) || e.Message == "" || e.Status == 0 {
				t.Errorf("%q: %+v", line, e)
			}
			return
		}
		lines := Lines(list)
		if len(lines) > 64 {
			return // lists of addresses, which say nothing new and take long
		}
		again, err := Build(lines)
		if err != nil {
			t.Fatalf("%q: written as %q: %v", line, lines, err)
		}
		if diff := cmp.Diff(list, again, equate); diff != "" {
			t.Errorf("%q: written as %q:\n%s", line, lines, diff)
		}
	})
}
