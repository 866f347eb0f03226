package migrate

import (
	"fmt"
	"strings"
	"unicode/utf8"

	"usher/internal/configfile"
)

// YAML writes the plan as a config file. Notes are comments: above the service that they are about, or at the end.
func (r *Result) YAML(file string) []byte {
	c := configfile.Comments{Head: r.head(file), Services: make(map[string][]string)}
	hasService := make(map[string]bool, len(r.Plan.Services))
	for _, s := range r.Plan.Services {
		hasService[s.Name] = true
	}
	groups := make(map[string][]Note)
	for _, n := range r.Notes {
		if !hasService[n.Service] {
			n.Service = ""
		}
		groups[n.Service] = append(groups[n.Service], n)
	}
	for name, notes := range groups {
		if name != "" {
			c.Services[name] = comments(notes)
		}
	}
	c.Tail = comments(groups[""])
	return configfile.EncodeCommented(r.Plan, c)
}

// head says what the file is from, and how much of it is here.
func (r *Result) head(file string) []string {
	lost, told := r.Lost(), r.noted(false)
	text := fmt.Sprintf("From %s (%s) by usher import: ", file, r.Kind)
	switch {
	case lost+told == 0:
		return []string{text + "all of it is here."}
	case lost == 0:
		return []string{text + fmt.Sprintf("all of it is here, %d with a remark (N: LINE, then the remark).", told)}
	}
	return []string{text + fmt.Sprintf("of %d lines %d could not be brought over, %d have a remark", r.lines, lost, told),
		"(N: LINE, then the reason and what comes nearest)."}
}

const (
	// maxShown bounds how much of a line a comment repeats, in characters.
	maxShown = 160
	// commentWidth is that of the lines of reasons.
	commentWidth = 110
)

// comments writes notes: their lines, and below those that share it, the reason.
func comments(notes []Note) (lines []string) {
	for i, n := range notes {
		lines = append(lines, fmt.Sprintf("%d: %s", n.Line, shown(n.Text)))
		if i+1 < len(notes) && notes[i+1].Reason == n.Reason && notes[i+1].Lost == n.Lost {
			continue
		}
		mark := "   remark: "
		if n.Lost {
			mark = "   not brought over: "
		}
		lines = append(lines, wrap(mark+n.Reason, "     ")...)
	}
	return lines
}

// shown is the first line of a statement, of a bounded length.
func shown(text string) string {
	text = firstLine(text)
	if utf8.RuneCountInString(text) > maxShown {
		text = string([]rune(text)[:maxShown]) + "…"
	}
	return text
}

// wrap breaks a text into lines; all but the first begin with indent.
func wrap(text, indent string) (lines []string) {
	begin := len(text) - len(strings.TrimLeft(text, " "))
	line := text[:begin]
	for i, word := range strings.Fields(text) {
		if i > 0 && utf8.RuneCountInString(line)+1+utf8.RuneCountInString(word) > commentWidth {
			lines = append(lines, line)
			line = indent + word
			continue
		}
		if i > 0 {
			line += " "
		}
		line += word
	}
	return append(lines, line)
}
