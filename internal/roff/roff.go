// Package roff writes manual pages in the macros of man(7), which groff and mandoc read.
//
// Its texts are those of usher's help: paragraphs at the left margin, and below them indented lines. Indented lines of
// the form "  term   what it means", with the rest of the meaning far to the right, are a list. Others, as a piece of a
// file, stay as they are.
package roff

import (
	"fmt"
	"slices"
	"strings"
	"time"
	"unicode"
)

// Page is a manual page that grows from top to bottom.
type Page struct {
	text     strings.Builder
	isHeaded bool // the last line is a heading, which begins a paragraph by itself
}

// New begins a page, such as usher of section 1. The source is the program with its version.
func New(name string, section int, date time.Time, source, manual string) *Page {
	p := new(Page)
	fmt.Fprintf(&p.text, ".TH %s %d %s", strings.ToUpper(name), section, date.Format(time.DateOnly))
	p.macro("", source, manual)
	return p
}

// String returns the source of the page.
func (p *Page) String() string { return p.text.String() }

// Section begins a section.
func (p *Page) Section(title string) {
	p.macro(".SH", strings.ToUpper(title))
	p.isHeaded = true
}

// Subsection begins a part of a section.
func (p *Page) Subsection(title string) {
	p.macro(".SS", title)
	p.isHeaded = true
}

// begin begins a paragraph, unless a heading has.
func (p *Page) begin() {
	if !p.isHeaded {
		p.macro(".PP")
	}
}

// Paragraph writes a paragraph.
func (p *Page) Paragraph(text string) {
	p.begin()
	p.fill(text)
}

// Item writes an entry of a list: a term, and what it means.
func (p *Page) Item(term, text string) {
	p.macro(".TP")
	p.line("\\fB" + escape(term) + "\\fR")
	p.fill(text)
}

// Text writes a text of the help.
func (p *Page) Text(text string) {
	for _, block := range blocksOf(text) {
		switch items := itemsOf(block.lines); {
		case !block.isIndented:
			p.Paragraph(strings.Join(block.lines, " "))
		case items != nil:
			for _, i := range items {
				p.Item(i.term, i.text)
			}
		default:
			p.Literal(block.lines)
		}
	}
}

// Literal writes lines as they are, without what all are indented by.
func (p *Page) Literal(lines []string) {
	least := len(lines[0])
	for _, l := range lines {
		least = min(least, indentOf(l))
	}
	p.begin()
	p.macro(".nf")
	for _, l := range lines {
		p.line(escape(strings.TrimRight(l[least:], " ")))
	}
	p.macro(".fi")
}

// macro writes a macro, and its words, which may have blanks.
func (p *Page) macro(name string, words ...string) {
	p.text.WriteString(name)
	p.isHeaded = false
	for _, w := range words {
		p.text.WriteString(` "` + strings.ReplaceAll(escape(w), `"`, `\(dq`) + `"`)
	}
	p.text.WriteByte('\n')
}

// line writes a line of text, which no dot or quote at its beginning makes a macro.
func (p *Page) line(escaped string) {
	p.text.WriteString(escaped + "\n")
	p.isHeaded = false
}

// fill writes words that the reader's screen breaks into lines.
func (p *Page) fill(text string) {
	const width = 80
	line := ""
	for _, word := range strings.Fields(text) {
		longer := strings.TrimSpace(line + " " + word)
		if line != "" && len(escape(longer)) > width {
			p.line(escape(line))
			longer = word
		}
		line = longer
	}
	p.line(escape(line))
}

// special are the characters that a formatter would take for others, or as its own.
var special = strings.NewReplacer(`\`, `\e`, `-`, `\-`, `'`, `\(aq`, "`", `\(ga`, `^`, `\(ha`, `~`, `\(ti`, "\t", "    ")

// escape makes text that is printed as it is. Control characters are left out.
func escape(text string) string {
	text = strings.Map(func(r rune) rune {
		if unicode.IsControl(r) && r != '\t' {
			return -1
		}
		return r
	}, text)
	text = special.Replace(text)
	if strings.HasPrefix(text, ".") {
		text = `\&` + text
	}
	return text
}

// block is lines that stand together, all at the margin or all indented.
type block struct {
	isIndented bool
	lines      []string
}

func blocksOf(text string) (all []block) {
	var last *block
	for line := range strings.Lines(text) {
		line = strings.TrimRight(line, "\n ")
		if line == "" {
			last = nil
			continue
		}
		isIndented := line[0] == ' '
		if last == nil || last.isIndented != isIndented {
			all = append(all, block{isIndented: isIndented})
			last = &all[len(all)-1]
		}
		last.lines = append(last.lines, line)
	}
	return all
}

// item is an entry of a list.
type item struct{ term, text string }

// itemsOf reads lines as a list; nil: they are none. A term begins at the indent of the first line, and its meaning
// behind at least two blanks, or far to the right in the next line. A number needs no more than one blank. YAML's key:
// value is no term.
func itemsOf(lines []string) (all []item) {
	const far = 8
	indent := indentOf(lines[0])
	for _, line := range lines {
		own, isNumbered := indentOf(line), len(all) > 0 && isNumber(all[len(all)-1].term)
		switch {
		case strings.HasSuffix(line, `\`):
			return nil // a command of several lines
		case len(all) > 0 && (own >= far || isNumbered && own > indent):
			last := &all[len(all)-1]
			last.text = strings.TrimSpace(last.text + " " + strings.TrimSpace(line))
			continue
		case own != indent:
			return nil
		}
		term, text, _ := strings.Cut(line[own:], "  ")
		if number, rest, _ := strings.Cut(line[own:], " "); isNumber(number) {
			term, text = number, rest
		}
		all = append(all, item{term, strings.TrimSpace(text)})
	}
	if slices.ContainsFunc(all, func(i item) bool { return i.text == "" || strings.Contains(i.term, ": ") }) {
		return nil
	}
	return all
}

// isNumber reports whether a term is that of a numbered list, as 1. is.
func isNumber(term string) bool {
	digits, found := strings.CutSuffix(term, ".")
	return found && digits != "" && strings.Trim(digits, "0123456789") == ""
}

func indentOf(line string) int { return len(line) - len(strings.TrimLeft(line, " ")) }
