package control

import (
	"fmt"
	"net"
	"net/netip"
	"strings"
	"testing"

	"usher/internal/config"
	"usher/internal/discovery"
	"usher/proxy/limit"
	"usher/proxy/rules"
)

// ruleLines makes the rules of one owner.
func ruleLines(t *testing.T, policy string, lines ...string) *config.Rules {
	t.Helper()
	r, err := config.ParseRules(policy, lines)
	must(t, err)
	return r
}

// ruleListing is all rules: of each chain its policy with owner and flows, then its rules with theirs.
func ruleListing(c *Controller) string {
	var words []string
	for _, chain := range c.Rules().Chains {
		words = append(words, fmt.Sprintf("%s %s %s %d", chain.Name, chain.Policy, chain.Owner, chain.Flows))
		for _, r := range chain.Rules {
			words = append(words, fmt.Sprintf("%s:%s:%d", r.Owner, strings.TrimPrefix(r.Rule, "-A "+chain.Name+" "), r.Flows))
		}
	}
	return strings.Join(words, "; ")
}

// come has a client of an address be judged by the rules that run.
func come(c *Controller, client string) rules.Target {
	var holds limit.Holds
	return c.rules.Load().set.Decide(&rules.Packet{
		Client: netip.MustParseAddrPort(client), Local: netip.MustParseAddrPort("127.0.0.1:80"), Protocol: rules.TCP}, 0, &holds).Target
}

// The rules of owners stand one behind the other, and are changed each by its owner. Those that stay keep their counters.
func TestRulesOfOwners(t *testing.T) {
	t.Parallel()
	c, ctx := newController(t, discovery.Resolver{}), t.Context()
	expect := func(want string) {
		t.Helper()
		if got := ruleListing(c); got != want {
			t.Errorf("rules\n%s, want\n%s", got, want)
		}
	}
	give := func(owner Owner, r *config.Rules) error {
		return c.UpdateRules(ctx, owner, func(*config.Rules) (*config.Rules, error) { return r, nil })
	}
	expect("INPUT ACCEPT  0")
	must(t, give(API, ruleLines(t, "", "-s 10.0.0.3 -j DROP")))
	must(t, c.Replace(ctx, File, Part{services(t, "0=9001"), ruleLines(t, "DROP", "-N web", "-A web -s 10.0.0.2 -j REJECT", "-j web")}))
	must(t, c.Replace(ctx, Flags, Part{Rules: ruleLines(t, "", "-s 10.0.0.1 -j ACCEPT")}))
	for client, want := range map[string]rules.Target{
		"10.0.0.1:1": rules.Accept, "10.0.0.2:1": rules.Reject, "10.0.0.3:1": rules.Drop, "10.0.0.4:1": rules.Drop} {
		if got := come(c, client); got != want {
			t.Errorf("%s: %v, want %v", client, got, want)
		}
	}
	const web = "web  file 0; file:-s 10.0.0.2/32 -j REJECT --reject-with icmp-port-unreachable:1"
	expect("INPUT DROP file 1; flags:-s 10.0.0.1/32 -j ACCEPT:1; file:-j web:3; api:-s 10.0.0.3/32 -j DROP:1; " + web)

	running := c.rules.Load()
	must(t, give(API, ruleLines(t, "", "-s 10.0.0.3 -j DROP")))
	must(t, c.Replace(ctx, Flags, Part{services(t, "0=9001")[:0], running.parts[Flags]}))
	if c.rules.Load() != running {
		t.Error("equal rules were compiled again")
	}
	must(t, give(API, ruleLines(t, "", "-s 10.0.0.5 -j LOG", "-s 10.0.0.3 -j DROP")))
	expect("INPUT DROP file 1; flags:-s 10.0.0.1/32 -j ACCEPT:1; file:-j web:3; api:-s 10.0.0.5/32 -j LOG:0; api:-s 10.0.0.3/32 -j DROP:1; " + web)
	if got := strings.Join(c.Plan().Rules.Lines, "; "); !strings.HasPrefix(got, "-N web; -A INPUT -s 10.0.0.1/32 -j ACCEPT; -A INPUT -j web; ") {
		t.Errorf("the plan has %s", got)
	}

	must(t, give(API, nil))
	must(t, c.Replace(ctx, File, Part{}))
	must(t, c.Replace(ctx, Flags, Part{}))
	expect("INPUT ACCEPT  0")
	if c.Plan().Rules != nil || c.rules.Load().set != nil || c.server.Rules() != nil {
		t.Error("without rules there is a set")
	}
}

// A change is made as a whole, or not at all.
func TestRulesAreOneStepWithServices(t *testing.T) {
	t.Parallel()
	c, ctx := newController(t, discovery.Resolver{}), t.Context()
	must(t, c.Replace(ctx, File, Part{named("web", services(t, "0=9001")), ruleLines(t, "DROP", "-N web")}))
	before, running := ruleListing(c), c.rules.Load()
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	defer taken.Close()
	more := ruleLines(t, "ACCEPT", "-j DROP")
	for of, err := range map[string]error{
		"an address that is taken": c.Replace(ctx, File, Part{services(t, taken.Addr().String()+"=9001"), more}),
		"a policy of two owners":   c.Replace(ctx, Flags, Part{named("a", services(t, "0=9001")), ruleLines(t, "ACCEPT")}),
		"a chain of two owners":    c.Replace(ctx, Flags, Part{named("a", services(t, "0=9001")), ruleLines(t, "", "-N web")}),
		"a name of two owners":     c.Replace(ctx, Flags, Part{named("web", services(t, "0=9001")), more}),
	} {
		if err == nil {
			t.Errorf("%s was taken", of)
		}
	}
	if got := ruleListing(c); got != before || c.rules.Load() != running || c.server.Rules() != running.set || listing(c) != "web:file:127.0.0.1:9001" {
		t.Errorf("changed to %s, %s", got, listing(c))
	}
}
