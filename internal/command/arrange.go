package command

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/urfave/cli/v2"
)

// line is a command line whose flags are known and checked.
type line struct {
	path    []string // the names that lead to the command; empty: the root command
	command *cli.Command
	options []option
	words   []string
	help    bool // --help is among the flags
}

// option is a flag of a line.
type option struct {
	flag  cli.Flag
	value string
}

// arrange finds the command of a command line, checks its flags and sorts its words. Flags may stand anywhere, also
// before the name of their command. Every flag is checked here, so that a mistake has one form.
func arrange(words []string, root *cli.Command) (*line, error) {
	l := &line{command: root}
	l.find(words, allFlagsOf(root))
	known := append(slices.Clone(l.command.Flags), helpFlag)
	for len(words) > 0 {
		word := words[0]
		words = words[1:]
		if word == "--" {
			l.words = append(l.words, words...)
			break
		}
		if !isDashed(word) || l.isRule(word) {
			l.words = append(l.words, word)
			continue
		}
		name, value, hasValue := cutFlag(word)
		f := lookup(known, name)
		if f == nil {
			return nil, l.noFlag(strings.TrimSuffix(word, "="+value), name, root, known)
		}
		long := f.Names()[0]
		if _, isBool := f.(*cli.BoolFlag); isBool {
			if err := checkSwitch(long, value, hasValue, words); err != nil {
				return nil, err
			}
			l.help = l.help || f == helpFlag
			if !hasValue {
				value = "true"
			}
			l.options = append(l.options, option{f, value})
			continue
		}
		if implied, ok := impliedValue(long); ok && !hasValue {
			value, hasValue = implied, true
		}
		if !hasValue {
			if len(words) == 0 || isFlag(words[0], known) {
				return nil, fmt.Errorf("flag --%s lacks its value", long)
			}
			value, words = words[0], words[1:]
		}
		l.options = append(l.options, option{f, value})
	}
	l.words = l.words[len(l.path):]
	return l, nil
}

// find descends to the command that the words name. all are the flags of every command, so that a flag's value is not
// taken for a name.
func (l *line) find(words []string, all []cli.Flag) {
	for i := 0; i < len(words) && words[i] != "--"; i++ {
		if isDashed(words[i]) {
			name, _, hasValue := cutFlag(words[i])
			if takesWord(lookup(all, name)) && !hasValue {
				i++
			}
			continue
		}
		sub := l.command.Command(words[i])
		if sub == nil {
			return
		}
		l.path, l.command = append(l.path, sub.Name), sub
	}
}

// isRule reports whether a word is a rule, which begins with a dash, has blanks, and is for a command that takes rules.
func (l *line) isRule(word string) bool {
	name, _, _ := cutFlag(word)
	return l.takesRules() && strings.ContainsAny(name, " \t")
}

func (l *line) takesRules() bool { return strings.Contains(l.command.ArgsUsage, "RULE") }

// noFlag is the error of a flag that the command does not have.
func (l *line) noFlag(word, name string, root *cli.Command, known []cli.Flag) error {
	if l.takesRules() {
		return fmt.Errorf("unknown flag %s (each rule is one word: put it in quotes, as in usher %s '-s 10.0.0.0/8 -j DROP')",
			word, strings.Join(l.path, " "))
	}
	if other := lookup(allFlagsOf(root), name); other != nil && len(l.path) > 0 {
		return fmt.Errorf("usher %s has no flag --%s", strings.Join(l.path, " "), other.Names()[0])
	}
	return unknownFlag(word, name, strings.Join(append(l.path, "--help"), " "), known)
}

// isDashed reports whether a word has the form of a flag; a lone dash has not.
func isDashed(word string) bool { return len(word) > 1 && word[0] == '-' }

// cutFlag splits -NAME, --NAME and those with =VALUE.
func cutFlag(word string) (name, value string, hasValue bool) {
	return strings.Cut(strings.TrimPrefix(word[1:], "-"), "=")
}

// takesWord reports whether the value of a flag may be the word behind it.
func takesWord(f cli.Flag) bool {
	if f == nil {
		return false
	}
	_, isBool := f.(*cli.BoolFlag)
	_, implied := impliedValue(f.Names()[0])
	return !isBool && !implied
}

func lookup(flags []cli.Flag, name string) cli.Flag {
	i := slices.IndexFunc(flags, func(f cli.Flag) bool { return slices.Contains(f.Names(), name) })
	if i < 0 {
		return nil
	}
	return flags[i]
}

// isFlag reports whether a word is a known flag, and so hardly the value of the one before it.
func isFlag(word string, known []cli.Flag) bool {
	name, _, _ := strings.Cut(strings.TrimLeft(word, "-"), "=")
	return strings.HasPrefix(word, "-") && lookup(known, name) != nil
}

func isBool(word string) bool {
	_, err := strconv.ParseBool(word)
	return err == nil
}

// checkWords checks the number of a command's words against its form, in which [WORD] may be left out and [WORD...] may
// come again.
func checkWords(path []string, form string, words []string) error {
	forms := strings.Fields(form)
	name := strings.Join(path, " ")
	for i, f := range forms {
		switch {
		case i < len(words) && words[i] == "":
			return fmt.Errorf("%s: %s is empty: usher %s %s", name, strings.Trim(f, "[]."), name, form)
		case i >= len(words) && f[0] != '[':
			return fmt.Errorf("%s lacks %s: usher %s %s", name, strings.TrimSuffix(f, "..."), name, form)
		}
	}
	switch {
	case len(words) <= len(forms) || strings.HasSuffix(form, "...]") && forms[len(forms)-1][0] == '[':
		return nil
	case len(forms) == 0:
		return fmt.Errorf("%s takes no words, not %q", name, words[0])
	}
	return fmt.Errorf("%s does not take %q: usher %s %s", name, words[len(forms)], name, form)
}
