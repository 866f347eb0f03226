// Package command is usher's command line: it runs usher, or asks the one that runs.
//
//	Main ─ arrange ─ check ─▶ the action of a command, of the tree in commands.go
//
//	usher, serve, demo     package app
//	check, config          packages flags and configfile
//	ls, flows, add ...     api.Client, and its objects as tables, JSON or YAML
//	help, completion       the tree itself
//	ipvsadm, iptables ...  dialects, whose words, output and statuses are those of the programs
//
// Words are read and checked here, so that a mistake has one form and status 2. What the running usher refuses, or a
// start, has status 1. Either is one line on stderr; that of a file is followed by its place.
package command

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"

	"usher/internal/api"
	"usher/internal/app"
	"usher/internal/configfile"
	"usher/internal/terminal"
	"usher/internal/version"
)

// Exit statuses.
const (
	ok          = 0
	failed      = 1 // the words are valid; usher could not start, the running one refused, or none runs
	usageFailed = 2 // the words are invalid
)

// usageError is a mistake in the words of the command line.
type usageError struct{ error }

func (e usageError) Unwrap() error { return e.error }

// Main runs the program for args, with the program's name first, and returns its exit status. It catches SIGINT, SIGTERM
// and SIGHUP while it serves; the end of ctx has the effect of a signal. A failure is one line on stderr. Sources are
// commands beside its own.
func Main(ctx context.Context, args []string, stdout, stderr io.Writer, sources ...Source) int {
	isSuccessor, err := app.Successor(ctx, app.Env{Stdout: stdout, Stderr: stderr, Version: version.Short(), Sources: restorers(sources)})
	call := findDialect(args)
	switch {
	case isSuccessor:
	case call != nil:
		return call.do(ctx, stdout, stderr)
	case len(args) < 2:
		fmt.Fprintf(stderr, "usher: %s\n", hint)
		return usageFailed
	default:
		err = run(ctx, args, stdout, stderr, sources)
	}
	if err == nil {
		return ok
	}
	fmt.Fprintln(stderr, message(err))
	if errors.As(err, new(usageError)) {
		return usageFailed
	}
	return failed
}

// message is what a user reads of an error: one line, or that of a file with its place. Such a place begins with the
// file's name, also if the running usher has read the file.
func message(err error) string {
	text := err.Error()
	file, isFile := errors.AsType[*configfile.Error](err)
	refusal, isRefusal := errors.AsType[*api.StatusError](err)
	switch {
	case isFile && file.File != "", isRefusal && strings.Contains(refusal.Text, "\n"):
		lines := strings.Split(text, "\n")
		for i := range lines {
			lines[i] = printable(lines[i])
		}
		return strings.Join(lines, "\n")
	}
	return "usher: " + printable(text)
}

// printable escapes invisible characters, and those that move the cursor or end the line. Errors repeat words as typed.
func printable(s string) string { return terminal.Printable(s) }

func run(ctx context.Context, args []string, stdout, stderr io.Writer, sources []Source) error {
	root := newRoot(stdout, stderr, sources...)
	if args[1] == completeWord {
		return complete(ctx, root, args[2:], stdout)
	}
	l, err := arrange(args[1:], root)
	switch {
	case err != nil:
		return usageError{err}
	case l.help:
		_, err := io.WriteString(stdout, helpPage(l.path, l.command))
		return err
	}
	if err := l.check(); err != nil {
		return usageError{err}
	}
	return l.run(ctx)
}
