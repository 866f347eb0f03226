package ipvsadm

import "strings"

// words splits a command line into options and other words, as libpopt does: short options combine, a value follows in
// the same word or in the next, and options go on after other words, up to --.
type words struct {
	args    []string
	next    int
	cluster string // what is left of a word of short options
	rest    []string
	isOver  bool // -- was there
}

// given is an option of a command line.
type given struct {
	option   option
	value    string
	hasValue bool
}

// The mistakes that libpopt finds, in its words.
const (
	noArgument       = "missing argument"
	unwantedArgument = "option does not take an argument"
	unknownOption    = "unknown option"
)

// option returns the next option. The second result is false at the end, the third is a mistake.
func (w *words) option() (given, bool, string) {
	if w.cluster == "" {
		g, ok, mistake := w.word()
		if w.cluster == "" {
			return g, ok, mistake
		}
	}
	return w.short()
}

// word reads words up to one that begins with a dash. It returns a long option, or leaves a cluster of short ones.
func (w *words) word() (given, bool, string) {
	for w.next < len(w.args) {
		word := w.args[w.next]
		w.next++
		switch {
		case w.isOver || len(word) < 2 || word[0] != '-':
			w.rest = append(w.rest, word)
		case word == "--":
			w.isOver = true
		case word[1] == '-':
			return w.long(word[2:])
		default:
			w.cluster = word[1:]
			return given{}, false, ""
		}
	}
	return given{}, false, ""
}

func (w *words) long(word string) (given, bool, string) {
	name, value, hasValue := strings.Cut(word, "=")
	o, ok := longOption(name)
	switch {
	case !ok:
		return given{}, false, unknownOption
	case o.argument() == takesNone && hasValue:
		return given{}, false, unwantedArgument
	case o.argument() == takesNone || hasValue:
		return given{option: o, value: value, hasValue: hasValue}, true, ""
	}
	return w.value(o)
}

// short takes an option off the cluster. An equals sign before its value does not count.
func (w *words) short() (given, bool, string) {
	o, ok := shortOption(w.cluster[0])
	if !ok {
		return given{}, false, unknownOption
	}
	w.cluster = w.cluster[1:]
	value, hasEquals := strings.CutPrefix(w.cluster, "=")
	switch {
	case o.argument() == takesNone && hasEquals:
		return given{}, false, unwantedArgument
	case o.argument() == takesNone:
		return given{option: o}, true, ""
	case w.cluster != "":
		w.cluster = ""
		return given{option: o, value: value, hasValue: true}, true, ""
	}
	return w.value(o)
}

// value reads the value of an option from the next word. One that may be left out does not begin with a dash.
func (w *words) value(o option) (given, bool, string) {
	isLeftOut := w.next == len(w.args)
	if o.argument() == takesOptional && !isLeftOut {
		isLeftOut = len(w.args[w.next]) > 0 && w.args[w.next][0] == '-'
	}
	switch {
	case !isLeftOut:
		w.next++
		return given{option: o, value: w.args[w.next-1], hasValue: true}, true, ""
	case o.argument() == takesOptional:
		return given{option: o}, true, ""
	}
	return given{}, false, noArgument
}

// last returns the word that was read last, which messages name.
func (w *words) last() string { return w.args[w.next-1] }
