package config

import (
	"strings"
	"testing"

	"usher/internal/iptables"
)

// part reads "POLICY|LINE|LINE", in which the policy may be empty; an empty text is no part.
func part(t *testing.T, owner, text string) RulePart {
	t.Helper()
	if text == "" {
		return RulePart{Owner: owner}
	}
	words := strings.Split(text, "|")
	r, err := ParseRules(words[0], words[1:])
	if err != nil {
		t.Fatal(err)
	}
	return RulePart{owner, r}
}

func TestJoinRules(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		flags, file, api string
		want             string // as a part, or the error
	}{
		{"", "", "", ""},
		{"ACCEPT", "", "", ""},
		{"", "DROP", "", "DROP"},
		{"|-N b|-j b|-A b -j DROP", "DROP|-N a|-j a", "|-s 1.1.1.1 -j LOG",
			"DROP|-N a|-N b|-A INPUT -j b|-A INPUT -j a|-A INPUT -s 1.1.1.1/32 -j LOG|-A b -j DROP"},
		{"|-N web", "|-N web", "", "the chain web is made by flags and by file: give one of them another name"},
		{"ACCEPT|-j DROP", "", "ACCEPT", "policy is given by flags and by api: leave it to one of them"},
	} {
		parts := []RulePart{part(t, "flags", tt.flags), part(t, "file", tt.file), part(t, "api", tt.api)}
		list, err := JoinRules(parts...)
		got := ""
		switch r := RulesOf(list); {
		case err != nil:
			got = err.(*Error).Error()
		case r != nil:
			got = strings.Join(append([]string{r.Policy}, r.Lines...), "|")
			if again, err := ParseRules(r.Policy, r.Lines); err != nil || !again.Equal(r) {
				t.Errorf("%+v reads as %+v, %v", r, again, err)
			}
		}
		if got != tt.want {
			t.Errorf("%s %s %s:\ngot  %s\nwant %s", tt.flags, tt.file, tt.api, got, tt.want)
		}
	}
}

func TestParseRules(t *testing.T) {
	t.Parallel()
	if r, err := ParseRules("", nil); r != nil || err != nil {
		t.Errorf("%+v, %v", r, err)
	}
	for want, lines := range map[string][]string{
		`policy REJECT: unknown value "REJECT" (have ACCEPT, DROP)`:                           {"REJECT"},
		`rule -j DORP: Chain 'DORP' does not exist (did you mean DROP?)`:                      {"", "-j DROP", "-j DORP"},
		"rule -p tcp --dport 70000 -j DROP: invalid port/service `70000' specified":           {"DROP", "-p tcp --dport 70000 -j DROP"},
		`rule -P INPUT DROP: command -P has no use here (the policy is an option of its own)`: {"", "-P INPUT DROP"},
	} {
		_, err := ParseRules(lines[0], lines[1:])
		if err == nil || err.Error() != want {
			t.Errorf("%q: %v, want %s", lines, err, want)
			continue
		}
		e := err.(*Error)
		if cause, ok := e.Unwrap().(*iptables.Error); ok && lines[1+cause.Line] != e.Value {
			t.Errorf("%q: line %d, value %s", lines, cause.Line, e.Value)
		}
	}
}
