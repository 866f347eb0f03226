package iptables

import (
	"slices"
	"strings"
)

// extension is a match or a target while its flags are read.
type extension struct {
	name    string
	at      word
	flags   []flag
	given   []string // names of flags
	match   Match    // nil: a target
	options any      // of a target
	check   func(r *Rule) *Error
	other   *Other // takes options that nobody knows
}

// takes is what stands behind an option.
type takes uint8

const (
	aValue  takes = iota
	nothing       // a switch
	perhaps       // a value in the same word, or none
	whole         // a value; iptables looks at the whole word that it ends
)

// flag is an option of a line or of an extension.
type flag struct {
	names      []string // the first one is that of messages
	takes      takes
	isOfTables bool // the front door does not have it
	isPair     bool // has two words as its value
	canBeNot   bool // may stand behind !
	isNeeded   bool
	letter     byte     // of an option of the line that can be given once
	excludes   []string // flags that cannot be together with this one
	set        func(value string, not bool) *Error
}

// begins reports whether a long name of the flag begins with a word.
func (f *flag) begins(word string) bool {
	return len(word) > 2 && slices.ContainsFunc(f.names, func(n string) bool {
		return strings.HasPrefix(n, "--") && strings.HasPrefix(n, word)
	})
}

func findFlag(flags []flag, name string) *flag {
	i := slices.IndexFunc(flags, func(f flag) bool { return slices.Contains(f.names, name) })
	if i < 0 {
		return nil
	}
	return &flags[i]
}

func (x *extension) once(f *flag, not bool) *Error {
	if not && !f.canBeNot {
		return errorf("%s: option \"%s\" cannot be inverted.", x.name, f.names[0]).withBlank()
	}
	if slices.Contains(x.given, f.names[0]) {
		if isPortFlag(f.names[0]) && x.name != "multiport" {
			return errorf("Only one `%s' allowed", f.names[0])
		}
		return errorf("%s: option \"%s\" can only be used once.", x.name, f.names[0]).withBlank()
	}
	for _, other := range f.excludes {
		if slices.Contains(x.given, other) {
			first, second := x.inOrder(f.names[0], other)
			return errorf("%s: option \"%s\" cannot be used together with \"%s\".", x.name, first, second).withBlank()
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

// finish checks an extension whose flags are all read, and puts it into a rule.
func (x *extension) finish(r *Rule) *Error {
	for _, f := range x.flags {
		if f.isNeeded && !slices.Contains(x.given, f.names[0]) {
			return errorf("%s: option \"%s\" must be specified", x.name, f.names[0]).withBlank()
		}
	}
	if x.check != nil {
		if err := x.check(r); err != nil {
			return err
		}
	}
	if x.match != nil {
		r.Matches = append(r.Matches, x.match)
	} else {
		r.Options = x.options
	}
	return nil
}

// has reports whether a flag was given.
func (x *extension) has(name string) bool { return slices.Contains(x.given, name) }
