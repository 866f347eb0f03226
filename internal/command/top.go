package command

import (
	"errors"
	"fmt"
	"time"

	"github.com/urfave/cli/v2"

	"usher/internal/terminal"
	"usher/internal/top"
)

const topHelp = `  usher top                 all services; Enter shows the backends of one, f its flows
  usher top web             the backends of a service
  ssh -t HOST usher top     on another machine

  < > r            sort by another column, or the other way round
  /TEXT            only rows with this text
  d  m  u          drain, maint, resume: the backend that is chosen
  k                ends the flow that is chosen, or all of a service or backend after a question
  ? q              all keys; quit

  NEW/S            new flows a second; TREND shows how that has changed
  UP/S, DOWN/S     bytes a second from clients to backends, and back
  CONN             the smoothed time that a connect to the backend takes
  FAILED           flows that were not served; of a backend its failed connects and flows
  REFUSED          clients that were not let in (usher help access)
`

// topCommand shows a running usher on the full screen.
func (p *program) topCommand() *cli.Command {
	return &cli.Command{
		Name: "top", Usage: "shows services, backends and flows on the full screen, and changes them by keys", ArgsUsage: "[SERVICE]",
		Description: topHelp,
		Flags: append([]cli.Flag{
			&cli.StringFlag{Name: "interval", Value: defaultTopInterval, Usage: "TIME\tbetween two looks"},
		}, instanceFlags()...), Action: p.top,
	}
}

const defaultTopInterval = "1s"

func (p *program) top(c *cli.Context) error {
	word := c.String("interval")
	interval, err := time.ParseDuration(word)
	if err != nil || interval < minInterval {
		return usageError{fmt.Errorf("--interval %s: %q is no time such as %s (at least %s)", word, word, defaultTopInterval, minInterval)}
	}
	if !terminal.CanMove(p.stdout) {
		return errors.New("usher top needs a terminal that can move its cursor (ssh -t gives one): usher ls --watch goes without")
	}
	usher, err := client(c)
	if err != nil {
		return err
	}
	service := c.Args().First()
	if service != "" {
		if _, err := usher.Service(c.Context, service); err != nil {
			return err
		}
	}
	look := top.Look{Colour: terminal.HasColour(p.stdout), Unicode: terminal.IsUTF8()}
	if err := top.Run(c.Context, usher, top.Options{Service: service, Interval: interval}, look); err != nil {
		return fmt.Errorf("usher top: %w", err)
	}
	return nil
}
