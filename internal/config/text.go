package config

import (
	"encoding/hex"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
)

const (
	// maxCount bounds whole numbers without a bound of their own.
	maxCount = 1_000_000_000
	// maxDuration keeps sums of a deadline and the clock far from overflow.
	maxDuration = 365 * 24 * time.Hour
	// minTimeout rejects a slip (5ns for 5ms) that would end everything at once.
	minTimeout = time.Millisecond
	// minInterval rejects a slip (1us for 1s) that would flood backends with probes.
	minInterval = 10 * time.Millisecond
	// maxPayload is the payload of the largest datagram over IPv4.
	maxPayload = 65507
)

// number returns a parser of whole numbers from least to most.
func number(least, most int) func(word string) (int, error) {
	return func(word string) (int, error) {
		n, err := strconv.Atoi(word)
		if err != nil && !errors.Is(err, strconv.ErrRange) {
			return 0, fmt.Errorf("%q is not a whole number", word)
		}
		if err != nil || n < least || n > most {
			return 0, fmt.Errorf("%s is out of range (%d to %d)", word, least, most)
		}
		return n, nil
	}
}

// percent returns a parser of shares of at most 100, with or without the sign.
func percent(least int) func(word string) (int, error) {
	return func(word string) (int, error) { return number(least, 100)(strings.TrimSuffix(word, "%")) }
}

func parseBool(word string) (bool, error) {
	b, err := strconv.ParseBool(word)
	if err != nil {
		return false, fmt.Errorf("%q is neither true nor false", word)
	}
	return b, nil
}

// oneOf returns a parser of the given words.
func oneOf(have ...string) func(word string) (string, error) {
	return func(word string) (string, error) {
		if !slices.Contains(have, word) {
			return "", fmt.Errorf("unknown value %q%s", word, OrHave(word, have))
		}
		return word, nil
	}
}

// either returns a parser of two words that mean false and true.
func either(no, yes string) func(word string) (bool, error) {
	return func(word string) (bool, error) {
		word, err := oneOf(no, yes)(word)
		return word == yes, err
	}
}

func asIs(word string) string { return word }

// duration returns a parser of durations of at least least.
func duration(least time.Duration) func(word string) (time.Duration, error) {
	return func(word string) (time.Duration, error) {
		d, err := time.ParseDuration(word)
		switch {
		case err != nil && word != "" && strings.Trim(word, "0123456789") == "":
			return 0, fmt.Errorf("%q lacks a unit (did you mean %q?)", word, word+"s")
		case err != nil && word == "off":
			return 0, errors.New("this cannot be off, it takes a duration such as 500ms, 30s or 5m")
		case err != nil && !isDuration(word):
			return 0, fmt.Errorf("%q is not a duration such as 500ms, 30s or 5m", word)
		case err != nil || d > maxDuration:
			return 0, fmt.Errorf("%s is too long (at most %s)", word, Delay(maxDuration))
		case d < 0:
			return 0, fmt.Errorf("%s is negative (did you mean %s?)", word, strings.TrimPrefix(word, "-"))
		case d < least:
			return 0, fmt.Errorf("%s is too short (at least %s)", word, Delay(least))
		}
		return d, nil
	}
}

// isDuration reports whether a word that time.ParseDuration refuses has the form of a duration. Then it is too long.
func isDuration(word string) bool {
	return regexp.MustCompile(`^[-+]?((\d+\.?\d*|\.\d+)(ns|us|µs|μs|ms|s|m|h))+$`).MatchString(word)
}

// parseDelay reads a duration that may be 0.
func parseDelay(word string) (time.Duration, error) {
	d, err := time.ParseDuration(word)
	switch {
	case err == nil && d == 0:
		return 0, nil
	case err == nil && d < 0:
		return 0, fmt.Errorf("%s is negative (did you mean %s, or 0?)", word, strings.TrimPrefix(word, "-"))
	}
	return duration(minTimeout)(word)
}

// parseOptional reads a limit; off and 0 disable it.
func parseOptional(word string) (time.Duration, error) {
	if word == "off" {
		return 0, nil
	}
	return parseDelay(word)
}

// Delay formats a duration without the zeros of time.Duration's own form: 5m, not 5m0s.
func Delay(d time.Duration) string {
	s := d.String()
	if strings.HasSuffix(s, "m0s") {
		s = strings.TrimSuffix(s, "0s")
	}
	if strings.HasSuffix(s, "h0m") {
		s = strings.TrimSuffix(s, "0m")
	}
	return s
}

// Limit formats a limit; zero is off.
func Limit(d time.Duration) string {
	if d == 0 {
		return "off"
	}
	return Delay(d)
}

// setter sets the value of one key of a list.
type setter struct {
	key     string
	set     func(value string) error
	get     func() string // the key with its value; empty: the default
	repeats bool          // the key may come more than once
	isBare  bool          // the key has no value
}

// into returns a function that parses a value and stores it at a variable.
func into[T any](at *T, parse func(string) (T, error)) func(string) error {
	return func(word string) error {
		v, err := parse(word)
		if err == nil {
			*at = v
		}
		return err
	}
}

// setEach sets each KEY=VALUE or bare KEY of a list, up to the first error. Commas that no backslash precedes separate
// them; kind is what errors call an option.
func setEach(list, kind string, setters ...setter) error {
	keys := make([]string, len(setters))
	for i, s := range setters {
		keys[i] = s.key
	}
	given := make(map[string]bool)
	for rest, more := list, true; more; {
		var option string
		option, rest, more = cutUnescaped(rest, ',')
		key, value, ok := strings.Cut(option, "=")
		i := slices.Index(keys, key)
		switch {
		case !ok && (i < 0 || !setters[i].isBare):
			return fmt.Errorf("%s %q lacks its =VALUE", kind, option)
		case i < 0:
			return fmt.Errorf("unknown %s %q%s", kind, key, OrHave(key, keys))
		case ok && setters[i].isBare:
			return fmt.Errorf("%s %s takes no value, not %q", kind, key, value)
		case given[key] && !setters[i].repeats:
			return fmt.Errorf("%s %s is given twice", kind, key)
		}
		given[key] = true
		if err := setters[i].set(value); err != nil {
			return fmt.Errorf("%s %s: %w", kind, key, err)
		}
	}
	return nil
}

// cutUnescaped is strings.Cut at a byte that no backslash precedes.
func cutUnescaped(s string, at byte) (before, after string, found bool) {
	for i := 0; i < len(s); i++ {
		switch s[i] {
		case '\\':
			i++
		case at:
			return s[:i], s[i+1:], true
		}
	}
	return s, "", false
}

// parsePayload reads bytes: hex:DIGITS, or text in which \r \n \t \\ \, and \xNN stand for one byte each.
func parsePayload(word string) (string, error) {
	payload, err := unescape(word)
	if digits, isHex := strings.CutPrefix(word, "hex:"); isHex {
		payload, err = unhex(digits)
	}
	switch {
	case err != nil:
		return "", fmt.Errorf("%#.80q: %w", word, err)
	case payload == "":
		return "", fmt.Errorf("%q is empty: leave it out", word)
	case len(payload) > maxPayload:
		return "", fmt.Errorf("%.20q… has %d bytes, more than the %d of a datagram", word, len(payload), maxPayload)
	}
	return payload, nil
}

func unhex(digits string) (string, error) {
	if len(digits)%2 != 0 {
		return "", errors.New("hex digits come in pairs")
	}
	bytes, err := hex.DecodeString(digits)
	if err != nil {
		return "", errors.New("not all of it is hex digits")
	}
	return string(bytes), nil
}

func unescape(text string) (string, error) {
	var b strings.Builder
	for i := 0; i < len(text); i++ {
		if text[i] != '\\' {
			b.WriteByte(text[i])
			continue
		}
		if i++; i == len(text) {
			return "", errors.New(`nothing follows the last \`)
		}
		switch c := text[i]; c {
		case 'r':
			b.WriteByte('\r')
		case 'n':
			b.WriteByte('\n')
		case 't':
			b.WriteByte('\t')
		case '\\', ',':
			b.WriteByte(c)
		case 'x':
			one, err := unhex(text[min(i+1, len(text)):min(i+3, len(text))])
			if err != nil || one == "" {
				return "", errors.New(`two hex digits must follow \x`)
			}
			b.WriteString(one)
			i += 2
		default:
			return "", fmt.Errorf(`unknown escape %#q (have \r \n \t \xNN \\ \,)`, text[i-1:i+1])
		}
	}
	return b.String(), nil
}

// formatPayload writes bytes as the word that parsePayload reads: as text if it is legible, else in hex.
func formatPayload(payload string) string {
	legible := strings.IndexFunc(payload, func(r rune) bool {
		return (r < ' ' || r > '~') && !strings.ContainsRune("\r\n\t", r)
	}) < 0
	if !legible {
		return "hex:" + hex.EncodeToString([]byte(payload))
	}
	text := strings.NewReplacer("\r", `\r`, "\n", `\n`, "\t", `\t`, `\`, `\\`, ",", `\,`).Replace(payload)
	if rest, isHex := strings.CutPrefix(text, "hex:"); isHex {
		return `\x68ex:` + rest
	}
	return text
}
