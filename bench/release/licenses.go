package main

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strings"
)

// licenseFiles matches the files of a module that its license asks to pass on.
var licenseFiles = regexp.MustCompile(`(?i)^(licen[cs]e|copying|copyright|notice|patents)([.-].*)?$`)

// component is code of others in the binary.
type component struct {
	name   string // with its version, and where its source is
	folder string
}

// licenses returns the texts of all licenses of the code in the binary. A text that several modules have stands once.
func (r *release) licenses(ctx context.Context) ([]byte, error) {
	components, err := r.components(ctx)
	if err != nil {
		return nil, err
	}
	users := make(map[string][]string) // of a text
	var texts []string                 // in the order in which they are printed
	for _, c := range components {
		files, err := readLicenses(c)
		if err != nil {
			return nil, err
		}
		for _, text := range files {
			if users[text] == nil {
				texts = append(texts, text)
			}
			users[text] = append(users[text], c.name)
		}
	}
	var b bytes.Buffer
	b.WriteString("usher has the license in the file LICENSE. Its binary has code of others, under the licenses below.\n")
	for _, text := range texts {
		fmt.Fprintf(&b, "\n%s\n%s\n\n%s\n", strings.Repeat("=", 80), strings.Join(users[text], "\n"), strings.TrimSpace(text))
	}
	return b.Bytes(), nil
}

// components are Go itself, the modules of the binary on any target, and what usher embeds.
func (r *release) components(ctx context.Context) ([]component, error) {
	root, err := output(ctx, r.root, nil, "go", "env", "GOROOT")
	if err != nil {
		return nil, err
	}
	all := []component{
		{"Go " + strings.TrimPrefix(runtime.Version(), "go") + " https://go.dev", strings.TrimSpace(root)},
	}
	const format = `{{with .Module}}{{if not .Main}}{{.Path}} {{.Version}}{{"\t"}}{{.Dir}}{{end}}{{end}}`
	var modules []component
	for _, t := range allTargets() {
		list, err := output(ctx, r.root, []string{"CGO_ENABLED=0", "GOOS=" + t.os, "GOARCH=" + t.arch}, "go", "list", "-deps", "-f", format, ".")
		if err != nil {
			return nil, err
		}
		for line := range strings.Lines(list) {
			module, folder, found := strings.Cut(strings.TrimSpace(line), "\t")
			path, version, _ := strings.Cut(module, " ")
			if c := (component{module + " https://pkg.go.dev/" + path + "@" + version, folder}); found && !slices.Contains(modules, c) {
				modules = append(modules, c)
			}
		}
	}
	slices.SortFunc(modules, func(a, b component) int { return strings.Compare(a.name, b.name) })
	embedded, err := filepath.Glob(filepath.Join(r.root, "internal", "admin", "page", "uplot*"))
	for _, folder := range embedded {
		modules = append(modules, component{"uPlot https://github.com/leeoniya/uPlot", folder})
	}
	return append(all, modules...), err
}

// readLicenses returns the texts of a component's license files.
func readLicenses(c component) (texts []string, err error) {
	entries, err := os.ReadDir(c.folder)
	if err != nil {
		return nil, err
	}
	for _, e := range entries {
		if !e.Type().IsRegular() || !licenseFiles.MatchString(e.Name()) || filepath.Ext(e.Name()) == ".go" {
			continue
		}
		text, err := os.ReadFile(filepath.Join(c.folder, e.Name()))
		if err != nil {
			return nil, err
		}
		texts = append(texts, string(text))
	}
	if len(texts) == 0 {
		return nil, fmt.Errorf("%s has no license file", c.name)
	}
	return texts, nil
}
