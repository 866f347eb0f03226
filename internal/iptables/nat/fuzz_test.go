package nat

import (
	"net/netip"
	"os"
	"path/filepath"
	"testing"

	"usher/internal/iptables"
)

// FuzzPlan makes services of any tables that can be read: they are a plan, and do not depend on the run.
func FuzzPlan(f *testing.F) {
	files, err := filepath.Glob("testdata/*.iptables")
	if err != nil || len(files) == 0 {
		f.Fatal(files, err)
	}
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(string(text))
	}
	env := &Env{Local: []netip.Addr{netip.MustParseAddr("192.168.2.1"), netip.MustParseAddr("fd00::1")}}
	f.Fuzz(func(t *testing.T, text string) {
		tables := iptables.NewTables()
		if _, err := iptables.Restore(tables, text, iptables.RestoreOptions{}); err != nil {
			return
		}
		r := Plan(tables, env)
		checkSound(t, r)
		if again := Plan(tables, env); write(again) != write(r) {
			t.Errorf("%s\nand then\n%s", write(r), write(again))
		}
	})
}
