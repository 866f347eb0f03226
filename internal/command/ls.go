package command

import (
	"context"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"usher/internal/api"
	"usher/internal/config"
	"usher/internal/figures"
)

// sample is what one running usher has said of itself.
type sample struct {
	at       time.Time
	instance string // empty if there is one alone
	process  api.Process
	services []api.Service
}

// serviceRow is a service with its rates; they are nil without a sample before.
type serviceRow struct {
	api.Service
	instance string
	rates    *figures.Rates
}

// backendRow is a backend with its rates.
type backendRow struct {
	api.Backend
	now   time.Time
	rates *figures.Rates
}

var serviceColumns = slices.Concat([]column[serviceRow]{
	{name: "NAME", cell: func(s serviceRow) string { return s.Name }},
	{name: "OWNER", cell: func(s serviceRow) string { return s.Owner }},
	{name: "NETWORK", cell: func(s serviceRow) string { return s.Network }},
	{name: "LISTEN", cell: func(s serviceRow) string { return few(s.Listen) }},
	{name: "VIRTUAL", wide: true, cell: func(s serviceRow) string { return few(virtualWords(s.Virtual)) }},
	{name: "SCHEDULER", cell: func(s serviceRow) string { return s.Scheduler }},
	{name: "STATUS", cell: func(s serviceRow) string { return s.Status }},
	{name: "BACKENDS", cell: func(s serviceRow) string { return upOf(s.Backends) }},
	{name: "ACTIVE", cell: func(s serviceRow) string { return fmt.Sprint(s.Active) }},
	{name: "QUEUED", wide: true, cell: func(s serviceRow) string { return fmt.Sprint(s.Queued) }},
	{name: "TOTAL", cell: func(s serviceRow) string { return fmt.Sprint(s.Total) }},
	{name: "FAILED", cell: func(s serviceRow) string { return fmt.Sprint(s.Failed) }},
	{name: "REFUSED", wide: true, cell: func(s serviceRow) string { return fmt.Sprint(refused(s.Refused)) }},
	{name: "UP", cell: func(s serviceRow) string { return figures.Bytes(s.BytesUp) }},
	{name: "DOWN", cell: func(s serviceRow) string { return figures.Bytes(s.BytesDown) }},
}, rateColumns(func(s serviceRow) *figures.Rates { return s.rates }))

var backendColumns = slices.Concat([]column[backendRow]{
	{name: "ADDRESS", cell: func(b backendRow) string { return b.Address }},
	{name: "WEIGHT", cell: func(b backendRow) string { return fmt.Sprint(b.Weight) }},
	{name: "BACKUP", wide: true, cell: func(b backendRow) string { return fmt.Sprint(b.Backup) }},
	{name: "STATUS", cell: func(b backendRow) string { return b.Status }},
	{name: "SINCE", cell: func(b backendRow) string { return figures.Since(b.Since, b.now) }},
	{name: "OVERRIDE", cell: func(b backendRow) string { return b.Override }},
	{name: "ACTIVE", cell: func(b backendRow) string { return fmt.Sprint(b.Active) }},
	{name: "TOTAL", cell: func(b backendRow) string { return fmt.Sprint(b.Total) }},
	{name: "FAILED", cell: func(b backendRow) string { return fmt.Sprint(b.Failed) }},
	{name: "CONNECT", cell: func(b backendRow) string { return figures.Milliseconds(b.ConnectMS) }},
	{name: "UP", wide: true, cell: func(b backendRow) string { return figures.Bytes(b.BytesUp) }},
	{name: "DOWN", wide: true, cell: func(b backendRow) string { return figures.Bytes(b.BytesDown) }},
}, rateColumns(func(b backendRow) *figures.Rates { return b.rates }), []column[backendRow]{
	{name: "REASON", cell: func(b backendRow) string { return b.Reason }},
})

var virtualColumns = []column[api.Virtual]{
	{name: "VIRTUAL", cell: func(v api.Virtual) string { return v.Address }},
	{name: "TYPE", cell: func(v api.Virtual) string { return v.Type }},
	{name: "LISTEN", cell: func(v api.Virtual) string { return v.Listen }},
}

// instanceColumn comes first if there are several ushers.
var instanceColumn = column[serviceRow]{name: "INSTANCE", cell: func(s serviceRow) string { return s.instance }}

// refused sums up clients that were not let in.
func refused(by map[string]uint64) (n uint64) {
	for _, one := range by {
		n += one
	}
	return n
}

// few is a list of which the first two are shown.
func few(all []string) string {
	if len(all) > 2 {
		return fmt.Sprintf("%s,+%d", strings.Join(all[:2], ","), len(all)-2)
	}
	return strings.Join(all, ",")
}

// virtualWords writes addresses that clients know as TYPE:ADDRESS.
func virtualWords(all []api.Virtual) []string {
	words := make([]string, len(all))
	for i, v := range all {
		words[i] = config.Virtual(v).String()
	}
	return words
}

// upOf counts the backends that are up, and all.
func upOf(all []api.Backend) string {
	up := 0
	for _, b := range all {
		if b.Status == "up" {
			up++
		}
	}
	return fmt.Sprintf("%d/%d", up, len(all))
}

// ls lists the services of all running ushers, or the backends of one service.
func (p *program) ls(c *cli.Context) error {
	out, err := p.output(c)
	if err != nil {
		return err
	}
	service := c.Args().First()
	found, err := instances(c, service != "")
	if err != nil {
		return err
	}
	l := lister{out: out, stderr: p.env.Stderr, service: service, instances: found}
	if out.wide() && out.interval == 0 {
		// Rates need two samples.
		if err := l.read(c.Context); err != nil {
			return err
		}
		select {
		case <-time.After(time.Second):
		case <-c.Context.Done():
			return c.Context.Err()
		}
	}
	return out.repeat(c.Context, func(w io.Writer) error {
		if err := l.read(c.Context); err != nil {
			return err
		}
		return l.print(w)
	})
}

// instances returns those that --name and --control choose, else the only one, or if one is not required all.
func instances(c *cli.Context, one bool) ([]instance, error) {
	if !one && c.String("name") == "" && c.String("control") == "" {
		all, err := api.Instances(c.Context)
		if err != nil {
			return nil, err
		}
		if len(all) > 1 {
			found := make([]instance, len(all))
			for i, a := range all {
				found[i] = instance{a.Name, api.NewClient(a.Path)}
			}
			return found, nil
		}
	}
	only, err := client(c)
	return []instance{{client: only}}, err
}

// instance is a running usher; it has a name if there are several.
type instance struct {
	name   string
	client *api.Client
}

// lister prints samples of instances.
type lister struct {
	out       output
	stderr    io.Writer
	service   string // empty: all
	instances []instance
	samples   []sample
	before    []sample // of the same instances, or none
}

// read takes a sample of each instance. The last one becomes the one before. One of several that does not answer, as it
// may just have ended, is named on stderr.
func (l *lister) read(ctx context.Context) error {
	l.before, l.samples = l.samples, nil
	for _, i := range l.instances {
		s, err := l.sample(ctx, i)
		switch {
		case err == nil:
		case len(l.instances) == 1 || ctx.Err() != nil:
			return err
		default:
			fmt.Fprintf(l.stderr, "usher: %s: %s\n", i.name, printable(err.Error()))
			s.services = nil
		}
		l.samples = append(l.samples, s)
	}
	return nil
}

func (l *lister) sample(ctx context.Context, i instance) (s sample, err error) {
	s = sample{at: time.Now(), instance: i.name}
	if l.out.wide() {
		if s.process, err = i.client.Process(ctx); err != nil {
			return s, err
		}
	}
	var list api.Services
	if l.service == "" {
		list, err = i.client.Services(ctx)
	} else {
		list, err = i.client.Service(ctx, l.service)
	}
	s.services = list.Services
	return s, err
}

// print writes the last samples.
func (l *lister) print(w io.Writer) error {
	var err error
	switch {
	case l.out.isObject():
		return l.printObject(w)
	case l.service != "":
		err = l.printBackends(w)
	default:
		err = l.printServices(w)
	}
	if err == nil && l.out.wide() {
		err = l.printProcesses(w)
	}
	return err
}

func (l *lister) printServices(w io.Writer) error {
	columns := serviceColumns
	if len(l.instances) > 1 {
		columns = append([]column[serviceRow]{instanceColumn}, columns...)
	}
	t := newTable(w, columns, l.out.wide())
	for i := range l.samples {
		s := &l.samples[i]
		before, passed := make(map[string]figures.Counters), l.passed(i)
		if passed > 0 {
			for _, service := range l.before[i].services {
				before[service.Name] = figures.OfService(&service)
			}
		}
		for _, service := range s.services {
			row := serviceRow{Service: service, instance: s.instance}
			if c, ok := before[service.Name]; ok {
				row.rates = figures.OfService(&service).Since(c, passed)
			}
			if err := t.row(row); err != nil {
				return err
			}
		}
	}
	return t.flush()
}

// printBackends writes the backends of the only service.
func (l *lister) printBackends(w io.Writer) error {
	t := newTable(w, backendColumns, l.out.wide())
	before, passed := make(map[string]figures.Counters), l.passed(0)
	if passed > 0 {
		for _, b := range backendsOf(&l.before[0]) {
			before[b.Address] = figures.OfBackend(&b)
		}
	}
	for _, b := range backendsOf(&l.samples[0]) {
		row := backendRow{Backend: b, now: l.samples[0].at}
		if c, ok := before[b.Address]; ok {
			row.rates = figures.OfBackend(&b).Since(c, passed)
		}
		if err := t.row(row); err != nil {
			return err
		}
	}
	if err := t.flush(); err != nil {
		return err
	}
	if err := l.printVirtual(w); err != nil || !l.out.wide() {
		return err
	}
	return l.printRefused(w)
}

// printVirtual writes the addresses that clients know of the only service, and the listeners that stand for them.
func (l *lister) printVirtual(w io.Writer) error {
	for _, s := range l.samples[0].services {
		if len(s.Virtual) == 0 {
			continue
		}
		if _, err := fmt.Fprintln(w); err != nil {
			return err
		}
		t := newTable(w, virtualColumns, l.out.wide())
		for _, v := range s.Virtual {
			if err := t.row(v); err != nil {
				return err
			}
		}
		if err := t.flush(); err != nil {
			return err
		}
	}
	return nil
}

// printRefused writes which clients the only service did not let in.
func (l *lister) printRefused(w io.Writer) error {
	for _, s := range l.samples[0].services {
		var words []string
		for _, reason := range slices.Sorted(maps.Keys(s.Refused)) {
			words = append(words, fmt.Sprintf("%s %d", printable(reason), s.Refused[reason]))
		}
		if len(words) == 0 {
			continue
		}
		if _, err := fmt.Fprintf(w, "\nclients refused: %s\n", strings.Join(words, ", ")); err != nil {
			return err
		}
	}
	return nil
}

// passed is the time from the sample before of instance i to the last one; 0: there is none before.
func (l *lister) passed(i int) time.Duration {
	if i >= len(l.before) {
		return 0
	}
	return l.samples[i].at.Sub(l.before[i].at)
}

// backendsOf returns the backends of all services of a sample.
func backendsOf(s *sample) []api.Backend {
	var all []api.Backend
	for _, service := range s.services {
		all = append(all, service.Backends...)
	}
	return all
}

// printProcesses writes a line for each process.
func (l *lister) printProcesses(w io.Writer) error {
	for i := range l.samples {
		p, at := &l.samples[i].process, l.samples[i].at
		if p.PID == 0 {
			continue // it did not answer
		}
		line := fmt.Sprintf("%s: pid %d, version %s, up %s, engine %s, workers %d, flows %d of %d, cpu user %.2fs system %.2fs",
			p.Name, p.PID, p.Version, figures.Span(at.Sub(p.Started)), p.Engine, p.Workers, p.Flows, p.MaxConns, p.UserSeconds, p.SystemSeconds)
		if p.Upgrades > 0 {
			line += fmt.Sprintf(", upgrades %d", p.Upgrades)
		}
		if p.Config != "" {
			line += ", config " + p.Config
		}
		if _, err := fmt.Fprintf(w, "\n%s\n", printable(line)); err != nil {
			return err
		}
	}
	return nil
}

// printObject writes the API's own object. With several instances a service has the name of its own, too.
func (l *lister) printObject(w io.Writer) error {
	if len(l.instances) == 1 {
		return l.out.object(w, api.Services{Services: l.samples[0].services})
	}
	type named struct {
		Instance string `json:"instance"`
		api.Service
	}
	all := []named{}
	for _, s := range l.samples {
		for _, service := range s.services {
			all = append(all, named{s.instance, service})
		}
	}
	return l.out.object(w, map[string][]named{"services": all})
}
