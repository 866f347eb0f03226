package command

import (
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/urfave/cli/v2"

	"usher/internal/app"
	"usher/internal/config"
	"usher/internal/version"
)

// group is some commands that stand in one line of the help.
type group struct {
	name     string
	commands []*cli.Command
}

// groups are all commands, in the order of the help.
func (p *program) groups(sources []Source) []group {
	return []group{
		{"run", slices.Concat(p.runCommands(), p.sourceCommands(sources))},
		{"file, process", p.processCommands()},
		{"see", p.seeCommands()},
		{"change", slices.Concat(p.changeCommands(), p.handCommands())},
		{"dialects", p.dialectCommands()},
		{"shell", p.shellCommands()},
	}
}

// newRoot returns the tree of commands: usher itself, and the commands below it. A command's ArgsUsage is the form of
// its words: [X] may be left out, [X...] may come again. Arrangement, checks of words, help and completion come from it.
func newRoot(stdout, stderr io.Writer, sources ...Source) *cli.Command {
	p := &program{stdout: stdout, env: app.Env{Stdout: stdout, Stderr: stderr, Version: version.Short(), Sources: restorers(sources)}}
	p.root = &cli.Command{
		Name:   "usher",
		Flags:  append(allFlags(), &cli.BoolFlag{Name: "version", Aliases: []string{"v"}}),
		Action: p.run,
	}
	for _, g := range p.groups(sources) {
		for _, c := range g.commands {
			c.Category = g.name
			p.root.Subcommands = append(p.root.Subcommands, c)
		}
	}
	return p.root
}

// program is what the commands' actions share.
type program struct {
	root   *cli.Command
	stdout io.Writer
	env    app.Env
}

// check finds mistakes in a line's words.
func (l *line) check() error {
	if err := l.checkFile(); err != nil {
		return err
	}
	switch {
	case len(l.path) == 0 && len(l.words) == 0:
		return nil
	case len(l.path) == 0:
		return unknownCommand(l.words[0], l.command)
	case len(l.command.Subcommands) == 0:
		return checkWords(l.path, l.command.ArgsUsage, l.words)
	}
	name, have := strings.Join(l.path, " "), names(l.command)
	if len(l.words) == 0 {
		return errors.New(name + " lacks its object: usher " + name + " " + strings.Join(have, "|"))
	}
	return fmt.Errorf("%s: unknown object %q%s", name, l.words[0], config.OrHave(l.words[0], have))
}

// names are the names of a command's sub-commands.
func names(c *cli.Command) []string {
	var all []string
	for _, sub := range c.Subcommands {
		all = append(all, sub.Name)
	}
	return all
}

// allFlagsOf returns the flags of a command and of all below it.
func allFlagsOf(c *cli.Command) []cli.Flag {
	all := slices.Clone(c.Flags)
	for _, sub := range c.Subcommands {
		all = append(all, allFlagsOf(sub)...)
	}
	return all
}
