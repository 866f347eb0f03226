package control

import (
	"strings"
	"testing"

	"usher/internal/flags"
)

func TestHealthOfARange(t *testing.T) {
	t.Parallel()
	for words, want := range map[string]bool{
		"8000-8009=10.0.0.1":                  true,
		"8000-8009=10.0.0.1:9000-9009":        true,
		"8000-8009=10.0.0.1:80":               false,
		"8000=10.0.0.1":                       false,
		"udp:8000-8009=10.0.0.1":              true,
		"8000-8009=unix:///run/x,10.0.0.2:80": false,
	} {
		c := parse(t, flags.Words{Mappings: []string{words}, Options: []flags.Option{{Name: "health", Value: "tcp"}}})
		if got := checked(c.Services[0]); strings.HasSuffix(got, " (first port of a range)") != want {
			t.Errorf("%s: %s", words, got)
		}
	}
}
