package balancer

import (
	"go/ast"
	"go/parser"
	"go/token"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// TestImports keeps the package a leaf without sockets, clock or randomness.
func TestImports(t *testing.T) {
	t.Parallel()
	files, err := filepath.Glob("*.go")
	if err != nil {
		t.Fatal(err)
	}
	seen := 0
	for _, file := range files {
		if strings.HasSuffix(file, "_test.go") {
			continue
		}
		f, err := parser.ParseFile(token.NewFileSet(), file, nil, 0)
		if err != nil {
			t.Fatal(err)
		}
		for _, spec := range f.Imports {
			path, err := strconv.Unquote(spec.Path.Value)
			if err != nil {
				t.Fatal(err)
			}
			seen++
			switch {
			case path == "github.com/cespare/xxhash/v2":
			case strings.Contains(path, ".") || strings.HasPrefix(path, "usher"):
				t.Errorf("%s imports %s", file, path)
			case path == "net" || path == "os" || path == "syscall" || strings.HasPrefix(path, "math/rand"):
				t.Errorf("%s imports %s", file, path)
			}
		}
		// Of package time there is no more than the type and its units.
		ast.Inspect(f, func(n ast.Node) bool {
			x, ok := n.(*ast.SelectorExpr)
			if !ok {
				return true
			}
			id, ok := x.X.(*ast.Ident)
			if ok && id.Name == "time" && !slices.Contains([]string{"Duration", "Nanosecond", "Microsecond", "Millisecond", "Second", "Minute", "Hour"}, x.Sel.Name) {
				t.Errorf("%s uses time.%s", file, x.Sel.Name)
			}
			return true
		})
	}
	if seen == 0 {
		t.Error("found no imports to look at")
	}
}
