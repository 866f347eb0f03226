package main

import (
	"go/ast"
	"go/parser"
	"go/token"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// TestImportsGoOneWay checks the layers: main → internal/* → proxy → balancer,
// conntrack, health. The last three, and the policy in proxy/flow, import little
// beyond the standard library. Packages for measuring and testing are in no binary.
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
		"usher/health": {
			"golang.org/x/net/dns/dnsmessage", "golang.org/x/net/http2", "golang.org/x/net/http2/hpack",
			"google.golang.org/protobuf/encoding/protowire", "golang.org/x/sys/unix",
		},
		"usher/proxy/limit":       {"github.com/cespare/xxhash/v2"},
		"usher/proxy/clienthello": {},
		"usher/proxy/proxyheader": {"github.com/pires/go-proxyproto"},
		"usher/proxy/rules":       {"usher/proxy/limit", "github.com/gaissmai/bart"},
		"usher/proxy/flow": {
			"usher/balancer", "usher/conntrack", "usher/proxy/limit", "usher/proxy/rules", "usher/proxy/proxyheader",
			"usher/proxy/clienthello", "github.com/gaissmai/bart",
		},
		"usher/proxy/socketfile": {},
		"usher/proxy": {
			"usher/balancer", "usher/conntrack", "usher/proxy/flow", "usher/proxy/limit", "usher/proxy/rules", "usher/proxy/socketfile", "go.uber.org/zap",
			"golang.org/x/sys/unix", "golang.org/x/net/ipv4", "golang.org/x/net/ipv6", "github.com/fxamacker/cbor/v2",
		},
	}
	// Kubernetes is only in what usher kube is made of, which the rest of usher does without.
	kube := []string{"k8s.io/", "sigs.k8s.io/", "github.com/miekg/dns", "usher/internal/kube"}
	forTests := []string{"usher/internal/conformance", "usher/internal/race", "usher/internal/kube/kubetest", "usher/bench"}
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
			}
			for _, of := range kube {
				if strings.HasPrefix(imported, of) && words[0] != "usher" && words[0] != "usher/bench" && !strings.HasPrefix(words[0], "usher/internal/kube") {
					t.Errorf("%s imports %s, which is of usher kube alone", words[0], imported)
				}
			}
			for _, room := range forTests {
				if strings.HasPrefix(imported, room) && !strings.HasPrefix(words[0], room) && words[0] != "usher/bench" {
					t.Errorf("%s imports %s, which is for tests", words[0], imported)
				}
			}
		}
	}
	for missing := range may {
		t.Errorf("there is no package %s", missing)
	}
}

// TestPolicyIsPure keeps sockets, clocks and chance out of the policy. It imports no
// net, syscall, os or random package; TestImportsGoOneWay says which others, by package. Of package time it uses only the type and units
// of a duration.
func TestPolicyIsPure(t *testing.T) {
	t.Parallel()
	may := []string{
		"bufio", "bytes", "cmp", "encoding/binary", "encoding/hex", "errors", "fmt", "hash/crc32", "io/fs", "iter", "maps", "math", "math/bits", "net/netip",
		"slices", "sort", "strconv", "strings", "sync", "sync/atomic", "time",
		"usher/balancer", "usher/conntrack", "usher/proxy/limit", "usher/proxy/rules", "usher/proxy/proxyheader",
		"usher/proxy/clienthello", "github.com/gaissmai/bart", "github.com/cespare/xxhash/v2", "github.com/pires/go-proxyproto",
	}
	units := []string{"Duration", "Nanosecond", "Microsecond", "Millisecond", "Second", "Minute", "Hour"}
	var files []string
	for _, folder := range []string{"proxy/flow", "proxy/limit", "proxy/rules", "proxy/proxyheader", "proxy/clienthello"} {
		found, err := filepath.Glob(folder + "/*.go")
		if err != nil || len(found) == 0 {
			t.Fatal(folder, found, err)
		}
		files = append(files, found...)
	}
	for _, name := range files {
		if strings.HasSuffix(name, "_test.go") {
			continue
		}
		set := token.NewFileSet()
		file, err := parser.ParseFile(set, name, nil, parser.SkipObjectResolution)
		if err != nil {
			t.Fatal(err)
		}
		for _, imported := range file.Imports {
			if path, _ := strconv.Unquote(imported.Path.Value); !slices.Contains(may, path) || imported.Name != nil {
				t.Errorf("%s imports %s", set.Position(imported.Pos()), path)
			}
		}
		ast.Inspect(file, func(n ast.Node) bool {
			if use, ok := n.(*ast.SelectorExpr); ok {
				if from, ok := use.X.(*ast.Ident); ok && from.Name == "time" && !slices.Contains(units, use.Sel.Name) {
					t.Errorf("%s: time.%s", set.Position(use.Pos()), use.Sel.Name)
				}
			}
			return true
		})
	}
}
