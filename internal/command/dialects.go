package command

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"github.com/urfave/cli/v2"

	"usher/internal/api"
	"usher/internal/nfct"
)

// dialect is a program whose words usher takes as they are: behind its own name, as in usher ipvsadm -L, and as a binary
// of that name.
type dialect struct {
	name, usage string
	run         func(*dialectCall) int // returns the exit status
	// statusNone is that of a call without a running usher.
	statusNone int
}

// dialects are all such programs.
func dialects() []dialect {
	return []dialect{
		{"ipvsadm", "lists and changes services in the words of ipvsadm", runIPVSAdm, statusRefused},
		{"ipvsadm-save", "prints what ipvsadm-restore reads", runIPVSAdmSave, statusRefused},
		{"ipvsadm-restore", "adds the services of its input to those of ipvsadm, in one step", runIPVSAdmRestore, statusRefused},
		{"iptables", "lists and changes rules and translations in the words of iptables", runIPTables, statusNoKernel},
		{"iptables-save", "prints what iptables-restore reads", runIPTablesSave, statusNoKernel},
		{"iptables-restore", "makes the tables of its input those of iptables, each in one step", runIPTablesRestore, statusNoKernel},
		{"conntrack", "lists, follows and ends flows in the words of conntrack", runConntrack, nfct.Failed},
	}
}

// statusRefused is that of ipvsadm for what the kernel refuses.
const statusRefused = 255

// dialectCall is one call of a dialect.
type dialectCall struct {
	dialect
	ctx           context.Context
	words         []string
	stdin         io.Reader
	stdout        *bufio.Writer
	stderr        io.Writer
	name, control string // of the running usher; empty: the only one
}

// Variables of the environment that choose the running usher of a dialect, whose words have no place for that.
const (
	nameVariable    = "USHER_NAME"
	controlVariable = "USHER_CONTROL"
)

// findDialect returns the call that a command line is; nil: it is usher's own. The flags --name and --control may stand
// before the name of the dialect.
func findDialect(args []string) *dialectCall {
	c := &dialectCall{name: os.Getenv(nameVariable), control: os.Getenv(controlVariable)}
	if c.is(strings.TrimSuffix(filepath.Base(args[0]), ".exe")) {
		c.words = args[1:]
		return c
	}
	for rest := args[1:]; len(rest) > 0; {
		if c.is(rest[0]) {
			c.words = rest[1:]
			return c
		}
		name, value, hasValue := "", "", false
		if isDashed(rest[0]) {
			name, value, hasValue = cutFlag(rest[0])
		}
		rest = rest[1:]
		if !hasValue && len(rest) > 0 {
			value, rest = rest[0], rest[1:]
		}
		switch name {
		case "name":
			c.name = value
		case "control":
			c.control = value
		default:
			return nil
		}
	}
	return nil
}

// is reports whether a word names a dialect, which is that of the call then.
func (c *dialectCall) is(word string) bool {
	for _, d := range dialects() {
		if d.name == word {
			c.dialect = d
			return true
		}
	}
	return false
}

// do runs the call and returns its exit status.
func (c *dialectCall) do(ctx context.Context, stdout, stderr io.Writer) int {
	c.ctx, c.stdin, c.stdout, c.stderr = ctx, os.Stdin, bufio.NewWriterSize(stdout, 64<<10), stderr
	status := c.run(c)
	if err := c.stdout.Flush(); err != nil && status == ok {
		return c.fail(failed, err)
	}
	return status
}

// client finds the running usher.
func (c *dialectCall) client() (*api.Client, error) {
	usher, err := api.Find(c.ctx, c.name, c.control)
	if err != nil {
		return nil, &noUsherError{err}
	}
	return usher, nil
}

// noUsherError says that there is no running usher to ask.
type noUsherError struct{ error }

// Error names the ways to choose one.
func (e *noUsherError) Error() string {
	return strings.Replace(e.error.Error(), "choose one with --name", "choose one with "+nameVariable+"=NAME", 1)
}

// fail prints an error in the manner of the dialect, and returns the status.
func (c *dialectCall) fail(status int, err error) int {
	if _, isNone := errors.AsType[*noUsherError](err); isNone {
		status = c.statusNone
	}
	fmt.Fprintf(c.stderr, "%s: %s\n", c.dialect.name, printable(err.Error()))
	return status
}

// dialectCommands are those of the tree. They are for help and completion: their words never get there.
func (p *program) dialectCommands() []*cli.Command {
	var all []*cli.Command
	for _, d := range dialects() {
		all = append(all, &cli.Command{
			Name: d.name, Usage: d.usage, ArgsUsage: "[WORD...]", Description: dialectCommandHelp,
			Action: func(*cli.Context) error { return errors.New(d.name + " is written before its words") },
		})
	}
	return all
}
