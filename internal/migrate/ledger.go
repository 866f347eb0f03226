package migrate

import (
	"fmt"
	"sort"
	"strings"
)

// statement is a directive of a text.
type statement struct {
	line   int    // of its beginning, from 1
	last   int    // of its end
	text   string // as it stands there
	words  []string
	isMet  bool // done, or with a note
	isVoid bool // no reader looks at it any more
}

// done says that the plan has all that a statement says, or that it says nothing that matters.
func (s *statement) done() { s.isMet = true }

// has returns the word at an index, or "".
func (s *statement) has(i int) string {
	if i < len(s.words) {
		return s.words[i]
	}
	return ""
}

// ledger keeps count of the statements of a text.
type ledger struct {
	statements []*statement
	notes      []Note
	said       map[Note]bool
}

// add enters a statement.
func (l *ledger) add(s *statement) { l.statements = append(l.statements, s) }

// lose says why the plan lacks something of a statement, and what comes nearest. Service is "" for the whole plan.
func (l *ledger) lose(s *statement, service, reason string, args ...any) {
	l.note(s, Note{Lost: true, Service: service, Reason: fmt.Sprintf(reason, args...)})
}

// tell says in which way the plan differs from a statement that it has.
func (l *ledger) tell(s *statement, service, reason string, args ...any) {
	l.note(s, Note{Service: service, Reason: fmt.Sprintf(reason, args...)})
}

func (l *ledger) note(s *statement, n Note) {
	s.done()
	n.Line, n.Text = s.line, s.text
	key := n
	key.Service = "" // the services of one statement share its note
	if !l.said[key] {
		l.said[key] = true
		l.notes = append(l.notes, n)
	}
}

// loseRest gives every statement that nobody met its note.
func (l *ledger) loseRest(reason func(*statement) (text string, lost bool)) {
	for _, s := range l.statements {
		if s.isMet {
			continue
		}
		s.done()
		if text, lost := reason(s); text != "" {
			l.note(s, Note{Reason: text, Lost: lost})
		}
	}
}

// sorted returns the notes in the order of their lines.
func (l *ledger) sorted() []Note {
	sort.SliceStable(l.notes, func(i, j int) bool { return l.notes[i].Line < l.notes[j].Line })
	return l.notes
}

// firstLine is the text of a statement in one line.
func firstLine(text string) string {
	line, _, more := strings.Cut(strings.TrimSpace(text), "\n")
	if line = strings.TrimSpace(line); more {
		line += " ..."
	}
	return line
}
