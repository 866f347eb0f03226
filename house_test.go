package main

import (
	"os/exec"
	"slices"
	"strings"
	"testing"
)

// TestImportsGoOneWay keeps the layers: main → internal/* → proxy → balancer,
// conntrack, health. The last three know the standard library and xxhash alone.
func TestImportsGoOneWay(t *testing.T) {
	t.Parallel()
	const format = `{{.ImportPath}}{{range .Imports}} {{.}}{{end}}`
	out, err := exec.Command("go", "list", "-f", format, "./...").Output()
	if err != nil {
		t.Skipf("go list: %v", err)
	}
	may := map[string][]string{
		"usher/balancer":  {"github.com/cespare/xxhash/v2"},
		"usher/conntrack": {},
		"usher/health":    {},
		"usher/proxy": {
			"usher/balancer", "usher/conntrack", "go.uber.org/zap",
			"golang.org/x/sys/unix", "golang.org/x/net/ipv4", "golang.org/x/net/ipv6",
		},
	}
	for line := range strings.Lines(string(out)) {
		words := strings.Fields(line)
		allowed, layered := may[words[0]]
		delete(may, words[0])
		for _, imported := range words[1:] {
			first, _, _ := strings.Cut(imported, "/")
			standard := first != "usher" && !strings.Contains(first, ".")
			switch {
			case layered && !standard && !slices.Contains(allowed, imported):
				t.Errorf("%s imports %s", words[0], imported)
			case strings.HasPrefix(imported, "usher/bench") && !strings.HasPrefix(words[0], "usher/bench"):
				t.Errorf("%s imports %s", words[0], imported)
			}
		}
	}
	for missing := range may {
		t.Errorf("there is no package %s", missing)
	}
}
