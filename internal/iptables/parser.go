package iptables

import (
	"slices"
	"strings"

	"usher/internal/nearest"
	"usher/proxy/rules"
)

// parser reads one line, from left to right.
type parser struct {
	words []word
	next  int // index of the next word
	end   int // of the line, in bytes

	cmd                   Command
	rule                  *rules.Rule // that all rules of the command are copies of
	sources, destinations []rules.Prefix
	loaded                []*extension // matches in their order, and the target
	given                 []string     // flags of the rule itself
}

// extension is a match or a target while its flags are read.
type extension struct {
	name  string
	at    word
	flags []flag
	given []string    // names of flags
	match rules.Match // nil: a target
	check func(r *rules.Rule) *Error
}

// flag is an option of a rule or of an extension.
type flag struct {
	names    []string // the first one is that of messages
	isSwitch bool     // has no value
	isPair   bool     // has two words as its value
	canBeNot bool     // may stand behind !
	isNeeded bool
	excludes []string // flags that cannot be together with this one
	set      func(value string, not bool) *Error
}

// peek returns the next word; behind the last one it is empty.
func (p *parser) peek() word {
	if p.next < len(p.words) {
		return p.words[p.next]
	}
	return word{offset: p.end}
}

// value returns the next word as the value of an option.
func (p *parser) value(option string) (word, *Error) {
	w := p.peek()
	if p.next == len(p.words) {
		return w, errorf("option \"%s\" requires an argument", option).at(p.words[p.next-1].offset)
	}
	p.next++
	return w, nil
}

// end0 refuses words behind a command that is complete.
func (p *parser) end0() *Error {
	if w := p.peek(); p.next < len(p.words) {
		return errorf("Bad argument `%s'", w.text).at(w.offset)
	}
	return nil
}

// parseRule reads the conditions and the target of a rule, and makes the rules of the command.
func (p *parser) parseRule() *Error {
	for p.next < len(p.words) {
		if err := p.option(); err != nil {
			return err
		}
	}
	for _, x := range p.loaded {
		if err := x.finish(p.rule); err != nil {
			return err.at(x.at.offset)
		}
	}
	return p.expand()
}

// option reads one option, with ! before it and its value behind.
func (p *parser) option() *Error {
	name := p.peek()
	p.next++
	not := name.text == "!"
	if not {
		if name = p.peek(); p.next == len(p.words) {
			return errorf("nothing behind \"!\"").at(p.words[p.next-1].offset)
		}
		p.next++
	}
	if len(name.text) < 2 || name.text[0] != '-' {
		return p.badArgument(name)
	}
	text, inline, isInline := strings.Cut(name.text, "=")
	x, f, err := p.find(text)
	if err != nil {
		return err.at(name.offset)
	}
	value := word{inline, name.offset + len(text) + 1}
	switch {
	case not && !f.canBeNot:
		return f.refuseNot(x, text).at(name.offset)
	case f.isSwitch && isInline:
		return errorf("option \"%s\" doesn't allow an argument", text).at(name.offset)
	case !f.isSwitch && !isInline:
		if value, err = p.value(text); err != nil {
			return err
		}
	}
	if err := p.once(x, f, text); err != nil {
		return err.at(name.offset)
	}
	switch {
	case f.isSwitch:
		value.offset = name.offset
	case f.isPair:
		second, err := p.value(text)
		if err != nil {
			return err
		}
		value.text += " " + second.text
	}
	return f.set(value.text, not).at(value.offset)
}

func (p *parser) badArgument(w word) *Error {
	err := errorf("Bad argument `%s'", w.text).at(w.offset)
	switch {
	case w.text == "iptables" || w.text == "ip6tables":
		return err.advise("leave out the name of the program")
	case isTarget(w.text):
		return err.advise("did you mean -j %s?", w.text)
	case w.text == rules.Input:
		return err.advise("did you mean -A %s?", w.text)
	}
	return err
}

// find returns the flag of a name, and the extension that has it, which is nil for one of the rule.
func (p *parser) find(name string) (*extension, *flag, *Error) {
	own := p.flags()
	if f := findFlag(own, name); f != nil {
		return nil, f, nil
	}
	for _, x := range slices.Backward(p.loaded) {
		if f := findFlag(x.flags, name); f != nil {
			return x, f, nil
		}
	}
	for _, x := range slices.Backward(p.loaded) {
		if short, ok := multiportShort[name]; ok && x.name == "multiport" {
			return x, findFlag(x.flags, short), nil
		}
	}
	if isPortFlag(name) && !p.rule.NotProtocol && p.rule.Protocol != rules.All {
		x := p.load(protocolName(p.rule.Protocol), p.words[p.next-1])
		return x, findFlag(x.flags, name), nil
	}
	return nil, nil, p.unknown(name, own)
}

func findFlag(flags []flag, name string) *flag {
	i := slices.IndexFunc(flags, func(f flag) bool { return slices.Contains(f.names, name) })
	if i < 0 {
		return nil
	}
	return &flags[i]
}

// unknown returns the error of an option that nothing loaded has.
func (p *parser) unknown(name string, own []flag) *Error {
	err := errorf("unknown option \"%s\"", name)
	if advice, known := refusedFlags[name]; known {
		return err.advise("%s", advice)
	}
	if isPortFlag(name) {
		return err.advise("%s needs -p tcp or -p udp before it", name)
	}
	var have []string
	for _, f := range slices.Concat(own, portFlags(new(rules.Ports))) {
		have = append(have, f.names...)
	}
	for _, x := range p.loaded {
		for _, f := range x.flags {
			have = append(have, f.names...)
		}
	}
	if owner := ownerOf(name); owner != "" {
		return err.advise("it needs %s before it", owner)
	}
	if near := nearest.Word(name, have); near != "" && strings.HasPrefix(name, "--") {
		return err.advise("did you mean %s?", near)
	}
	return err
}

// once refuses a flag that is given twice, or with one that it excludes.
func (p *parser) once(x *extension, f *flag, written string) *Error {
	if x == nil {
		if f.names[0] != "-m" && slices.Contains(p.given, f.names[0]) {
			return errorf("multiple %s flags not allowed", f.names[0])
		}
		p.given = append(p.given, f.names[0])
		return nil
	}
	if slices.Contains(x.given, f.names[0]) {
		if isPortFlag(written) && x.name != "multiport" {
			return errorf("Only one `%s' allowed", f.names[0])
		}
		return errorf("%s: option \"%s\" can only be used once.", x.name, f.names[0])
	}
	for _, other := range f.excludes {
		if slices.Contains(x.given, other) {
			first, second := x.inOrder(f.names[0], other)
			return errorf("%s: option \"%s\" cannot be used together with \"%s\".", x.name, first, second)
		}
	}
	x.given = append(x.given, f.names[0])
	return nil
}

// inOrder returns two flags of an extension in the order of its table.
func (x *extension) inOrder(a, b string) (first, second string) {
	for _, f := range x.flags {
		switch f.names[0] {
		case a:
			return a, b
		case b:
			return b, a
		}
	}
	return a, b
}

// refuseNot returns the error of a flag that cannot be inverted.
func (f *flag) refuseNot(x *extension, written string) *Error {
	if x == nil {
		return errorf("cannot have ! before %s", written)
	}
	return errorf("%s: option \"%s\" cannot be inverted.", x.name, f.names[0])
}

// finish checks an extension whose flags are all read.
func (x *extension) finish(r *rules.Rule) *Error {
	for _, f := range x.flags {
		if f.isNeeded && !slices.Contains(x.given, f.names[0]) {
			return errorf("%s: option \"%s\" must be specified", x.name, f.names[0])
		}
	}
	if x.check != nil {
		if err := x.check(r); err != nil {
			return err
		}
	}
	if x.match != nil {
		r.Matches = append(r.Matches, x.match)
	}
	return nil
}

// has reports whether a flag was given.
func (x *extension) has(name string) bool { return slices.Contains(x.given, name) }
