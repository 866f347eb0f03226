package flags

import (
	"strings"
	"testing"
)

func TestRules(t *testing.T) {
	t.Parallel()
	words := Words{Mappings: []string{"8080=9001"}, Policy: "DROP", Rules: []string{"-N web", "-j web", "-A web -s 10.0.0.1,::1 -j ACCEPT"}}
	c, err := parse(words, machine)
	if err != nil {
		t.Fatal(err)
	}
	const want = "-N web|-A INPUT -j web|-A web -s 10.0.0.1/32 -j ACCEPT|-A web -s ::1/128 -j ACCEPT"
	if got := strings.Join(c.Rules.Lines, "|"); got != want || c.Rules.Policy != "DROP" {
		t.Errorf("%s %s, want %s", c.Rules.Policy, got, want)
	}
	for want, rules := range map[string][]string{
		`--rule -s 1.1.1.1 -j DRIP: Chain 'DRIP' does not exist (did you mean DROP?)`:           {"-s 1.1.1.1 -j DRIP"},
		`--rule -j: a rule is one word: put it in quotes, as in --rule '-s 10.0.0.0/8 -j DROP'`: {"-j"},
		`--rule : the rule is empty (a rule has a target at least, as in -j DROP)`:              {""},
		`--policy DRIP: unknown value "DRIP" (did you mean "DROP"? have ACCEPT, DROP)`:          nil,
	} {
		words := Words{Mappings: []string{"8080=9001"}, Rules: rules}
		if rules == nil {
			words.Policy = "DRIP"
		}
		if _, err := parse(words, machine); err == nil || err.Error() != want {
			t.Errorf("%q: %v, want %s", rules, err, want)
		}
	}
}
