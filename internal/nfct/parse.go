package nfct

import (
	"fmt"
	"slices"
	"strings"
)

// Exit statuses.
const (
	OK         = 0
	Failed     = 1
	UsageError = 2
)

// Error is what conntrack says about its words.
type Error struct {
	Status int
	Text   string
}

func (e *Error) Error() string { return e.Text }

func wrong(format string, args ...any) error {
	return &Error{UsageError, fmt.Sprintf(format, args...)}
}

// Tables that conntrack knows.
const (
	Conntrack   = "conntrack"
	Expect      = "expect"
	Dying       = "dying"
	Unconfirmed = "unconfirmed"
)

// Request is a command line.
type Request struct {
	Command Command
	Table   string
	Filter
	Output
	Mask  [Destroy + 1]bool // of events
	Notes []string          // for stderr

	HasBuffer bool // -b was given
}

// Output says how flows are printed.
type Output struct {
	Extended, ID, XML, Save, Timestamp, JSON bool
}

// Wants reports whether events of a kind are meant.
func (r *Request) Wants(e Event) bool { return r.Mask == [Destroy + 1]bool{} || r.Mask[e] }

type parser struct {
	Request
	words    []string // that are left
	given    map[*option]bool
	hasPorts bool // a protocol with ports was named
	isTCP    bool
	is4, is6 bool // the family of the addresses
	masks    [2]string
	lengths  []string // names of the masks that came as the length of a prefix

	hasStatus bool
}

// Parse reads the words behind the program's name. The error is an *Error.
func Parse(args []string) (*Request, error) {
	p := &parser{words: args, given: make(map[*option]bool), Request: Request{Table: Conntrack}}
	for len(p.words) > 0 {
		word := p.words[0]
		p.words = p.words[1:]
		if word == "--" {
			break
		}
		var err error
		switch {
		case strings.HasPrefix(word, "--"):
			err = p.long(word[2:])
		case len(word) > 1 && word[0] == '-':
			err = p.short(word[1:])
		}
		if err != nil {
			return nil, err
		}
	}
	if err := p.check(); err != nil {
		return nil, err
	}
	return &p.Request, nil
}

func (p *parser) long(word string) error {
	name, value, hasValue := strings.Cut(word, "=")
	o := p.lookup(name, true)
	if o == nil || hasValue && o.argument == without {
		return wrong("unknown option `--%s'", word)
	}
	return p.option(o, "--"+word, value, hasValue)
}

// short takes options of one letter, several in a word if only the last one has a value.
func (p *parser) short(word string) error {
	for i := range len(word) {
		o := p.lookup(word[i:i+1], false)
		if o == nil {
			return wrong("unknown option `-%s'", word[i:i+1])
		}
		rest := word[i+1:]
		if o.argument == without {
			rest = ""
		}
		if err := p.option(o, "-"+word[i:i+1], rest, rest != ""); err != nil {
			return err
		}
		if o.argument != without {
			break
		}
	}
	return nil
}

// option takes an option, and its value from the next word if it has none yet.
func (p *parser) option(o *option, word, value string, hasValue bool) error {
	isNext := o.argument == required || o.argument == optional && o.command == None && len(p.words) > 0 && !strings.HasPrefix(p.words[0], "-")
	if !hasValue && isNext {
		if len(p.words) == 0 {
			return wrong("option `%s' requires an argument", word)
		}
		value, p.words = p.words[0], p.words[1:]
	}
	p.given[o] = true
	switch {
	case o.command != None:
		return p.setCommand(o.command)
	case o.set != nil:
		return o.set(p, value, o)
	}
	return nil
}

// setCommand takes a command, and the table that the next word names.
func (p *parser) setCommand(c Command) error {
	if p.Command != None {
		return wrong("Invalid commands combination")
	}
	p.Command = c
	if c == Load || len(p.words) == 0 || strings.HasPrefix(p.words[0], "-") {
		return nil
	}
	switch t := p.words[0]; t {
	case Conntrack, Expect, Dying, Unconfirmed:
		p.Table = t
		return nil
	default:
		return wrong("unknown type `%s'", t)
	}
}

// check finds what does not go together.
func (p *parser) check() error {
	switch p.Command {
	case None, Version, Help:
		return p.checkOptions("h")
	case Create, Change, Load, Add:
		return &Error{Failed, "Operation failed: " + noMaking}
	}
	if p.Table == Dying || p.Table == Unconfirmed {
		if p.Command != List {
			return wrong("Can't do that command with tables `dying' and `unconfirmed'")
		}
	}
	if err := p.checkOptions(letters[p.Command : p.Command+1]); err != nil {
		return err
	}
	if p.Table == Expect && p.Command == Get || p.Table == Expect && p.Command == Delete {
		return &Error{Failed, "Operation failed: usher expects no connections"}
	}
	for o := range p.options {
		if p.given[o] && o.refused != "" {
			return &Error{Failed, fmt.Sprintf("Operation failed: --%s: %s", o.name(), o.refused)}
		}
	}
	if p.Save && p.Output != (Output{Save: true}) {
		return &Error{Failed, "cannot combine save output with any other output type, use -o save only"}
	}
	if p.JSON && p.XML {
		return &Error{Failed, "Operation failed: --output: json and xml are two forms, say one of them"}
	}
	return p.checkFilter()
}

// checkOptions refuses options that a command does not take, in the order in which conntrack looks.
func (p *parser) checkOptions(letter string) error {
	for i := range plainOptions {
		o := &plainOptions[i]
		has, isGiven := strings.Contains(o.of, letter), p.given[o] || slices.Contains(p.lengths, o.name())
		if p.Table == Expect {
			has = o.short == 'f' && p.Command == List || o.short == 'o' && (p.Command == List || p.Command == Events) ||
				p.Command == Get || p.Command == Delete
		}
		switch {
		case !p.given[o] && p.Command == Get && o.short == 'p' && p.Table == Conntrack:
			return wrong("You need to supply the `--%s' option for this command", o.name())
		case isGiven && !has:
			return wrong("Illegal option `--%s' with this command", o.name())
		}
	}
	return nil
}

func (p *parser) checkFilter() error {
	if p.Command == List && p.hasStatus && !p.Assured && !p.Replied && !p.Unseen && !p.IsNone {
		return &Error{Failed, "Operation failed: invalid parameters"}
	}
	for i, name := range []string{"src", "dst"} {
		if p.masks[i] == "" {
			continue
		}
		if err := p.applyMask(i, name); err != nil {
			return err
		}
	}
	if p.NAT[anyNAT] && (p.NAT[sourceNAT] || p.NAT[destinationNAT]) {
		return wrong("cannot specify `--src-nat' or `--dst-nat' with `--any-nat'")
	}
	if p.Command != Get {
		return nil
	}
	switch {
	case p.Source.IsValid() != p.Destination.IsValid() || !p.Source.IsValid() && !p.ReplySource.IsValid():
		return wrong("you have to specify `--src' and `--dst'")
	case !p.hasPort[0] || !p.hasPort[1]:
		return wrong("you have to specify `--sport' and `--dport'")
	}
	return nil
}
