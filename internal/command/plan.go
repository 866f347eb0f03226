package command

import (
	"errors"

	"github.com/urfave/cli/v2"

	"usher/internal/config"
	"usher/internal/configfile"
	"usher/internal/figures"
)

// check says whether a run could begin with the words of the command line.
func (p *program) check(c *cli.Context) error {
	if !hasPlan(c) {
		return usageError{errors.New("check lacks what to check: usher check -c FILE")}
	}
	plan, err := planOf(c)
	if err != nil {
		return err
	}
	backends := 0
	for _, s := range plan.Services {
		backends += len(s.Backends)
	}
	what := ""
	if file := c.String("config"); file != "" {
		what = file + ": "
	}
	return p.say("%sok, %s, %s%s", what, figures.Count(len(plan.Services), "service"), figures.Count(backends, "backend"),
		rulesOf(plan))
}

// rulesOf says how many rules a plan has, and its policy; nothing if it has neither.
func rulesOf(plan *config.Config) string {
	if plan.Rules == nil {
		return ""
	}
	n := plan.Rules.Len()
	text := ", " + figures.Count(n, "rule")
	if plan.Rules.Policy != "" {
		text += ", policy " + plan.Rules.Policy
	}
	return text
}

// config prints a plan as YAML: that of the words, or if there are none that of the running usher.
func (p *program) config(c *cli.Context) error {
	var text []byte
	if hasPlan(c) {
		plan, err := planOf(c)
		if err != nil {
			return err
		}
		text = configfile.Encode(plan)
	} else {
		usher, err := client(c)
		if err != nil {
			return err
		}
		if text, err = usher.Config(c.Context); err != nil {
			return err
		}
	}
	_, err := p.stdout.Write(text)
	return err
}

// hasPlan reports whether the words say what to run, beside which usher is meant.
func hasPlan(c *cli.Context) bool {
	for _, f := range c.Command.Flags {
		if name := f.Names()[0]; c.IsSet(name) && name != "name" && name != "control" {
			return true
		}
	}
	return c.Args().Present()
}

// planOf returns the plan that the words describe.
func planOf(c *cli.Context) (*config.Config, error) {
	words := gather(c)
	words.MayBeIdle = true
	begin, err := begin(c, words)
	if err != nil {
		return nil, err
	}
	return begin.Plan()
}
