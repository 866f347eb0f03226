package configfile

import (
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"

	"usher/internal/config"
)

// Error is a mistake in a file, or in the body of a request.
type Error struct {
	File   string // as it was opened; empty: a body
	Line   int    // from 1; 0: the file as a whole
	Column int    // from 1, in characters
	Reason string

	excerpt string // the line with a caret below; empty: none
	cause   error
}

// Error returns FILE:LINE:COLUMN: REASON, then the line of the file and a caret.
func (e *Error) Error() string {
	if e.excerpt == "" {
		return e.Summary()
	}
	return e.Summary() + "\n" + e.excerpt
}

// Summary is Error in one line.
func (e *Error) Summary() string {
	switch {
	case e.Line == 0 && e.File == "":
		return e.Reason
	case e.Line == 0:
		return e.File + ": " + e.Reason
	case e.File == "":
		return fmt.Sprintf("line %d, column %d: %s", e.Line, e.Column, e.Reason)
	}
	return fmt.Sprintf("%s:%d:%d: %s", e.File, e.Line, e.Column, e.Reason)
}

// Unwrap returns the *config.Error or the error of the file system behind it, or nil.
func (e *Error) Unwrap() error { return e.cause }

// position is a place in a source: a line and a character of it, from 1. The zero value is the source as a whole.
type position struct{ line, column int }

// source is a text with what is needed to name a place in it.
type source struct {
	file  string // empty: the body of a request
	text  []byte
	above int // lines of the file above the text
}

// errorf returns an error about a place of the text.
func (s source) errorf(at position, format string, args ...any) *Error {
	return s.wrap(at, nil, fmt.Sprintf(format, args...))
}

// wrap is errorf with the error behind it.
func (s source) wrap(at position, cause error, reason string) *Error {
	e := &Error{File: s.file, Reason: strings.Map(visible, reason), cause: cause}
	if at.line == 0 {
		return e
	}
	e.Line, e.Column = s.above+at.line, max(at.column, 1)
	if s.file != "" {
		e.excerpt = excerpt(s.line(at.line), e.Column)
	}
	return e
}

// value returns the error of a value that package config has refused.
func (s source) value(at position, err error) *Error {
	if e, ok := err.(*config.Error); ok {
		return s.wrap(at, err, e.Reason(spell))
	}
	return s.wrap(at, err, err.Error())
}

// spell writes a field of the plan as a file does.
func spell(f config.Field) string {
	switch f {
	case "backend":
		return keyBackends
	case "rule":
		return keyRules
	}
	return string(f)
}

// line returns a line of the text, from 1, without its end. It is empty if there are not as many.
func (s source) line(n int) string {
	rest := string(s.text)
	for ; n > 1; n-- {
		_, after, found := strings.Cut(rest, "\n")
		if !found {
			return ""
		}
		rest = after
	}
	line, _, _ := strings.Cut(rest, "\n")
	return strings.TrimSuffix(line, "\r")
}

// excerptWidth bounds an excerpt, in characters; it fits a terminal of 80 columns.
const excerptWidth = 76

// excerpt returns a line and below it a caret at a column. Of a long line it is the part around the caret.
func excerpt(line string, column int) string {
	runes := make([]rune, 0, min(len(line), 4*excerptWidth))
	first := max(1, column-excerptWidth/2) // column of the first rune that is shown
	if utf8.RuneCountInString(line) <= excerptWidth {
		first = 1
	}
	at, cut := 0, false
	for _, r := range line {
		if at++; at < first {
			continue
		}
		if len(runes) == excerptWidth {
			cut = true
			break
		}
		runes = append(runes, visible(r))
	}
	shown, indent := string(runes), column-first
	if first > 1 {
		shown, indent = "…"+shown, indent+1
	}
	if cut {
		shown += "…"
	}
	return shown + "\n" + strings.Repeat(" ", indent) + "^"
}

// visible returns a character of one column that terminals do not interpret.
func visible(r rune) rune {
	switch {
	case r == '\t' || r == '\n':
		return ' '
	case !unicode.IsPrint(r):
		return utf8.RuneError
	}
	return r
}
