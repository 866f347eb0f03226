package iptables

import (
	commandline "flag"
	"os"
	"strings"
	"testing"

	"usher/proxy/rules"
)

var update = commandline.Bool("update", false, "write the golden files anew")

// example is a block of testdata: a line, and below it what is printed.
type example struct{ line, want string }

// examples reads the blocks of a file, which are separated by empty lines.
func examples(t testing.TB, name string) []example {
	t.Helper()
	text, err := os.ReadFile("testdata/" + name)
	if err != nil {
		t.Fatal(err)
	}
	var all []example
	for block := range strings.SplitSeq(strings.Trim(string(text), "\n"), "\n\n") {
		line, want, _ := strings.Cut(block, "\n")
		all = append(all, example{line, want})
	}
	return all
}

// compare checks what is printed of each example, or writes the file anew.
func compare(t *testing.T, name string, print func(line string) string) {
	t.Helper()
	var text strings.Builder
	for _, e := range examples(t, name) {
		got := print(e.line)
		if got != e.want && !*update {
			t.Errorf("%s:\ngot\n%s\nwant\n%s", e.line, got, e.want)
		}
		text.WriteString(e.line + "\n" + got + "\n\n")
	}
	if *update {
		if err := os.WriteFile("testdata/"+name, []byte(strings.Trim(text.String(), "\n")+"\n"), 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

// printed is what -S and -L -n -v --line-numbers print of the rules of INPUT.
func printed(t *testing.T, list *rules.List) string {
	t.Helper()
	var text strings.Builder
	for _, line := range Lines(list) {
		if strings.HasPrefix(line, "-A INPUT") {
			text.WriteString(line + "\n")
		}
	}
	_, rows, _ := strings.Cut(listed(t, list, ListingOptions{Verbose: true, LineNumbers: true, Numeric: true, ProtocolNames: true}), "\n")
	_, rows, _ = strings.Cut(rows, "\n")
	text.WriteString(rows)
	return strings.TrimRight(text.String(), "\n")
}

// listed is the listing of INPUT with counters at zero.
func listed(t *testing.T, list *rules.List, o ListingOptions) string {
	t.Helper()
	c := Chain{Name: rules.Input, IsBuiltin: true, Policy: TargetName(&rules.Rule{Target: list.Chains[0].Policy})}
	for _, r := range list.Chains[0].Rules {
		c.Rules = append(c.Rules, ruleOf(r))
	}
	var text strings.Builder
	if err := c.Write(&text, o); err != nil {
		t.Fatal(err)
	}
	return text.String()
}

// TestAccepted: rules are written as the real iptables writes them. See TestRealIptables.
func TestAccepted(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"accepted.txt", "accepted_by_usher.txt"} {
		compare(t, name, func(line string) string {
			list, err := Build([]string{"-N web", line})
			if err != nil {
				t.Errorf("%s: %v", line, err)
				return ""
			}
			lines := Lines(list)
			again, err := Build(lines)
			if err != nil || strings.Join(Lines(again), "\n") != strings.Join(lines, "\n") {
				t.Errorf("%s: written as %q and read as %q, %v", line, lines, Lines(again), err)
			}
			return printed(t, list)
		})
	}
}

// TestRefused: what iptables refuses is refused in its words, and the rest with the reason.
func TestRefused(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"refused.txt", "refused_by_usher.txt"} {
		compare(t, name, func(line string) string {
			_, err := Build([]string{"-N web", line})
			if err == nil {
				t.Errorf("%s: accepted", line)
				return ""
			}
			e := err.(*Error)
			if e.Line != 1 || e.Offset < 0 || e.Offset > len(line) || strings.Contains(err.Error(), "\n") {
				t.Errorf("%s: line %d, offset %d: %v", line, e.Line, e.Offset, err)
			}
			return strings.Repeat(" ", e.Offset) + "^ " + err.Error()
		})
	}
}
