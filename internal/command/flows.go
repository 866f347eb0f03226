package command

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"usher/conntrack"
	"usher/internal/api"
	"usher/internal/control"
	"usher/internal/figures"
)

var flowColumns = []column[api.Flow]{
	{name: "CLIENT", cell: func(f api.Flow) string { return f.Client }},
	{name: "LISTENER", wide: true, cell: func(f api.Flow) string { return f.Listener }},
	{name: "SERVICE", cell: func(f api.Flow) string { return f.Service }},
	{name: "BACKEND", cell: func(f api.Flow) string { return f.Backend }},
	{name: "NETWORK", wide: true, cell: func(f api.Flow) string { return f.Network }},
	{name: "STATE", cell: func(f api.Flow) string { return f.State }},
	{name: "AGE", cell: func(f api.Flow) string { return figures.Span(ofMilliseconds(f.AgeMS)) }},
	{name: "IDLE", cell: func(f api.Flow) string { return figures.Span(ofMilliseconds(f.IdleMS)) }},
	{name: "UP", cell: func(f api.Flow) string { return figures.Bytes(f.BytesUp) }},
	{name: "DOWN", cell: func(f api.Flow) string { return figures.Bytes(f.BytesDown) }},
	{name: "RATE", cell: meanRate},
	{name: "TRIES", wide: true, cell: func(f api.Flow) string { return fmt.Sprint(f.Tries) }},
	{name: "RTT", wide: true, cell: func(f api.Flow) string { return figures.Milliseconds(f.RTTMS) }},
}

// meanRate is a flow's bytes per second, both ways, over its age. A rate of the last moment would need each flow twice.
func meanRate(f api.Flow) string {
	if f.AgeMS <= 0 {
		return ""
	}
	return figures.Amount(float64(f.BytesUp+f.BytesDown)/ofMilliseconds(f.AgeMS).Seconds(), "B") + "/s"
}

func ofMilliseconds(n int64) time.Duration { return time.Duration(n) * time.Millisecond }

// flowHelp are the parameters of control.ParseFlowQuery, as flags.
var flowHelp = map[string]string{
	"client":    "ADDR[/BITS]\tthe client's address, ADDR:PORT, or a prefix",
	"listener":  "ADDR\tthe address that the client asked for, as the table shows it",
	"service":   "SERVICE[,...]\tof these services",
	"backend":   "ADDR[,...]\tat these backends; - is a flow without one",
	"network":   "tcp|unix|udp\tof this network",
	"state":     "STATE[,...]\t" + strings.Join(conntrack.StateNames(), ", "),
	"match":     "TEXT\tin any column; of several words each",
	"id":        "ID[,...]\tthe flows with these ids, which -o json prints",
	"min-age":   "TIME\tat least that old",
	"min-idle":  "TIME\tidle for at least that long",
	"min-bytes": "N\tat least as many bytes, both ways together",
	"min-tries": "N\tat least as many backends were tried",
	"sort":      "COLUMN\t" + strings.Join(control.FlowColumns(), ", ") + "; -COLUMN: the other way",
	"top":       fmt.Sprintf("N\tonly the first N; with --sort at most %d, which is then the default", control.MaxTop),
}

// flowFlags are the parameters of a query, in the order of the API.
func flowFlags() []cli.Flag {
	var all []cli.Flag
	for _, name := range control.FlowParameters() {
		if help, ok := flowHelp[name]; ok {
			all = append(all, &cli.StringSliceFlag{Name: name, Usage: help})
		}
	}
	return all
}

// flowQuery is what the flags of the filter say.
func flowQuery(c *cli.Context) (url.Values, control.FlowQuery, error) {
	query := url.Values{}
	for name := range flowHelp {
		if c.IsSet(name) {
			query[name] = c.StringSlice(name)
		}
	}
	if c.Bool("denied") {
		query.Set("denied", strconv.FormatBool(true))
	}
	parsed, err := control.ParseFlowQuery(query)
	if wrong, ok := errors.AsType[*control.FlowQueryError](err); ok {
		err = usageError{fmt.Errorf("--%s %s: %s", wrong.Parameter, strings.Join(query[wrong.Parameter], ","), wrong.Problem)}
	}
	return query, parsed, err
}

// flows lists flows as they come, or ends them.
func (p *program) flows(c *cli.Context) error {
	out, err := p.output(c)
	if err != nil {
		return err
	}
	query, parsed, err := flowQuery(c)
	if err != nil {
		return err
	}
	if c.Bool("kill") {
		return p.kill(c, out, query, parsed)
	}
	if c.Bool("all") {
		return usageError{errors.New("--all is for --kill: without it all flows are listed")}
	}
	if out.form != "table" {
		query.Set("rtt", "true")
	}
	if out.isObject() {
		query.Set("sockets", "true")
	}
	if rows, ok := out.screen(); ok && !c.IsSet("top") {
		query.Set("top", strconv.Itoa(rows)) // there is no room for more
	}
	usher, err := client(c)
	if err != nil {
		return err
	}
	isKnown := false // what was there once may be removed while this goes on
	return out.repeat(c.Context, func(w io.Writer) error {
		rows := newPrinter(out, w, flowColumns)
		for f, err := range usher.Flows(c.Context, query) {
			if err == nil {
				err, isKnown = rows.print(f), true
			}
			if err != nil {
				return err
			}
		}
		if !isKnown {
			if err := checkServices(c.Context, usher, parsed.Service); err != nil {
				return err
			}
			isKnown = true
		}
		return rows.flush()
	})
}

// kill ends the flows that a query lets through.
func (p *program) kill(c *cli.Context, out output, query url.Values, parsed control.FlowQuery) error {
	switch {
	case out.interval > 0:
		return usageError{errors.New("--kill ends flows once: leave out --watch")}
	case c.IsSet("sort") || c.IsSet("top"):
		return usageError{errors.New("--kill ends all flows that the filter lets through: leave out --sort and --top")}
	case parsed.IsAll() && !c.Bool("all"):
		return usageError{errors.New("--kill needs a filter, such as --client ADDR, or --all")}
	case c.Bool("all"):
		query.Set("all", strconv.FormatBool(true))
	}
	usher, err := client(c)
	if err != nil {
		return err
	}
	k, err := usher.Kill(c.Context, query)
	if err == nil && k.Killed == 0 {
		err = checkServices(c.Context, usher, parsed.Service)
	}
	switch {
	case err != nil:
		return err
	case out.isObject():
		return out.object(p.stdout, k)
	}
	return p.say("killed %s", figures.Count(k.Killed, "flow"))
}

// checkServices returns an error if a service of a filter that lets no flow through is none. Flows of one that was removed
// can go on, so that only those without flows are asked for.
func checkServices(ctx context.Context, usher *api.Client, services []string) error {
	for _, name := range services {
		if _, err := usher.Service(ctx, name); err != nil {
			return err
		}
	}
	return nil
}
