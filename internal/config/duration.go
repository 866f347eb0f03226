package config

import (
	"errors"
	"fmt"
	"regexp"
	"strings"
	"time"
)

const (
	// maxDuration keeps sums of a deadline and the clock far from overflow.
	maxDuration = 365 * 24 * time.Hour
	// minTimeout keeps a slip (5ns for 5ms) from ending everything at once.
	minTimeout = time.Millisecond
)

// parseDuration reads a duration of at least least.
func parseDuration(word string, least time.Duration) (time.Duration, error) {
	d, err := time.ParseDuration(word)
	switch {
	case err != nil && word != "" && strings.Trim(word, "0123456789") == "":
		return 0, fmt.Errorf("%q lacks a unit (did you mean %q?)", word, word+"s")
	case err != nil && word == "off":
		return 0, errors.New("this cannot be off, it takes a duration such as 500ms, 30s or 5m")
	case err != nil && isDuration(word):
		return 0, fmt.Errorf("%s is too long (at most %s)", word, short(maxDuration))
	case err != nil:
		return 0, fmt.Errorf("%q is not a duration such as 500ms, 30s or 5m", word)
	case d < least:
		return 0, fmt.Errorf("%s is too short (at least %s)", word, short(least))
	case d > maxDuration:
		return 0, fmt.Errorf("%s is too long (at most %s)", word, short(maxDuration))
	}
	return d, nil
}

// isDuration reports whether a word that time.ParseDuration refuses has the form of a duration: then it is too long.
func isDuration(word string) bool {
	return regexp.MustCompile(`^[-+]?((\d+\.?\d*|\.\d+)(ns|us|µs|μs|ms|s|m|h))+$`).MatchString(word)
}

// parseDelay is parseDuration for a time that may be 0.
func parseDelay(word string) (time.Duration, error) {
	if d, err := time.ParseDuration(word); err == nil && d == 0 {
		return 0, nil
	}
	return parseDuration(word, minTimeout)
}

// parseOptional is parseDelay for a limit that can be switched off, by off or 0.
func parseOptional(word string) (time.Duration, error) {
	if word == "off" {
		return 0, nil
	}
	return parseDelay(word)
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

// Limit writes a limit for people; zero is off.
func Limit(d time.Duration) string {
	if d == 0 {
		return "off"
	}
	return short(d)
}

// Delay writes a duration for people; zero is 0s.
func Delay(d time.Duration) string { return short(d) }
