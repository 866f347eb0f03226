package command

import (
	"io"
	"slices"

	"github.com/urfave/cli/v2"

	"usher/internal/app"
	"usher/internal/config"
	"usher/internal/flags"
)

// Source is a command that runs usher with services from elsewhere, as usher kube does.
type Source struct {
	Name  string // of the command, and of its app.Source
	Usage string // in one line
	Help  string
	Flags []SourceFlag // its own, beside those of the process and the options of services
	// Open returns the source that the words ask for. An error is one of the words. A nil source: it has printed to w all
	// that was asked for.
	Open func(words SourceWords, w io.Writer) (app.Source, error)
	// Restore returns a source from its settings, after an upgrade.
	Restore func(settings []byte) (app.Source, error)
}

// SourceFlag is a flag of a Source.
type SourceFlag struct {
	Name, Form, Help string
	IsSwitch         bool // has no value
}

// SourceWords are the words of a command line for a Source.
type SourceWords struct {
	Values  map[string]string // of its own flags, those that are given
	Options []flags.Option    // of all of its services
	Process []flags.Option    // of the process, with each rule and the policy
	File    string            // of --config
}

// sourceCommands are those of all sources.
func (p *program) sourceCommands(sources []Source) (all []*cli.Command) {
	for _, s := range sources {
		all = append(all, p.sourceCommand(s))
	}
	return all
}

// sourceCommand is the command of a source. It has the flags of usher itself but those of single services.
func (p *program) sourceCommand(s Source) *cli.Command {
	var own []cli.Flag
	for _, f := range s.Flags {
		usage := f.Form + "\t" + f.Help
		if f.IsSwitch {
			own = append(own, &cli.BoolFlag{Name: f.Name, Usage: usage})
			continue
		}
		own = append(own, &cli.StringFlag{Name: f.Name, Usage: usage})
	}
	shared := slices.DeleteFunc(allFlags(), func(f cli.Flag) bool {
		return slices.Contains([]string{"listen", "backend"}, f.Names()[0])
	})
	return &cli.Command{
		Name: s.Name, Usage: s.Usage, Description: s.Help, Flags: append(own, shared...),
		Action: func(c *cli.Context) error { return p.runSource(c, s) },
	}
}

// runSource runs usher with a source.
func (p *program) runSource(c *cli.Context, s Source) error {
	words := gather(c)
	own := SourceWords{Values: make(map[string]string), Process: processWords(words), File: words.File}
	for _, f := range s.Flags {
		if c.IsSet(f.Name) {
			own.Values[f.Name] = c.String(f.Name)
			if f.IsSwitch && c.Bool(f.Name) {
				own.Values[f.Name] = "true"
			}
		}
	}
	own.Options = slices.DeleteFunc(slices.Clone(words.Options), func(o flags.Option) bool { return config.IsProcessOption(config.Field(o.Name)) })
	if err := flags.CheckDefaults(own.Options); err != nil {
		return usageError{err}
	}
	words.Options, words.MayBeIdle = words.ProcessOptions(), true
	begin, err := begin(c, words)
	if err != nil {
		return err
	}
	if begin.Source, err = s.Open(own, p.stdout); err != nil {
		return usageError{err}
	}
	if begin.Source == nil {
		return nil
	}
	return app.Run(c.Context, begin, p.env)
}

// processWords are the words about the process as they are given: its options, and its rules with their policy.
func processWords(words flags.Words) []flags.Option {
	all := words.ProcessOptions()
	for _, rule := range words.Rules {
		all = append(all, flags.Option{Name: "rule", Value: rule})
	}
	if words.Policy != "" {
		all = append(all, flags.Option{Name: "policy", Value: words.Policy})
	}
	return all
}

// restorers are the constructors of sources from their settings.
func restorers(sources []Source) map[string]func([]byte) (app.Source, error) {
	all := make(map[string]func([]byte) (app.Source, error), len(sources))
	for _, s := range sources {
		all[s.Name] = s.Restore
	}
	return all
}
