package configfile

import (
	"errors"
	"slices"
	"strings"
	"unicode/utf8"

	"usher/internal/config"
	"usher/internal/iptables"
)

// ruleWords are the rules and the policy of a text, with their places in the file.
type ruleWords struct {
	policy   string
	policyAt position
	lines    []string
	places   []position
}

// decodeRules reads the words of rules or of the policy. What they mean is read once all are there.
func (f *File) decodeRules(d decoder, e entry) *Error {
	if e.key == keyPolicy {
		word, err := d.word(e.value, e)
		f.words.policy, f.words.policyAt = word, d.place(e.value.at)
		if err == nil && word == "" {
			return d.errorf(e.at, "%s has no value", e.key)
		}
		return err
	}
	if e.value.kind == null {
		return d.errorf(e.at, "%s has no value", e.key)
	}
	for _, item := range items(e.value) {
		if err := d.want(item, scalar, "a rule"); err != nil {
			return err
		}
		f.words.lines = append(f.words.lines, item.text)
		f.words.places = append(f.words.places, d.place(item.at))
	}
	return nil
}

// place returns a place of a part of a file as one of the file.
func (s source) place(at position) position { return position{s.above + at.line, at.column} }

// parseRules makes the rules of their words. Those that are as in the previous load are the ones of it.
func (f *File) parseRules(previous *File) *Error {
	w := &f.words
	if previous != nil && w.policy == previous.words.policy && slices.Equal(w.lines, previous.words.lines) {
		f.Rules = previous.Rules
		return nil
	}
	var err error
	if f.Rules, err = config.ParseRules(w.policy, w.lines); err == nil {
		return nil
	}
	e, ok := errors.AsType[*iptables.Error](err)
	if !ok {
		return f.value(w.policyAt, err)
	}
	return f.value(f.within(w.places[e.Line], w.lines[e.Line], e.Offset), err)
}

// within returns the place of a byte of a word that begins at a place. It is the place of the word if that is written
// with escapes, or in several lines.
func (s source) within(at position, word string, offset int) position {
	line := []rune(s.line(at.line))
	begin := at.column - 1
	if begin >= len(line) {
		return at
	}
	if line[begin] == '"' || line[begin] == '\'' {
		begin++
	}
	if before := word[:min(offset, len(word))]; strings.HasPrefix(string(line[begin:]), before) {
		return position{at.line, begin + 1 + utf8.RuneCountInString(before)}
	}
	return at
}
