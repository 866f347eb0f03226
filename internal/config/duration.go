package config

import (
	"fmt"
	"strings"
	"time"
)

// maxDuration keeps sums of a deadline and the clock far from overflow.
const maxDuration = 365 * 24 * time.Hour

// parseDuration reads a duration of at least least.
func parseDuration(word string, least time.Duration) (time.Duration, error) {
	d, err := time.ParseDuration(word)
	switch {
	case err != nil && word != "" && strings.Trim(word, "0123456789") == "":
		return 0, fmt.Errorf("%q lacks a unit (did you mean %q?)", word, word+"s")
	case err != nil:
		return 0, fmt.Errorf("%q is not a duration such as 500ms, 30s or 5m", word)
	case d < least:
		return 0, fmt.Errorf("%s is too short (at least %s)", word, short(least))
	case d > maxDuration:
		return 0, fmt.Errorf("%s is too long (at most %s)", word, short(maxDuration))
	}
	return d, nil
}

// parseOptional is parseDuration for a limit that can be switched off, by off or 0.
func parseOptional(word string) (time.Duration, error) {
	if word == "off" {
		return 0, nil
	}
	return parseDuration(word, 0)
}

// short writes a duration without the zeros of time.Duration's own form: 5m, not 5m0s.
func short(d time.Duration) string {
	s := d.String()
	if strings.HasSuffix(s, "m0s") {
		s = strings.TrimSuffix(s, "0s")
	}
	if strings.HasSuffix(s, "h0m") {
		s = strings.TrimSuffix(s, "0m")
	}
	return s
}

// Limit writes a duration for people; zero is off.
func Limit(d time.Duration) string {
	if d == 0 {
		return "off"
	}
	return short(d)
}
