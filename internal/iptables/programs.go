package iptables

import (
	"fmt"
	"strings"
)

// SaveCommand is what the arguments of iptables-save ask for.
type SaveCommand struct {
	SaveOptions
	File         string // to write to; empty: the standard output
	PrintVersion bool
}

// RestoreCommand is what the arguments of iptables-restore ask for.
type RestoreCommand struct {
	RestoreOptions
	File         string // to read from; empty: the standard input
	PrintVersion bool
	PrintHelp    bool
	// Strict is --strict, which is usher's own: a line that usher cannot do refuses all.
	Strict bool
}

// RestoreHelp is what iptables-restore -h prints, to the standard error.
const RestoreHelp = `Usage: iptables-restore [-c] [-v] [-V] [-t] [-h] [-n] [-T table] [-M command] [--strict] [file]
	   [ --counters ]
	   [ --verbose ]
	   [ --version]
	   [ --test ]
	   [ --help ]
	   [ --noflush ]
	   [ --table=<TABLE> ]
	   [ --modprobe=<command> ]
	   [ --strict ]  refuses all where usher cannot do a line, in place of leaving it out
`

// ArgsError is a mistake in the arguments of iptables-save or iptables-restore, which end with status 1.
type ArgsError struct{ Text string } // that the program writes to its standard error

func (e *ArgsError) Error() string { return strings.TrimSuffix(e.Text, "\n") }

// longOption is an option of a program that getopt_long reads. One without a letter is long alone.
type longOption struct {
	letter   byte
	name     string
	hasValue bool
}

// ParseSaveArgs reads the arguments of iptables-save. The error is an *ArgsError.
func ParseSaveArgs(args []string) (*SaveCommand, error) {
	c := &SaveCommand{}
	options := []longOption{
		{'c', "counters", false}, {'V', "version", false}, {'t', "table", true}, {'f', "file", true}, {'M', "modprobe", true},
	}
	rest, err := readOptions("iptables-save", args, options, func(letter byte, value string) {
		switch letter {
		case 'c':
			c.Counted = true
		case 'V':
			c.PrintVersion = true
		case 't':
			c.Table = value
		case 'f':
			c.File = value
		}
	})
	switch {
	case err != nil:
		err.Text += "Look at manual page `iptables-save.8' for more information.\n"
	case c.PrintVersion:
	case len(rest) > 0:
		err = &ArgsError{"Unknown arguments found on commandline\n"}
	case c.Table != "" && builtinTable(c.Table) < 0:
		err = &ArgsError{fmt.Sprintf("Table `%s' does not exist\n", c.Table)}
	}
	if err != nil {
		return nil, err
	}
	return c, nil
}

// ParseRestoreArgs reads the arguments of iptables-restore. The error is an *ArgsError.
func ParseRestoreArgs(args []string) (*RestoreCommand, error) {
	c := &RestoreCommand{}
	options := []longOption{
		{'c', "counters", false}, {'v', "verbose", false}, {'V', "version", false}, {'t', "test", false}, {'n', "noflush", false},
		{'M', "modprobe", true}, {'T', "table", true}, {'w', "wait", false}, {'W', "wait-interval", false},
		{'h', "help", false}, {0, "strict", false},
	}
	rest, err := readOptions("iptables-restore", args, options, func(letter byte, value string) {
		switch letter {
		case 'c':
			c.Counted = true
		case 'v':
			c.Verbose = true
		case 'V':
			c.PrintVersion = true
		case 'h':
			c.PrintHelp = true
		case 0:
			c.Strict = true
		case 't':
			c.Test = true
		case 'n':
			c.KeepAll = true
		case 'T':
			c.Table = value
		}
	})
	switch {
	case err != nil:
		err.Text += "Try `iptables-restore -h' for more information.\n"
	case len(rest) > 1 && !c.PrintVersion && !c.PrintHelp:
		err = &ArgsError{"Unknown arguments found on commandline\n"}
	case len(rest) == 1:
		c.File = rest[0]
	}
	if err != nil {
		return nil, err
	}
	return c, nil
}

// readOptions reads arguments as getopt_long does, with plain words in any place. -w takes the word behind it.
func readOptions(program string, args []string, options []longOption, set func(letter byte, value string)) (rest []string, _ *ArgsError) {
	for i := 0; i < len(args); i++ {
		arg := args[i]
		var err *ArgsError
		used := 0
		switch {
		case arg == "--":
			return append(rest, args[i+1:]...), nil
		case strings.HasPrefix(arg, "--"):
			used, err = readLong(program, arg[2:], args[i+1:], options, set)
		case len(arg) > 1 && arg[0] == '-':
			used, err = readShort(program, arg[1:], args[i+1:], options, set)
		default:
			rest = append(rest, arg)
		}
		if err != nil {
			return nil, err
		}
		i += used
	}
	return rest, nil
}

// readLong reads a long option, and returns how many of the words behind it were its value.
func readLong(program, arg string, behind []string, options []longOption, set func(byte, string)) (int, *ArgsError) {
	name, value, isInline := strings.Cut(arg, "=")
	var found []longOption
	for _, o := range options {
		if o.name == name {
			found = []longOption{o}
			break
		}
		if strings.HasPrefix(o.name, name) {
			found = append(found, o)
		}
	}
	switch {
	case len(found) == 0:
		return 0, &ArgsError{fmt.Sprintf("%s: unrecognized option '--%s'\n", program, name)}
	case len(found) > 1:
		possible := ""
		for _, o := range found {
			possible += " '--" + o.name + "'"
		}
		return 0, &ArgsError{fmt.Sprintf("%s: option '--%s' is ambiguous; possibilities:%s\n", program, name, possible)}
	}
	o := found[0]
	switch {
	case isInline && !o.hasValue && o.letter != 'w' && o.letter != 'W':
		return 0, &ArgsError{fmt.Sprintf("%s: option '--%s' doesn't allow an argument\n", program, o.name)}
	case o.hasValue && !isInline && len(behind) == 0:
		return 0, &ArgsError{fmt.Sprintf("%s: option '--%s' requires an argument\n", program, o.name)}
	case o.hasValue && !isInline:
		set(o.letter, behind[0])
		return 1, nil
	}
	set(o.letter, value)
	return waits(o.letter, isInline, behind), nil
}

// waits returns whether the word behind -w or -W is its value.
func waits(letter byte, hasValue bool, behind []string) int {
	if (letter == 'w' || letter == 'W') && !hasValue && len(behind) > 0 && !strings.HasPrefix(behind[0], "-") && !strings.HasPrefix(behind[0], "!") {
		return 1
	}
	return 0
}

// readShort reads short options that are joined in one word.
func readShort(program, letters string, behind []string, options []longOption, set func(byte, string)) (int, *ArgsError) {
	for i := range len(letters) {
		var o *longOption
		for j := range options {
			if options[j].letter == letters[i] {
				o = &options[j]
			}
		}
		switch rest := letters[i+1:]; {
		case o == nil:
			return 0, &ArgsError{fmt.Sprintf("%s: invalid option -- '%c'\n", program, letters[i])}
		case o.hasValue && rest != "":
			set(o.letter, rest)
			return 0, nil
		case o.hasValue && len(behind) == 0:
			return 0, &ArgsError{fmt.Sprintf("%s: option requires an argument -- '%c'\n", program, letters[i])}
		case o.hasValue:
			set(o.letter, behind[0])
			return 1, nil
		default:
			set(o.letter, "")
			if rest == "" {
				return waits(o.letter, false, behind), nil
			}
		}
	}
	return 0, nil
}
