package nat

import (
	"bytes"
	"flag"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"usher/internal/config"
	"usher/internal/iptables"
)

var update = flag.Bool("update", false, "writes the golden files anew")

// restore reads the text of iptables-save, all of which must be understood.
func restore(t testing.TB, text string) *iptables.Tables {
	t.Helper()
	tables := iptables.NewTables()
	if _, err := iptables.Restore(tables, text, iptables.RestoreOptions{}); err != nil {
		t.Fatalf("%v\n%.2000s", err, text)
	}
	return tables
}

// write prints a result as a golden file has it.
func write(r *Result) string {
	var b bytes.Buffer
	for _, s := range r.Services {
		fmt.Fprintf(&b, "%s\n", s.Name)
		for _, l := range s.Listeners {
			fmt.Fprintf(&b, "\tlisten %s\n", l)
		}
		for _, x := range s.Backends {
			fmt.Fprintf(&b, "\tbackend %s\n", x)
		}
		for _, f := range s.Defaults().Diff(s) {
			fmt.Fprintf(&b, "\t%s %s\n", f, s.Text(f))
		}
	}
	for _, g := range r.Guards {
		fmt.Fprintf(&b, "guard %s: %s\n", strings.Join(g.Services, ", "), g.Line)
	}
	for mark := range uint32(100) {
		for _, l := range r.Marks[mark] {
			fmt.Fprintf(&b, "mark %d: %s\n", mark, l)
		}
	}
	for _, x := range r.Rest {
		served := ""
		if x.IsServed {
			served = " (served)"
		}
		fmt.Fprintf(&b, "rest %s: -A %s %s\n\t%s%s\n", x.Table, x.Chain, x.Rule, x.Reason, served)
	}
	return b.String()
}

// TestHosts has the tables of hosts, as programs and people write them.
func TestHosts(t *testing.T) {
	t.Parallel()
	files, err := filepath.Glob("testdata/*.iptables")
	if err != nil || len(files) == 0 {
		t.Fatal(files, err)
	}
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		env := &Env{Local: []netip.Addr{netip.MustParseAddr("192.168.2.1"), netip.MustParseAddr("203.0.113.1")}}
		tables := restore(t, string(text))
		result := Plan(tables, env)
		checkSound(t, result)
		got, golden := write(result), strings.TrimSuffix(file, ".iptables")+".golden"
		if *update {
			if err := os.WriteFile(golden, []byte(got), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		if want, err := os.ReadFile(golden); err != nil || got != string(want) {
			t.Errorf("%s: %v\n%s", file, err, got)
		}
		if again := write(Plan(tables, env)); again != got {
			t.Errorf("%s: a second time\n%s", file, again)
		}
	}
}

// checkSound checks what holds of all results: the services are a plan, and each backend has its rules.
func checkSound(t testing.TB, r *Result) {
	t.Helper()
	c := &config.Config{Services: r.Services, Process: config.DefaultProcess()}
	if err := c.Complete(); err != nil {
		t.Errorf("%v\n%s", err, write(r))
	}
	for i, s := range r.Services {
		if len(r.Origins[i].Backends) != len(s.Backends) || slices.ContainsFunc(r.Origins[i].Backends, func(l []*iptables.Rule) bool { return len(l) == 0 }) {
			t.Errorf("%s: origins %v", s.Name, r.Origins[i])
		}
	}
}
