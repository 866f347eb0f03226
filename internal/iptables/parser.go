package iptables

import (
	"cmp"
	"slices"
	"strings"

	"usher/internal/nearest"
	"usher/proxy/rules"
)

// grammar says what lines are for.
type grammar uint8

const (
	// forDoor is the front door's: rules of INPUT and its user chains, with what a proxy can judge.
	forDoor grammar = iota
	// forTables is all of iptables.
	forTables
)

// parser reads lines, one after the other, as getopt_long reads iptables' arguments: from left to right, with long options
// cut short where that is clear, and short ones joined.
type parser struct {
	grammar   grammar
	isRestore bool     // of iptables-restore, which knows no -t and no -w
	table     string   // of a line that names none; empty: filter
	resolver  Resolver // of names of hosts
	own       []flag   // options that any line may have

	words  []word
	next   int // index of the next word
	within int // of the next word: offset of its next short option, or 0
	end    int // of the line, in bytes

	cmd                   Command
	rule                  *Rule // that all rules of the command are copies of
	sources, destinations hosts
	loaded                []*extension // matches in their order, and the target
	given                 string       // letters of the options that were given
	not                   bool         // ! stands before the next option
	protocol              string       // the match of -p
	hasProtocol           bool         // that match was loaded for an option
}

// hosts are addresses that are read when the line is complete.
type hosts struct {
	word  word
	not   bool
	given bool
}

// start makes the parser ready for a line.
func (p *parser) start(words []word, end int) {
	if p.own == nil {
		p.own = p.flags()
	}
	*p = parser{grammar: p.grammar, isRestore: p.isRestore, table: p.table, resolver: p.resolver, own: p.own, words: words, end: end,
		rule: new(Rule), loaded: p.loaded[:0]}
	p.cmd = Command{Table: cmp.Or(p.table, "filter")}
}

// peek returns the next word; behind the last one it is empty.
func (p *parser) peek() word {
	if p.next < len(p.words) {
		return p.words[p.next]
	}
	return word{offset: p.end}
}

// last returns the word before the next one, which iptables' messages name.
func (p *parser) last() word {
	if p.next == 0 {
		return word{text: "iptables"}
	}
	return p.words[p.next-1]
}

// more returns the next word if it is no option.
func (p *parser) more() (word, bool) {
	w := p.peek()
	if p.next == len(p.words) || w.text != "" && (w.text[0] == '-' || w.text[0] == '!') {
		return w, false
	}
	p.next++
	return w, true
}

// value returns the next word as the value of an option.
func (p *parser) value() (word, *Error) {
	w := p.peek()
	if p.next == len(p.words) {
		return w, errorf("option \"%s\" requires an argument", p.last().text).at(p.last().offset)
	}
	p.next++
	return w, nil
}

// options reads all options of a line.
func (p *parser) options() *Error {
	for p.next < len(p.words) {
		w := p.words[p.next]
		var err *Error
		switch {
		case p.within > 0:
			err = p.shortOption(w)
		case w.text == "--":
			p.next++
			return p.unknownArguments()
		case len(w.text) < 2 || w.text[0] != '-':
			p.next++
			err = p.plainWord(w)
		case w.text[1] == '-':
			p.next++
			err = p.longOption(w)
		default:
			p.within = 1
			err = p.shortOption(w)
		}
		if err != nil {
			return err.at(w.offset)
		}
	}
	return nil
}

// unknownArguments refuses words behind --.
func (p *parser) unknownArguments() *Error {
	if p.next < len(p.words) {
		return errorf("unknown arguments found on commandline").at(p.peek().offset)
	}
	return nil
}

// plainWord reads a word that is no option: ! alone is one.
func (p *parser) plainWord(w word) *Error {
	if w.text != "!" {
		return p.badArgument(w)
	}
	if p.not {
		return errorf("multiple consecutive ! not allowed")
	}
	p.not = true
	return nil
}

func (p *parser) longOption(w word) *Error {
	name, inline, isInline := strings.Cut(w.text, "=")
	x, f := p.findLong(name)
	if f == nil && p.takeOther(w) {
		return nil
	}
	if f == nil || isInline && f.takes == nothing {
		return p.again(w, func() { p.next-- })
	}
	value := word{inline, w.offset + len(name) + 1}
	if !isInline && f.takes != nothing && f.takes != perhaps {
		var err *Error
		if value, err = p.value(); err != nil {
			return err
		}
	}
	return p.apply(x, f, w, value, isInline)
}

// shortOption reads the next letter of a word.
func (p *parser) shortOption(w word) *Error {
	name := "-" + w.text[p.within:p.within+1]
	at := p.within
	p.within++
	rest := w.text[p.within:]
	f := findFlag(p.own, name)
	if f == nil || f.takes != nothing || rest == "" {
		if f != nil || rest == "" {
			p.within = 0
			p.next++
		}
	}
	if f == nil {
		return p.again(w, func() {
			if p.within == 0 {
				p.next--
			}
			p.within = at
		})
	}
	value, isInline := word{rest, w.offset + at + 1}, rest != ""
	if rest == "" && f.takes != nothing && f.takes != perhaps {
		var err *Error
		if value, err = p.value(); err != nil {
			return err
		}
	}
	return p.apply(nil, f, word{name, w.offset}, value, isInline)
}

// apply takes an option with its value, which is empty if has is false and it has none of its own.
func (p *parser) apply(x *extension, f *flag, name, value word, has bool) *Error {
	not := p.not
	p.not = false
	if f.isOfTables && p.grammar == forDoor {
		return errorf("unknown option \"%s\"", name.text).advise("%s", refusedFlags[f.names[0]]).at(name.offset)
	}
	if f.takes == whole && p.grammar == forTables {
		value = p.last()
	}
	if f.takes == nothing || f.takes == perhaps && !has {
		value.offset = name.offset
	}
	if err := p.once(x, f, not); err != nil {
		return err.at(name.offset)
	}
	if f.isPair {
		second, err := p.value()
		if err != nil {
			return err
		}
		value.text += " " + second.text
	}
	return f.set(value.text, not).at(value.offset)
}

// again reads an option anew after the match of the protocol was loaded for it, or refuses it.
func (p *parser) again(w word, back func()) *Error {
	if p.protocol != "" && !p.hasProtocol {
		p.hasProtocol = true
		if p.grammar == forTables || !p.rule.NotProtocol {
			back()
			p.load(p.protocol, w)
			return nil
		}
	}
	return p.unknown(p.last().text).at(w.offset)
}

// takeOther gives an option to a match or target whose words nothing here understands.
func (p *parser) takeOther(w word) bool {
	for _, x := range slices.Backward(p.loaded) {
		if x.other == nil {
			continue
		}
		if p.not {
			x.other.Text += " !"
			p.not = false
		}
		x.other.Text += " " + w.text
		for {
			value, ok := p.more()
			if !ok {
				return true
			}
			x.other.Text += " " + quoteOther(value.text)
		}
	}
	return false
}

func (p *parser) badArgument(w word) *Error {
	err := errorf("Bad argument `%s'", w.text).at(w.offset)
	err.isBare = true
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

// findLong returns the flag of a name, which may be cut short, and the extension that has it; nil is one of the line.
func (p *parser) findLong(name string) (*extension, *flag) {
	if f := findFlag(p.own, name); f != nil {
		return nil, f
	}
	for _, x := range slices.Backward(p.loaded) {
		if f := findFlag(x.flags, name); f != nil {
			return x, f
		}
	}
	var of *extension
	var found *flag
	isClear := true
	search := func(x *extension, flags []flag) {
		for i := range flags {
			if flags[i].begins(name) {
				isClear = isClear && found == nil
				of, found = x, &flags[i]
			}
		}
	}
	search(nil, p.own)
	for _, x := range p.loaded {
		search(x, x.flags)
	}
	if !isClear {
		return nil, nil
	}
	return of, found
}

// unknown returns the error of an option that nothing loaded has.
func (p *parser) unknown(name string) *Error {
	err := errorf("unknown option \"%s\"", name)
	name, _, hasValue := strings.Cut(name, "=")
	if _, f := p.findLong(name); f != nil && hasValue {
		return err.advise("%s has no value", name)
	}
	if advice, known := refusedFlags[name]; known {
		err.IsRefusal = true
		return err.advise("%s", advice)
	}
	if isPortFlag(name) {
		return err.advise("%s needs -p tcp or -p udp before it", name)
	}
	if owner := p.ownerOf(name); owner != "" {
		return err.advise("it needs %s before it", owner)
	}
	var have []string
	for _, f := range slices.Concat(p.own, portFlags(new(rules.Ports))) {
		have = append(have, f.names...)
	}
	for _, x := range p.loaded {
		for _, f := range x.flags {
			have = append(have, f.names...)
		}
	}
	if near := nearest.Word(name, have); near != "" && strings.HasPrefix(name, "--") {
		return err.advise("did you mean %s?", near)
	}
	return err
}

// once refuses an option that is given twice, or with one that it excludes, or that cannot stand behind !.
func (p *parser) once(x *extension, f *flag, not bool) *Error {
	switch {
	case x != nil:
		return x.once(f, not)
	case f.letter == 0:
		return nil
	case strings.IndexByte(p.given, f.letter) >= 0 && f.letter != 'v':
		return errorf("multiple -%c flags not allowed", f.letter)
	case not && !f.canBeNot:
		return errorf("cannot have ! before -%c", f.letter)
	}
	p.given += string(rune(f.letter))
	return nil
}
