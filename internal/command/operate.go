package command

import (
	"context"
	"errors"
	"fmt"
	"math"
	"path/filepath"
	"strconv"
	"time"

	"github.com/urfave/cli/v2"

	"usher/internal/api"
	"usher/internal/figures"
)

// reload has the running usher read its file again.
func (p *program) reload(c *cli.Context) error {
	usher, err := client(c)
	if err != nil {
		return err
	}
	if err := usher.Reload(c.Context); err != nil {
		return err
	}
	process, err := usher.Process(c.Context)
	if err != nil {
		return err
	}
	return p.say("reloaded %s", process.Config)
}

// upgrade has the running usher go on as another binary.
func (p *program) upgrade(c *cli.Context) error {
	usher, err := client(c)
	if err != nil {
		return err
	}
	binary, err := absolute(c.String("binary"))
	if err != nil {
		return err
	}
	if err := usher.Upgrade(c.Context, binary); err != nil {
		return err
	}
	process, err := usher.Process(c.Context)
	if err != nil {
		return err
	}
	return p.say("upgraded: pid %d runs version %s, with %s", process.PID, process.Version, figures.Count(process.Flows, "flow"))
}

// stop ends the running usher, and waits for its end.
func (p *program) stop(c *cli.Context) error {
	usher, err := client(c)
	if err != nil {
		return err
	}
	process, err := usher.Process(c.Context)
	if err != nil {
		return err
	}
	if err := usher.Stop(c.Context, c.Bool("now")); err != nil {
		return err
	}
	if err := awaitEnd(c.Context, usher, process.PID); err != nil {
		return err
	}
	return p.say("stopped %s, pid %d", process.Name, process.PID)
}

// awaitEnd waits until a process no longer answers on its control socket, which it gives up last.
func awaitEnd(ctx context.Context, usher *api.Client, pid int) error {
	const pause = 50 * time.Millisecond
	for {
		process, err := usher.Process(ctx)
		if refused := new(api.StatusError); err != nil && !errors.As(err, &refused) || err == nil && process.PID != pid {
			return ctx.Err()
		}
		select {
		case <-time.After(pause):
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// absolute makes a path one of the running usher, whose working directory is another.
func absolute(path string) (string, error) {
	if path == "" {
		return "", nil
	}
	return filepath.Abs(path)
}

// override returns the action that gives a backend an admin state by hand.
func (p *program) override(state string) cli.ActionFunc {
	return func(c *cli.Context) error {
		timeout := c.String("timeout")
		if d, err := time.ParseDuration(timeout); timeout != "" && (err != nil || d <= 0) {
			return usageError{fmt.Errorf("--timeout %s: %q is no time such as 30s, 10m or 2h", timeout, timeout)}
		}
		usher, service, err := serviceOf(c, c.Args().First())
		if err != nil {
			return err
		}
		address := backendIn(service, c.Args().Get(1))
		if err := usher.SetOverride(c.Context, service.Name, address, api.Override{Admin: state, Timeout: timeout}); err != nil {
			return err
		}
		if timeout == "" {
			return p.say("%s %s: %s until resumed", service.Name, address, state)
		}
		return p.say("%s %s: %s for %s", service.Name, address, state, timeout)
	}
}

// resume takes back what was set by hand.
func (p *program) resume(c *cli.Context) error {
	usher, service, err := serviceOf(c, c.Args().First())
	if err != nil {
		return err
	}
	address := backendIn(service, c.Args().Get(1))
	if err := usher.Resume(c.Context, service.Name, address); err != nil {
		return err
	}
	return p.say("%s %s: resumed", service.Name, address)
}

// rebalance has the running usher end the flows that backends have beyond their fair share, and waits until that is done.
// The request ends with this program, and the rebalance with the request.
func (p *program) rebalance(c *cli.Context) error {
	out, err := p.output(c)
	if err != nil {
		return err
	}
	var r api.Rebalance
	if word := c.String("rate"); word != "" {
		if r.Rate, err = strconv.ParseFloat(word, 64); err != nil || !(r.Rate > 0 && r.Rate <= math.MaxInt32) {
			return usageError{fmt.Errorf("--rate %s: %q is no number of flows a second, such as 10 or 0.5", word, word)}
		}
	}
	usher, err := client(c)
	if err != nil {
		return err
	}
	service := c.Args().First()
	steps, err := usher.Rebalance(c.Context, service, r)
	if err != nil {
		return err
	}
	var last api.Rebalanced
	for last, err = range steps {
		if err == nil && out.isObject() {
			err = out.object(p.stdout, last)
		}
		if err != nil {
			return err
		}
	}
	if out.isObject() {
		return nil
	}
	return p.say("rebalanced %s: ended %d of %s", service, last.Ended, figures.Count(last.Surplus, "surplus flow"))
}
