package command

import (
	"errors"
	"fmt"
	"slices"

	"github.com/urfave/cli/v2"

	"usher/internal/app"
	"usher/internal/config"
	"usher/internal/configfile"
	"usher/internal/flags"
	"usher/internal/version"
)

func (p *program) run(c *cli.Context) error {
	if c.Bool("version") {
		_, err := fmt.Fprintf(p.stdout, "usher version %s\n", version.Short())
		return err
	}
	return p.start(c, gather(c))
}

func (p *program) serve(c *cli.Context) error {
	words := gather(c)
	words.MayBeIdle = true
	return p.start(c, words)
}

func (p *program) start(c *cli.Context, words flags.Words) error {
	begin, err := begin(c, words)
	if err != nil {
		return err
	}
	return app.Run(c.Context, begin, p.env)
}

// begin returns what the words start with.
func begin(c *cli.Context, words flags.Words) (app.Start, error) {
	if c.IsSet("config") && words.File == "" {
		return app.Start{}, usageError{errors.New("--config lacks the path of the file")}
	}
	cfg, err := flags.Parse(words)
	if err != nil {
		return app.Start{}, usageError{err}
	}
	begin := app.Start{Services: cfg.Services, Rules: cfg.Rules, File: words.File}
	for _, o := range words.ProcessOptions() {
		begin.Options = append(begin.Options, configfile.Option{Name: config.Field(o.Name), Value: o.Value})
	}
	return begin, nil
}

// demoOptions are those that make a demo quick: a dead backend is noticed in a second, and while all are dead, clients
// wait until one has come back.
func demoOptions() []flags.Option {
	return []flags.Option{
		{Name: "log-level", Value: "warn"}, {Name: "health", Value: "tcp,interval=500ms,timeout=500ms,rise=1,fall=2"},
		{Name: "wait", Value: "15s"},
	}
}

func (p *program) demo(c *cli.Context) error {
	// The demo's own addresses replace these. Of the log, its view shows no more than warnings unless asked for.
	words := gather(c)
	words.Listen, words.Backend = []string{"demo=8080"}, []string{"demo=9001"}
	words.Options = slices.Insert(words.Options, 0, demoOptions()...)
	cfg, err := flags.Parse(words)
	if err != nil {
		return usageError{err}
	}
	return app.Demo(c.Context, cfg, p.env)
}
