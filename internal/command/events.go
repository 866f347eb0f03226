package command

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/urfave/cli/v2"

	"usher/internal/api"
)

var eventColumns = []column[api.Event]{
	{name: "TIME", width: 23, cell: func(e api.Event) string { return e.Time.Local().Format("2006-01-02 15:04:05.000") }},
	{name: "SERVICE", width: 12, cell: func(e api.Event) string { return e.Service }},
	{name: "BACKEND", width: 18, cell: func(e api.Event) string { return e.Backend }},
	{name: "EVENT", width: 10, cell: func(e api.Event) string { return e.Event }},
	{name: "FROM", width: 8, cell: func(e api.Event) string { return e.From }},
	{name: "TO", width: 8, cell: func(e api.Event) string { return e.To }},
	{name: "REASON", cell: func(e api.Event) string { return e.Reason }},
}

// events prints changes as they happen, until the usher ends or the user has seen enough. An upgrade ends the connection:
// what stays is the process, which is asked again.
func (p *program) events(c *cli.Context) error {
	out, err := p.output(c)
	if err != nil {
		return err
	}
	usher, err := client(c)
	if err != nil {
		return err
	}
	before, err := usher.Process(c.Context)
	if err != nil {
		return err
	}
	rows := newPrinter(out, p.stdout, eventColumns)
	for {
		if err := printEvents(c.Context, usher, rows); err != nil {
			return err
		}
		now, err := findAgain(c.Context, usher)
		switch {
		case c.Context.Err() != nil:
			return c.Context.Err()
		case err != nil || now.PID != before.PID || !now.Started.Equal(before.Started):
			_, err := fmt.Fprintf(p.env.Stderr, "usher: %s, pid %d, has ended\n", printable(before.Name), before.PID)
			return err
		case now.Upgrades > before.Upgrades:
			if err := rows.print(api.Event{Time: time.Now(), Event: "upgrade", To: "done"}); err != nil {
				return err
			}
		}
		before = now
	}
}

// printEvents prints until the connection ends. The error is that of a refusal or of the output.
func printEvents(ctx context.Context, usher *api.Client, rows *printer[api.Event]) error {
	all, err := usher.Events(ctx)
	if err != nil {
		if _, isRefusal := errors.AsType[*api.StatusError](err); isRefusal {
			return err
		}
		return nil
	}
	if err := rows.flush(); err != nil {
		return err
	}
	for e, err := range all {
		if err != nil {
			return nil
		}
		if err := rows.print(e); err != nil {
			return err
		}
		if err := rows.flush(); err != nil {
			return err
		}
	}
	return nil
}

// findAgain asks the usher at a socket what runs. A process that upgrades may leave the first request without an answer;
// after that its socket keeps requests for the new image.
func findAgain(ctx context.Context, usher *api.Client) (process api.Process, err error) {
	const tries, pause = 3, 50 * time.Millisecond
	for range tries {
		select {
		case <-time.After(pause): // one that ends does not give up its socket at once
		case <-ctx.Done():
			return process, ctx.Err()
		}
		if process, err = usher.Process(ctx); err == nil {
			break
		}
	}
	return process, err
}
