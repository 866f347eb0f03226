package command

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/urfave/cli/v2"

	"usher/internal/config"
)

// arrange puts flags before the other words, wherever they stood, because the library stops at the first word that is
// not a flag: "8080=9001 --scheduler lc" becomes "--scheduler=lc -- 8080=9001". Flags of a sub-command come after its
// name. Short names become long ones, as the library refuses two forms of one flag. Every flag is checked here, so that
// a mistake has one form.
func arrange(words []string, app *cli.App) ([]string, error) {
	known := app.Flags
	var given []cli.Flag
	var flags, others []string
	for len(words) > 0 {
		word := words[0]
		words = words[1:]
		if word == "--" {
			others = append(others, words...)
			break
		}
		if len(word) < 2 || word[0] != '-' {
			others = append(others, word)
			continue
		}
		name, value, hasValue := strings.Cut(strings.TrimPrefix(word[1:], "-"), "=")
		f := lookup(known, name)
		if f == nil {
			return nil, fmt.Errorf("unknown flag %s (%ssee usher --help)", strings.TrimSuffix(word, "="+value), nearFlag(name, known))
		}
		long := "--" + f.Names()[0]
		given = append(given, f)
		if _, isBool := f.(*cli.BoolFlag); isBool {
			if _, err := strconv.ParseBool(value); hasValue && err != nil {
				return nil, fmt.Errorf("%s: %q is neither true nor false", long, value)
			}
			flags = append(flags, strings.TrimSuffix(long+"="+value, "="))
			continue
		}
		if isSwitch := slices.Contains(config.Switches(), f.Names()[0]); isSwitch && !hasValue {
			flags = append(flags, long+"=true")
			continue
		}
		if !hasValue {
			if len(words) == 0 || isFlag(words[0], known) {
				return nil, fmt.Errorf("flag %s lacks its value", long)
			}
			value, words = words[0], words[1:]
		}
		flags = append(flags, long+"="+value)
	}
	if len(others) == 0 {
		return flags, nil
	}
	sub := app.Command(others[0])
	if sub == nil && slices.Contains(given, lookup(known, "help")) {
		return []string{"--help"}, nil // the library would look for help on the first word
	}
	if near := nearCommand(others[0]); sub == nil && near != "" {
		return nil, fmt.Errorf("%q is neither a command nor LISTEN=BACKEND (did you mean usher %s?)", others[0], near)
	}
	if sub == nil {
		return slices.Concat(flags, []string{"--"}, others), nil
	}
	for _, f := range given {
		if lookup(sub.Flags, f.Names()[0]) == nil {
			return nil, fmt.Errorf("usher %s has no flag --%s", sub.Name, f.Names()[0])
		}
	}
	return slices.Concat(others[:1], flags, []string{"--"}, others[1:]), nil
}

func lookup(flags []cli.Flag, name string) cli.Flag {
	i := slices.IndexFunc(flags, func(f cli.Flag) bool { return slices.Contains(f.Names(), name) })
	if i < 0 {
		return nil
	}
	return flags[i]
}

// isFlag reports whether a word is a flag that exists, and so hardly the value of the one before it.
func isFlag(word string, known []cli.Flag) bool {
	name, _, _ := strings.Cut(strings.TrimLeft(word, "-"), "=")
	return strings.HasPrefix(word, "-") && lookup(known, name) != nil
}

// nearCommand returns the command that a word without = most likely meant, or "".
func nearCommand(word string) string {
	if strings.Contains(word, "=") {
		return ""
	}
	near := config.Nearest(word, []string{"demo", "help", "version"})
	if near == "version" {
		near = "--version"
	}
	return near
}

// nearFlag returns a question for the flag that name most likely meant, or "".
func nearFlag(name string, known []cli.Flag) string {
	var names []string
	for _, f := range known {
		names = append(names, f.Names()[0])
	}
	if near := config.Nearest(name, names); near != "" {
		return fmt.Sprintf("did you mean --%s? ", near)
	}
	return ""
}
