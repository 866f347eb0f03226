package configfile

import (
	"strings"
	"unicode"
	"unicode/utf8"

	"usher/internal/config"
)

// Comments are lines that stand in a file for its readers.
type Comments struct {
	Head, Tail []string            // above and below all else
	Services   map[string][]string // above a service, by its name
}

// EncodeCommented is Encode with comments. Parse reads the same plan.
func EncodeCommented(plan *config.Config, c Comments) []byte {
	var w writer
	w.comments(0, c.Head)
	w.plan(plan, c.Services)
	w.comments(0, c.Tail)
	return w.Bytes()
}

// comments writes lines behind a #. A character that is not text in YAML, or ends a line, is replaced.
func (w *writer) comments(depth int, lines []string) {
	for _, line := range lines {
		w.WriteString(strings.Repeat(indentation, depth))
		w.WriteByte('#')
		if line != "" {
			w.WriteByte(' ')
		}
		w.WriteString(strings.Map(func(r rune) rune {
			switch {
			case r == '\t':
				return ' '
			case !unicode.IsPrint(r):
				return utf8.RuneError
			}
			return r
		}, line))
		w.WriteByte('\n')
	}
}
