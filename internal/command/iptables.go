package command

import (
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"usher/internal/api"
	"usher/internal/iptables"
)

// statusNoKernel is that of iptables where it cannot ask the kernel.
const statusNoKernel = 4

// runIPTables does what iptables does with these words. Mistakes in them need no running usher.
func runIPTables(c *dialectCall) int {
	cmd, err := iptables.ParseArgs(c.words, resolveHost)
	if err != nil {
		return c.failTables(err, 0)
	}
	if !cmd.IsReading() {
		return c.changeTables(api.TableChange{Args: c.words})
	}
	tables := iptables.NewTables()
	if cmd.Op&(iptables.PrintVersion|iptables.PrintHelp) == 0 {
		if tables, err = c.tables(); err != nil {
			return c.failTables(err, 0)
		}
	}
	out, err := cmd.Do(tables, iptables.Options{Names: tableNames()})
	_, _ = c.stdout.WriteString(out)
	if err != nil {
		return c.failTables(err, 0)
	}
	return ok
}

// runIPTablesSave does what iptables-save does.
func runIPTablesSave(c *dialectCall) int {
	var o iptables.SaveOptions
	options := saveOptions(&o.Counted, &o.Table)
	if status, isDone := c.options(options); isDone {
		return status
	}
	if len(c.words) > 0 {
		fmt.Fprintln(c.stderr, "Unknown arguments found on commandline")
		return failed
	}
	tables, err := c.tables()
	if err != nil {
		return c.failTables(err, 0)
	}
	if o.Table != "" && tables.Table(o.Table) == nil {
		fmt.Fprintf(c.stderr, "%s %s: table '%s' does not exist\n", c.dialect.name, iptables.Version, o.Table)
		return failed
	}
	o.Now = time.Now().Format(time.ANSIC)
	if err := iptables.Save(c.stdout, tables, o); err != nil {
		return c.fail(failed, err)
	}
	return ok
}

// runIPTablesRestore does what iptables-restore does. With --strict, which is usher's own, a line that usher cannot do
// refuses all.
func runIPTablesRestore(c *dialectCall) int {
	change := api.TableChange{Restore: true}
	options := append(saveOptions(&change.Counters, &change.Table),
		dialectOption{names: "-n --noflush", flag: &change.NoFlush}, dialectOption{names: "-t --test", flag: &change.Test},
		dialectOption{names: "-v --verbose", flag: &change.Verbose}, dialectOption{names: "--strict", flag: &change.Strict})
	options[1].names = "-T --table"
	if status, isDone := c.options(options); isDone {
		return status
	}
	in := c.stdin
	switch len(c.words) {
	case 0:
	case 1:
		f, err := os.Open(c.words[0])
		if err != nil {
			return c.fail(failed, err)
		}
		defer f.Close()
		in = f
	default:
		fmt.Fprintln(c.stderr, "Unknown arguments found on commandline")
		return failed
	}
	text, err := io.ReadAll(in)
	if err != nil {
		return c.fail(failed, err)
	}
	change.Text = string(text)
	return c.changeTables(change)
}

// dialectOption is an option of a program: a flag, or one with a value.
type dialectOption struct {
	names string // with blanks between them
	flag  *bool
	value *string // empty if it may be left out
}

// saveOptions are those that iptables-save and iptables-restore share. Nobody else holds the tables, and nothing is loaded.
func saveOptions(counted *bool, table *string) []dialectOption {
	return []dialectOption{
		{names: "-c --counters", flag: counted}, {names: "-t --table", value: table},
		{names: "-M --modprobe", value: new(string)}, {names: "-w --wait"}, {names: "-W --wait-interval"},
		{names: "-4 --ipv4"}, {names: "-V --version"}, {names: "-h --help"},
	}
}

// options reads the options in front of the words, and leaves those. isDone: the program has printed what it was asked for.
func (c *dialectCall) options(all []dialectOption) (status int, isDone bool) {
	var rest []string
	for len(c.words) > 0 {
		word := c.words[0]
		c.words = c.words[1:]
		if !isDashed(word) {
			rest = append(rest, word)
			continue
		}
		name, value, hasValue := strings.Cut(word, "=")
		if !strings.HasPrefix(word, "--") && len(word) > 2 { // -cn, or -tnat
			name, value = word[:2], word[2:]
			hasValue = true
		}
		o := findOption(all, name)
		switch {
		case o == nil:
			fmt.Fprintf(c.stderr, "%s: unrecognized option '%s'\nTry `%[1]s -h' for more information.\n", c.dialect.name, word)
			return failed, true
		case o.names == "-V --version":
			fmt.Fprintf(c.stdout, "%s %s\n", c.dialect.name, iptables.Version)
			return ok, true
		case o.names == "-h --help":
			fmt.Fprint(c.stderr, restoreUsage(c.dialect.name))
			return ok, true
		case o.flag != nil:
			*o.flag = true
			if hasValue && value != "" {
				c.words = append([]string{"-" + value}, c.words...)
			}
		case o.value != nil:
			if !hasValue && len(c.words) > 0 {
				value, c.words = c.words[0], c.words[1:]
			}
			*o.value = value
		case !hasValue && len(c.words) > 0 && strings.Trim(c.words[0], "0123456789") == "":
			c.words = c.words[1:] // of -w
		}
	}
	c.words = rest
	return ok, false
}

func restoreUsage(program string) string {
	if program == "iptables-save" {
		return "Usage: iptables-save [-t TABLE] [-c]\n"
	}
	return "Usage: iptables-restore [-c] [-n] [-t] [-v] [-T TABLE] [--strict] [FILE]\n" +
		"  --strict  refuses all where usher cannot do a line, in place of leaving it out\n"
}

func findOption(all []dialectOption, name string) *dialectOption {
	for i := range all {
		for have := range strings.FieldsSeq(all[i].names) {
			if have == name {
				return &all[i]
			}
		}
	}
	return nil
}

// tables returns the tables of the running usher. That others have rules, too, is said as iptables says it of its other
// form.
func (c *dialectCall) tables() (*iptables.Tables, error) {
	usher, err := c.client()
	if err != nil {
		return nil, err
	}
	answer, err := usher.Tables(c.ctx)
	if err != nil {
		return nil, err
	}
	if len(answer.Others) > 0 {
		fmt.Fprintf(c.stderr, "# Warning: rules of %s present, use usher rules to see them\n", strings.Join(answer.Others, ", "))
	}
	tables := iptables.NewTables()
	if _, err := iptables.Restore(tables, answer.Text, iptables.RestoreOptions{Counted: true}); err != nil {
		return nil, fmt.Errorf("the running usher has tables that this one cannot read: %w", err)
	}
	return tables, nil
}

// changeTables asks for a change, and prints what the running usher says of it.
func (c *dialectCall) changeTables(change api.TableChange) int {
	usher, err := c.client()
	if err != nil {
		return c.failTables(err, 0)
	}
	change.Program = c.dialect.name
	result, err := usher.ChangeTables(c.ctx, change)
	if err != nil {
		return c.failTables(err, 0)
	}
	_, _ = c.stdout.WriteString(result.Stdout)
	_, _ = io.WriteString(c.stderr, result.Stderr)
	return result.Status
}

// failTables prints why a command of iptables has failed.
func (c *dialectCall) failTables(err error, line int) int {
	if e, is := errors.AsType[*iptables.Error](err); is {
		fmt.Fprint(c.stderr, e.Text(c.dialect.name, line))
		return e.Status
	}
	return c.fail(statusNoKernel, err)
}
