package config

import (
	"errors"
	"fmt"
	"strings"
)

// cutCommand splits a command from the options behind it, at the first comma that is neither quoted nor escaped.
func cutCommand(spec string) (command, options string, more bool, err error) {
	words, err := shellWords(spec)
	if err != nil {
		return "", "", false, err
	}
	for _, w := range words {
		if w.comma >= 0 {
			return spec[:w.comma], spec[w.comma+1:], true, nil
		}
	}
	return spec, "", false, nil
}

// splitArgs reads the words of a command, with the quotes and backslashes of a shell. It runs no shell, and refuses all
// other shell syntax.
func splitArgs(command string) ([]string, error) {
	words, err := shellWords(command)
	if err != nil {
		return nil, err
	}
	args := make([]string, len(words))
	for i, w := range words {
		args[i] = w.text
	}
	return args, nil
}

// joinArgs writes what splitArgs reads, without a comma outside quotes.
func joinArgs(args []string) (string, error) {
	out := make([]string, len(args))
	for i, a := range args {
		switch {
		case strings.ContainsRune(a, 0):
			return "", fmt.Errorf("%q: no argument of a program has a zero byte", a)
		case a != "" && !strings.ContainsAny(a, needQuotes):
			out[i] = a
		case !strings.Contains(a, "'"):
			out[i] = "'" + a + "'"
		default:
			out[i] = `"` + doubleQuoted.Replace(a) + `"`
		}
	}
	return strings.Join(out, " "), nil
}

const (
	operators   = "|&;<>()"
	blanks      = " \t\r\n"
	needQuotes  = operators + blanks + "'\"\\$`,*?[]{}#~=!%^"
	specialName = "@*#?-$!0123456789" // parameters of one character
)

// doubleQuoted escapes what means something between double quotes.
var doubleQuoted = strings.NewReplacer(`\`, `\\`, `"`, `\"`, "$", `\$`, "`", "\\`")

// shellWord is a word without its quotes.
type shellWord struct {
	text  string
	comma int // offset of the first one that is neither quoted nor escaped; -1: there is none
}

// shellWords splits a command into words of plain text, with the quotes of a POSIX shell (XCU 2.2).
func shellWords(command string) (words []shellWord, err error) {
	s := wordScanner{text: command}
	for {
		s.skip()
		if s.at == len(command) {
			return words, nil
		}
		w, err := s.word()
		if err != nil {
			return nil, err
		}
		words = append(words, w)
	}
}

// wordScanner reads words from at on.
type wordScanner struct {
	text string
	at   int
	out  strings.Builder // the word so far
	bare strings.Builder // the same with what is quoted as underscores
}

func (s *wordScanner) rest() string { return s.text[s.at:] }

// skip passes over what stands between words, line ends behind a backslash among it.
func (s *wordScanner) skip() {
	for before := -1; s.at != before; {
		before = s.at
		s.at += len(s.rest()) - len(strings.TrimLeft(s.rest(), blanks))
		s.at += len(s.rest()) - len(strings.TrimPrefix(s.rest(), "\\\n"))
	}
}

// word reads a word, of which there is a character at least.
func (s *wordScanner) word() (shellWord, error) {
	begin, comma := s.at, -1
	s.out.Reset()
	s.bare.Reset()
	for ; s.at < len(s.text); s.at++ {
		c := s.text[s.at]
		switch {
		case strings.IndexByte(blanks, c) >= 0:
			return s.finish(begin, comma)
		case s.at == begin && c == '#':
			return shellWord{}, needsShell(s.rest())
		case s.at == begin && c == '~':
			return shellWord{}, needsShell(s.upTo(blanks))
		case strings.IndexByte(operators, c) >= 0:
			return shellWord{}, needsShell(s.rest()[:len(s.rest())-len(strings.TrimLeft(s.rest(), operators))])
		case c == '\'', c == '"':
			if err := s.quoted(c); err != nil {
				return shellWord{}, err
			}
		case c == '\\' && s.at+1 < len(s.text):
			if s.at++; s.text[s.at] != '\n' { // which a backslash takes away
				s.literal(s.text[s.at])
			}
		default:
			if x := s.active(); x != "" {
				return shellWord{}, needsShell(x)
			}
			if c == ',' && comma < 0 {
				comma = s.at
			}
			s.out.WriteByte(c)
			s.bare.WriteByte(c)
		}
	}
	return s.finish(begin, comma)
}

func (s *wordScanner) finish(begin, comma int) (shellWord, error) {
	if isBraced(s.bare.String()) {
		return shellWord{}, needsShell(s.text[begin:s.at])
	}
	return shellWord{s.out.String(), comma}, nil
}

// literal adds a byte that is quoted.
func (s *wordScanner) literal(c byte) {
	s.out.WriteByte(c)
	s.bare.WriteByte('_')
}

// quoted reads what stands between quotes. It ends at the closing one.
func (s *wordScanner) quoted(quote byte) error {
	for s.at++; s.at < len(s.text); s.at++ {
		switch c := s.text[s.at]; {
		case c == quote:
			return nil
		case quote == '"' && c == '\\' && s.at+1 < len(s.text) && strings.IndexByte("$`\"\\\n", s.text[s.at+1]) >= 0:
			if s.at++; s.text[s.at] != '\n' {
				s.literal(s.text[s.at])
			}
		default:
			if x := s.active(); quote == '"' && x != "" && !isQuoteOf(x) {
				return needsShell(x)
			}
			s.literal(c)
		}
	}
	return errors.New("reached EOF without closing quote `" + string(quote) + "`")
}

// active returns what a shell would replace at this place; empty: nothing.
func (s *wordScanner) active() string {
	rest := s.rest()
	switch {
	case rest[0] == '`':
		if end := strings.IndexByte(rest[1:], '`'); end >= 0 {
			return rest[:end+2]
		}
		return rest + "`"
	case rest[0] != '$' || len(rest) == 1:
		return ""
	case strings.IndexByte("([{'\"", rest[1]) >= 0:
		return s.upTo(blanks)
	case strings.IndexByte(specialName, rest[1]) >= 0:
		return rest[:2]
	}
	name := strings.TrimLeft(rest[1:], "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_")
	if len(name) == len(rest)-1 {
		return ""
	}
	return rest[:len(rest)-len(name)]
}

// isQuoteOf reports whether an active part is $" or $', which is text between double quotes.
func isQuoteOf(x string) bool { return strings.HasPrefix(x, `$"`) || strings.HasPrefix(x, "$'") }

// upTo returns what stands before any of some characters.
func (s *wordScanner) upTo(chars string) string {
	if end := strings.IndexAny(s.rest(), chars); end >= 0 {
		return s.rest()[:end]
	}
	return s.rest()
}

// isBraced reports whether a shell such as bash makes several words of one: {a,b} and {1..3}.
func isBraced(bare string) bool {
	_, inner, found := strings.Cut(bare, "{")
	end := strings.LastIndexByte(inner, '}')
	return found && end >= 0 && (strings.Contains(inner[:end], ",") || strings.Contains(inner[:end], ".."))
}

func needsShell(what string) error {
	return fmt.Errorf("no shell is run, `%s` has to be quoted or done by one, as in exec:sh -c '…'", what)
}
