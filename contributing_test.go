package main

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// The files and folders of the house, as CONTRIBUTING.md describes it, exist.
func TestContributingNamesFiles(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile("CONTRIBUTING.md")
	if err != nil {
		t.Fatal(err)
	}
	house, _, _ := strings.Cut(string(text), "## How it is written")
	names := regexp.MustCompile("`([a-z_]+(?:/[a-z_]+)*/?|[a-z_/*]+\\.go)`").FindAllStringSubmatch(house, -1)
	if len(names) < 30 {
		t.Errorf("%d names, want those of the house", len(names))
	}
	for _, n := range names {
		name, found := strings.TrimSuffix(n[1], "/"), false
		for _, folder := range []string{"", "proxy", "internal"} {
			all, err := filepath.Glob(filepath.Join(folder, name))
			found = found || err == nil && len(all) > 0
		}
		if !found {
			t.Errorf("there is no %s", n[1])
		}
	}
}
