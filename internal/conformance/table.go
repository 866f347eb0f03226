//go:build linux

package conformance

import (
	"fmt"
	"strings"
)

// Table prints reports side by side as Markdown, with one row a case and one column a
// target. Below the rows it lists why a target failed or skipped a case.
func Table(reports []Report) string {
	var b strings.Builder
	b.WriteString("| case |")
	for _, r := range reports {
		fmt.Fprintf(&b, " %s |", strings.TrimSpace(r.Target+" "+r.Version))
	}
	b.WriteString("\n|---|" + strings.Repeat(":-:|", len(reports)) + "\n")

	var notes []string
	note := func(text string) string {
		for i, n := range notes {
			if n == text {
				return fmt.Sprintf("[%d]", i+1)
			}
		}
		notes = append(notes, text)
		return fmt.Sprintf("[%d]", len(notes))
	}
	passed, asked := make([]int, len(reports)), make([]int, len(reports))
	group := ""
	for _, x := range Cases() {
		row := ""
		ran := false
		for i, r := range reports {
			cell := " "
			for _, result := range r.Results {
				if result.Case.Name != x.Name {
					continue
				}
				ran = true
				switch result.Outcome {
				case Passed:
					passed[i]++
					asked[i]++
					cell = "yes"
				case Failed:
					asked[i]++
					cell = "**no** " + note(r.Target+": "+oneLine(result.Reason))
				case Skipped:
					cell = "– " + note(r.Target+": "+oneLine(result.Reason))
				}
			}
			row += " " + cell + " |"
		}
		if !ran {
			continue
		}
		if x.Group != group {
			group = x.Group
			fmt.Fprintf(&b, "| *%s* |%s\n", group, strings.Repeat(" |", len(reports)))
		}
		fmt.Fprintf(&b, "| %s |%s\n", strings.ReplaceAll(x.Name, "-", " "), row)
	}
	b.WriteString("| passed |")
	for i := range reports {
		fmt.Fprintf(&b, " %d of %d |", passed[i], asked[i])
	}
	b.WriteString("\n")

	for i, n := range notes {
		fmt.Fprintf(&b, "\n[%d] %s", i+1, n)
	}
	if len(notes) > 0 {
		b.WriteString("\n")
	}
	for _, r := range reports {
		for _, n := range r.Notes {
			fmt.Fprintf(&b, "\n%s was run with %s", r.Target, n)
		}
	}
	return b.String() + "\n"
}

// oneLine shortens a reason to one line.
func oneLine(s string) string {
	s, _, _ = strings.Cut(s, "\n")
	if len(s) > 160 {
		s = strings.ToValidUTF8(s[:160], "") + "…"
	}
	return strings.ReplaceAll(s, "|", "/")
}
