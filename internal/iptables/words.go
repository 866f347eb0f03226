package iptables

import (
	"strings"
	"unicode"
	"unicode/utf8"
)

// maxLine bounds a line, in bytes.
const maxLine = 16 << 10

// word is a word of a line without its quotes.
type word struct {
	text   string
	offset int // in bytes, of its first character or quote
}

// split splits a line into words as iptables-restore does, and knows single quotes as a shell does. Nothing is expanded,
// since comments hold $ and backquotes as they are. Within double quotes, and outside all, a backslash stands before a
// character that means itself.
func split(line string) ([]word, *Error) {
	isControl := func(r rune) bool { return unicode.IsControl(r) && r != '\t' }
	switch at := strings.IndexFunc(line, isControl); {
	case len(line) > maxLine:
		return nil, errorf("a line has at most %d bytes, not %d", maxLine, len(line)).at(0)
	case at >= 0:
		return nil, errorf("the line holds a control character").at(at)
	case !utf8.ValidString(line):
		return nil, errorf("the line is not UTF-8 text").at(0)
	}
	var words []word
	var text strings.Builder
	start, quote := -1, byte(0)
	for i := 0; i < len(line); i++ {
		c := line[i]
		if quote == 0 && (c == ' ' || c == '\t') {
			if start >= 0 {
				words = append(words, word{text.String(), start})
				text.Reset()
				start = -1
			}
			continue
		}
		if start < 0 {
			start = i
		}
		switch {
		case c == quote:
			quote = 0
		case quote == 0 && (c == '"' || c == '\''):
			quote = c
		case c == '\\' && quote != '\'':
			if i++; i == len(line) {
				return nil, errorf("a backslash ends the line").at(i - 1)
			}
			text.WriteByte(line[i])
		default:
			text.WriteByte(c)
		}
	}
	if quote != 0 {
		return nil, errorf("the quote %c is not closed", quote).at(start)
	}
	if start >= 0 {
		words = append(words, word{text.String(), start})
	}
	return words, nil
}

const nameLetters = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_"

// quote writes a word as iptables -S does, which quotes all but letters, digits, underscores and dashes.
func quote(text string) string {
	if text != "" && strings.Trim(text, nameLetters+"-") == "" {
		return text
	}
	return `"` + escaper.Replace(text) + `"`
}

var escaper = strings.NewReplacer(`\`, `\\`, `"`, `\"`, `'`, `\'`)

// checkName refuses names that iptables writes without quotes and would not read again.
func checkName(of, name string, most int) *Error {
	switch {
	case name == "" || name == "." || name == ".." || strings.Trim(name, nameLetters+"-.:@#%+=") != "":
		return errorf("invalid %s `%s'", of, name).advise("letters, digits and -_.:@#%%+= make a name")
	case len(name) > most:
		return errorf("%s `%s' too long (at most %d chars)", of, name, most)
	}
	return nil
}

// quoteOther writes a word of options that nothing here understands: with quotes where it needs some.
func quoteOther(text string) string {
	if text != "" && !strings.ContainsAny(text, " \t\"'\\") {
		return text
	}
	return quote(text)
}
