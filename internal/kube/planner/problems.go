package planner

import (
	"fmt"
	"slices"
	"strings"
	"unicode"
)

// maxProblems bounds the problems of one Service, maxSeen those of which each is counted once, and maxMessage their length:
// objects may be wrong in any number of places.
const (
	maxProblems = 20
	maxSeen     = 1000
	maxMessage  = 400
)

// Reasons of problems.
const (
	invalidAnnotation  = "InvalidAnnotation"
	invalidClusterIP   = "InvalidClusterIP"
	invalidAddress     = "InvalidAddress"
	invalidEndpoint    = "InvalidEndpoint"
	invalidName        = "InvalidName"
	invalidPort        = "InvalidPort"
	invalidSourceRange = "InvalidSourceRange"
	invalidSpec        = "InvalidSpec"
	endpointLoop       = "EndpointLoop"
	tooLarge           = "TooLarge"
	unsupported        = "UnsupportedProtocol"
	moreProblems       = "MoreProblems"
)

// problems collects problems, each once.
type problems struct {
	kept []Problem
	seen map[Problem]bool
	more int // problems that are not kept
}

func (l *problems) add(reason, format string, args ...any) {
	p := Problem{Reason: reason, Message: fmt.Sprintf(format, args...)}
	if len(p.Message) > maxMessage {
		p.Message = p.Message[:maxMessage] + "…"
	}
	p.Message = strings.Map(printable, strings.ToValidUTF8(p.Message, "?"))
	if l.seen[p] {
		return
	}
	if l.seen == nil {
		l.seen = make(map[Problem]bool)
	}
	if len(l.seen) < maxSeen {
		l.seen[p] = true
	}
	if len(l.kept) < maxProblems {
		l.kept = append(l.kept, p)
		return
	}
	l.more++
}

// printable replaces what would disturb a terminal or a log.
func printable(r rune) rune {
	if unicode.IsPrint(r) {
		return r
	}
	return '?'
}

// list returns the first problems, and how many more there are.
func (l *problems) list() []Problem {
	if l.more > 0 {
		return append(slices.Clip(l.kept), Problem{moreProblems, fmt.Sprintf("%d more problems of this Service", l.more)})
	}
	return l.kept
}
