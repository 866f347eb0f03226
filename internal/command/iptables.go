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
	out, err := cmd.Do(tables, iptables.Options{Names: iptables.SystemNames()})
	_, _ = c.stdout.WriteString(out)
	if err != nil {
		return c.failTables(err, 0)
	}
	return ok
}

// runIPTablesSave does what iptables-save does.
func runIPTablesSave(c *dialectCall) int {
	cmd, err := iptables.ParseSaveArgs(c.words)
	switch {
	case err != nil:
		return c.failTables(err, 0)
	case cmd.PrintVersion:
		return c.printVersion()
	}
	tables, err := c.tables()
	if err != nil {
		return c.failTables(err, 0)
	}
	var out io.Writer = c.stdout
	if cmd.File != "" {
		f, err := os.Create(cmd.File)
		if err != nil {
			return c.fail(failed, err)
		}
		defer f.Close()
		out = f
	}
	cmd.Now = time.Now().Format(time.ANSIC)
	if err := iptables.Save(out, tables, cmd.SaveOptions); err != nil {
		return c.fail(failed, err)
	}
	return ok
}

// runIPTablesRestore does what iptables-restore does.
func runIPTablesRestore(c *dialectCall) int {
	cmd, err := iptables.ParseRestoreArgs(c.words)
	switch {
	case err != nil:
		return c.failTables(err, 0)
	case cmd.PrintVersion:
		return c.printVersion()
	case cmd.PrintHelp:
		fmt.Fprint(c.stderr, iptables.RestoreHelp)
		return ok
	}
	in := c.stdin
	if cmd.File != "" {
		f, err := os.Open(cmd.File)
		if err != nil {
			return c.fail(failed, err)
		}
		defer f.Close()
		in = f
	}
	text, err := io.ReadAll(in)
	if err != nil {
		return c.fail(failed, err)
	}
	return c.changeTables(api.TableChange{
		Restore: true, Text: string(text), Table: cmd.Table, Counters: cmd.Counted, NoFlush: cmd.KeepAll, Test: cmd.Test,
		Verbose: cmd.Verbose, Strict: cmd.Strict,
	})
}

// printVersion prints that of the program whose words these are.
func (c *dialectCall) printVersion() int {
	fmt.Fprintf(c.stdout, "%s %s\n", c.dialect.name, iptables.Version)
	return ok
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
	if e, is := errors.AsType[*iptables.ArgsError](err); is {
		fmt.Fprint(c.stderr, e.Text)
		return failed
	}
	return c.fail(statusNoKernel, err)
}
