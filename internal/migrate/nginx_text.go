package migrate

import (
	"errors"
	"fmt"
	"slices"
	"strings"
)

// block is a directive of nginx: a statement, and those between its braces.
type block struct {
	*statement
	body []*block
}

// maxDepth bounds how deep blocks of nginx lie in each other.
const maxDepth = 32

// nginxParser reads the directives of a text.
type nginxParser struct {
	l    *ledger
	text string
	at   int
	line int
}

// parseNginx reads the directives of a text.
func parseNginx(l *ledger, text string) ([]*block, error) {
	p := &nginxParser{l: l, text: text, line: 1}
	all, closed, err := p.blocks(0)
	if err == nil && closed {
		err = fmt.Errorf("line %d: a } without its {", p.line)
	}
	return all, err
}

// blocks reads directives up to the end, or to the brace that closes them.
func (p *nginxParser) blocks(depth int) (all []*block, closed bool, err error) {
	if depth > maxDepth {
		return nil, false, fmt.Errorf("line %d: blocks lie more than %d deep in each other", p.line, maxDepth)
	}
	for {
		s, end, err := p.statement()
		switch {
		case err != nil:
			return nil, false, err
		case s == nil:
			if end == 0 && depth > 0 {
				return nil, false, errors.New("the text ends in a block: a } is missing")
			}
			return all, end == '}', nil
		}
		b := &block{statement: s}
		p.l.add(s)
		all = append(all, b)
		if end != '{' {
			continue
		}
		if b.body, _, err = p.blocks(depth + 1); err != nil {
			return nil, false, err
		}
	}
}

// statement reads words up to ; or {, which it returns. Without words it is the } or the end.
func (p *nginxParser) statement() (s *statement, end byte, err error) {
	for {
		word, end, err := p.word()
		if err != nil {
			return nil, 0, err
		}
		switch {
		case end == 0 && word != nil && s == nil:
			s = &statement{line: p.line, words: []string{*word}}
			continue
		case end == 0 && word != nil:
			s.words = append(s.words, *word)
			continue
		case s == nil && (end == ';' || end == '{'):
			return nil, 0, fmt.Errorf("line %d: unexpected %q", p.line, end)
		case s == nil:
			return nil, end, nil
		case end == '}' || end == 0:
			return nil, 0, fmt.Errorf("line %d: the directive %q lacks its ; or {", s.line, s.words[0])
		}
		s.last = p.line
		s.text = strings.Join(s.words, " ")
		return s, end, nil
	}
}

// word reads a word, or one of ; { }, or the end, for which both are zero.
func (p *nginxParser) word() (word *string, end byte, err error) {
	if !p.skip() {
		return nil, 0, nil
	}
	switch c := p.text[p.at]; c {
	case ';', '{', '}':
		p.at++
		return nil, c, nil
	case '"', '\'':
		return p.quoted(c)
	}
	var w strings.Builder
	for ; p.at < len(p.text); p.at++ {
		c := p.text[p.at]
		switch {
		case c == '\\' && p.at+1 < len(p.text):
			p.at++
			p.count(p.text[p.at])
			if !strings.ContainsRune(`"' \`, rune(p.text[p.at])) {
				w.WriteByte('\\')
			}
			w.WriteByte(p.text[p.at])
			continue
		case c == '{' && strings.HasSuffix(w.String(), "$"): // of a variable
		case strings.IndexByte(" \t\r\n;{", c) >= 0:
			text := w.String()
			return &text, 0, nil
		}
		w.WriteByte(c)
	}
	text := w.String()
	return &text, 0, nil
}

// quoted reads a word between quotes.
func (p *nginxParser) quoted(quote byte) (*string, byte, error) {
	var w strings.Builder
	from := p.line
	for p.at++; p.at < len(p.text); p.at++ {
		c := p.text[p.at]
		switch {
		case c == quote:
			p.at++
			text := w.String()
			return &text, 0, nil
		case c == '\\' && p.at+1 < len(p.text) && strings.ContainsRune(`"'\`, rune(p.text[p.at+1])):
			p.at++
			c = p.text[p.at]
		}
		p.count(c)
		w.WriteByte(c)
	}
	return nil, 0, fmt.Errorf("line %d: the quote %c is not closed", from, quote)
}

// skip passes blanks and comments, and returns false at the end.
func (p *nginxParser) skip() bool {
	for ; p.at < len(p.text); p.at++ {
		switch c := p.text[p.at]; c {
		case ' ', '\t', '\r':
		case '\n':
			p.line++
		case '#':
			end := strings.IndexByte(p.text[p.at:], '\n')
			if end < 0 {
				p.at = len(p.text)
				return false
			}
			p.at += end - 1
		default:
			return true
		}
	}
	return false
}

func (p *nginxParser) count(c byte) {
	if c == '\n' {
		p.line++
	}
}

// all returns the directives of a block, and those below them, with the block first.
func (b *block) all() []*statement {
	out := []*statement{b.statement}
	for _, inner := range b.body {
		out = append(out, inner.all()...)
	}
	return out
}

// find returns the directives of a name.
func find(blocks []*block, name string) (found []*block) {
	for _, b := range blocks {
		if b.words[0] == name {
			found = append(found, b)
		}
	}
	return found
}

// without returns the directives whose names are not among some.
func without(blocks []*block, names ...string) (rest []*block) {
	for _, b := range blocks {
		if !slices.Contains(names, b.words[0]) {
			rest = append(rest, b)
		}
	}
	return rest
}
