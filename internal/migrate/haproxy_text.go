package migrate

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"
)

// haproxySections are the words that begin a section of haproxy.cfg.
var haproxySections = []string{
	"global", "defaults", "frontend", "backend", "listen", "resolvers", "peers", "userlist", "mailers", "program", "cache",
	"http-errors", "ring", "log-forward", "log-profile", "fcgi-app", "crt-store", "traces", "acme",
}

func isHAProxySection(word string) bool { return slices.Contains(haproxySections, word) }

// section is a part of haproxy.cfg: its head, and the lines below it.
type section struct {
	kind, name string
	head       *statement
	body       []*statement
	defaults   *section // of a proxy, or of other defaults; nil: none
}

// splitSections reads the sections of a text. Lines above the first one are lost.
func splitSections(l *ledger, text string) (all []*section) {
	number := 0
	var last *section
	for line := range strings.Lines(text) {
		number++
		line = strings.TrimRight(line, "\n")
		words, variable := splitHAProxy(line)
		if len(words) == 0 {
			continue
		}
		s := &statement{line: number, last: number, text: strings.TrimSpace(line), words: words}
		l.add(s)
		if variable != "" {
			l.lose(s, "", "the environment variable %s has its value where HAProxy runs: write that value here", variable)
			s.isVoid = true
		}
		switch {
		case words[0][0] == '.':
			l.lose(s, "", "conditions are evaluated when HAProxy starts: keep the lines that are in force, and import the rest")
			s.isVoid = true
		case isHAProxySection(words[0]):
			last = &section{kind: words[0], name: s.has(1), head: s}
			all = append(all, last)
		case last == nil:
			l.lose(s, "", "it is in no section")
		default:
			last.body = append(last.body, s)
		}
	}
	return all
}

// splitHAProxy splits a line into words, as HAProxy does: quotes, escapes, comments. variable is the name of the first
// environment variable that it uses.
func splitHAProxy(line string) (words []string, variable string) {
	var word strings.Builder
	inWord, quote := false, byte(0)
	for i := 0; i < len(line); i++ {
		c := line[i]
		switch {
		case quote == '\'' && c != '\'':
			word.WriteByte(c)
		case c == '\\' && i+1 < len(line):
			i += unescape(&word, line[i+1:])
			inWord = true
		case c == '"' && quote != '\'' || c == '\'' && quote != '"':
			quote ^= c
			inWord = true
		case quote == '"' && c == '$':
			variable = firstName(variable, line[i+1:])
			word.WriteByte(c)
		case quote != 0:
			word.WriteByte(c)
		case c == '#':
			i = len(line)
		case c == ' ' || c == '\t' || c == '\r':
			if inWord {
				words = append(words, word.String())
				word.Reset()
			}
			inWord = false
		default:
			if c == '$' && strings.HasPrefix(line[i+1:], "{") {
				variable = firstName(variable, line[i+1:])
			}
			word.WriteByte(c)
			inWord = true
		}
	}
	if inWord {
		words = append(words, word.String())
	}
	if len(words) > 0 && words[0] == "" {
		words[0] = `""`
	}
	return words, variable
}

// unescape writes the character that an escape stands for, and returns how many characters follow the backslash.
func unescape(w *strings.Builder, rest string) int {
	switch c := rest[0]; c {
	case 'n', 'r', 't':
		w.WriteByte(map[byte]byte{'n': '\n', 'r': '\r', 't': '\t'}[c])
	case 'x':
		if len(rest) >= 3 {
			if n, err := strconv.ParseUint(rest[1:3], 16, 8); err == nil {
				w.WriteByte(byte(n))
				return 3
			}
		}
		w.WriteByte(c)
	default:
		w.WriteByte(c)
	}
	return 1
}

// firstName returns the name of an environment variable at the beginning of a text, unless there was one before.
func firstName(before, text string) string {
	if before != "" {
		return before
	}
	name := strings.TrimPrefix(text, "{")
	if end := strings.IndexFunc(name, func(r rune) bool {
		return r != '_' && (r < '0' || r > '9') && (r < 'A' || r > 'Z') && (r < 'a' || r > 'z')
	}); end >= 0 {
		name = name[:end]
	}
	return name
}

// haproxyTime reads a time: a number of milliseconds, or one with its unit.
func haproxyTime(word string) (time.Duration, error) {
	digits := strings.TrimRight(word, "usmhd")
	unit, ok := map[string]time.Duration{
		"": time.Millisecond, "us": time.Microsecond, "ms": time.Millisecond, "s": time.Second, "m": time.Minute,
		"h": time.Hour, "d": 24 * time.Hour,
	}[word[len(digits):]]
	n, err := strconv.ParseInt(digits, 10, 32)
	if err != nil || !ok || n < 0 {
		return 0, fmt.Errorf("%q is not a time", word)
	}
	return time.Duration(n) * unit, nil
}
