package command

import (
	"context"
	"flag"
	"strings"

	"github.com/urfave/cli/v2"
)

// run calls the action of the line's command. It does what cli.App would do. cli.App can print help by text/template,
// which calls methods by name: the linker would keep the exported methods of all types, 5 MB with those of Kubernetes.
func (l *line) run(ctx context.Context) error {
	c, err := l.context(ctx)
	if err != nil {
		return usageError{err}
	}
	return l.command.Action(c)
}

// context returns what an action reads its flags and words from.
func (l *line) context(ctx context.Context) (*cli.Context, error) {
	l.setSlices()
	set := flag.NewFlagSet(l.command.Name, flag.ContinueOnError)
	for _, f := range l.command.Flags {
		if err := f.Apply(set); err != nil {
			return nil, err
		}
	}
	if err := set.Parse(append([]string{"--"}, l.words...)); err != nil {
		return nil, err
	}
	for _, o := range l.options {
		if _, isSlice := o.flag.(*cli.StringSliceFlag); isSlice || o.flag == helpFlag {
			continue
		}
		if err := set.Set(o.flag.Names()[0], o.value); err != nil {
			return nil, err
		}
	}
	c := cli.NewContext(nil, set, nil)
	c.Context, c.Command = ctx, l.command
	return c, nil
}

// setSlices makes the values of each repeatable flag its default. flag.FlagSet.Set would split them at commas, which
// belong to usher's own syntax.
func (l *line) setSlices() {
	values := make(map[*cli.StringSliceFlag][]string)
	for _, o := range l.options {
		if f, isSlice := o.flag.(*cli.StringSliceFlag); isSlice {
			values[f] = append(values[f], strings.TrimSpace(o.value))
		}
	}
	for f, all := range values {
		f.Value, f.HasBeenSet = cli.NewStringSlice(all...), true
	}
}
