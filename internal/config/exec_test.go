package config

import (
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"mvdan.cc/sh/v3/shell"
)

// Words that are taken are those that a shell would make.
func TestCommandsAreReadAsByAShell(t *testing.T) {
	t.Parallel()
	parts := []string{
		"a", "b", " ", "  ", "'", `"`, `\`, "$", "$x", "`", "{", ",", "}", "..", "#", "~", "=", "*", "|", ">", "\n", "\t", "é", "1", "!", "$'", "[", "]",
	}
	random, taken := rand.New(rand.NewPCG(1, 2)), 0
	for range 20_000 {
		var b strings.Builder
		for range random.IntN(9) {
			b.WriteString(parts[random.IntN(len(parts))])
		}
		got, err := splitArgs(b.String())
		if err != nil {
			continue
		}
		taken++
		if want, err := shell.Fields(b.String(), func(string) string { return "" }); err != nil || !slices.Equal(got, want) {
			t.Errorf("%q is read as %q, by a shell as %q, %v", b.String(), got, want, err)
		}
	}
	if taken < 1000 {
		t.Errorf("%d commands were taken", taken)
	}
}
