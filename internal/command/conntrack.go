package command

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"usher/internal/api"
	running "usher/internal/dialect"
	"usher/internal/nfct"
	"usher/proxy"
)

// killBatch is how many flows conntrack -D names in one request.
const killBatch = 256

// tracker is one call of conntrack.
type tracker struct {
	*dialectCall
	*nfct.Request
	usher     *api.Client
	line      []byte
	hasHeader bool // of XML
}

// runConntrack does what conntrack does, with the flows of the running usher.
func runConntrack(c *dialectCall) int {
	r, err := nfct.Parse(c.words)
	if wrong, ok := errors.AsType[*nfct.Error](err); ok {
		fmt.Fprint(c.stderr, wrong.Message())
		return wrong.Status
	}
	for _, note := range r.Notes {
		fmt.Fprintln(c.stderr, note)
	}
	switch r.Command {
	case nfct.None, nfct.Help:
		fmt.Fprint(c.stdout, nfct.Usage)
		return nfct.OK
	case nfct.Version:
		fmt.Fprintln(c.stdout, nfct.Prefix)
		return nfct.OK
	}
	t := &tracker{dialectCall: c, Request: r}
	if t.usher, err = c.client(); err == nil {
		err = t.run()
	}
	wrong, isAnswer := errors.AsType[*nfct.Error](err)
	switch {
	case err == nil:
		return nfct.OK
	case isAnswer:
		fmt.Fprint(c.stderr, wrong.Message())
		return wrong.Status
	}
	return c.fail(nfct.Failed, err)
}

func (t *tracker) run() error {
	if t.Table != nfct.Conntrack {
		return t.listNone()
	}
	switch t.Command {
	case nfct.Get:
		return t.get()
	case nfct.Delete:
		return t.delete()
	case nfct.Flush:
		_, err := t.usher.Kill(t.ctx, t.query("all", "true"))
		return t.sayUnless(err, "connection tracking table has been emptied.")
	case nfct.Count:
		n := 0
		for _, err := range t.usher.Flows(t.ctx, t.query()) {
			if err != nil {
				return err
			}
			n++
		}
		_, err := fmt.Fprintln(t.stdout, n)
		return err
	case nfct.Statistics:
		return t.statistics()
	case nfct.Events:
		return t.follow()
	}
	n := 0
	err := t.each(func(f *nfct.Flow, a *api.Flow) error { n++; return t.print(f, a, nfct.NoEvent, time.Time{}) })
	t.footer()
	return t.sayUnless(err, "%d flow entries have been shown.", n)
}

// sayUnless prints the line that ends a command, unless that has failed.
func (t *tracker) sayUnless(err error, format string, args ...any) error {
	if err == nil {
		err = t.stdout.Flush() // before the line that sums it up
	}
	if err == nil {
		_, err = fmt.Fprint(t.stderr, nfct.Message(format, args...))
	}
	return err
}

// listNone is about the tables that have no entries here.
func (t *tracker) listNone() error {
	what := "flow entries"
	if t.Table == nfct.Expect {
		what = "expectations"
	}
	switch t.Command {
	case nfct.Count:
		_, err := fmt.Fprintln(t.stdout, 0)
		return err
	case nfct.Flush:
		return t.sayUnless(nil, "expectation table has been emptied.")
	case nfct.Statistics:
		return t.eachWorker(func(int) string { return "expect_new=0 expect_create=0 expect_delete=0 " })
	case nfct.Events:
		return &nfct.Error{Status: nfct.Failed, Text: "Operation failed: usher expects no connections"}
	}
	return t.sayUnless(nil, "0 %s have been shown.", what)
}

// query is what the running usher is asked for: flows with addresses, and what it can filter.
func (t *tracker) query(more ...string) url.Values {
	networks := map[uint8]string{0: "tcp,udp", nfct.TCP: "tcp", nfct.UDP: "udp"}
	q := url.Values{"network": {"tcp,udp"}}
	if name, ok := networks[t.Protocol]; ok {
		q.Set("network", name)
	}
	switch {
	case t.Source.IsValid() && t.Source.Bits() > 0:
		q.Set("client", t.Source.String())
	case t.IPv4:
		q.Set("client", "0.0.0.0/0")
	case t.IPv6:
		q.Set("client", "::/0")
	}
	for i := 0; i < len(more); i += 2 {
		q.Set(more[i], more[i+1])
	}
	return q
}

// each calls do with the flows that are meant.
func (t *tracker) each(do func(*nfct.Flow, *api.Flow) error) error {
	for a, err := range t.usher.Flows(t.ctx, t.query("sockets", "true")) {
		if err != nil {
			return err
		}
		f, ok := running.TrackedFlow(&a)
		if ok && t.Match(&f) {
			if err := do(&f, &a); err != nil {
				return err
			}
		}
	}
	return nil
}

// get prints the one flow of the tuple that the filter is.
func (t *tracker) get() error {
	n := 0
	err := t.each(func(f *nfct.Flow, a *api.Flow) error {
		if n++; n > 1 {
			return nil
		}
		return t.print(f, a, nfct.NoEvent, time.Time{})
	})
	switch {
	case err != nil:
		return err
	case n == 0:
		return &nfct.Error{Status: nfct.Failed, Text: nfct.Missing}
	}
	t.footer()
	return t.sayUnless(nil, "1 flow entries have been shown.")
}

// named is a flow that is about to end.
type named struct {
	flow nfct.Flow
	api  api.Flow
}

// delete ends the flows that are meant, and prints those that it has ended.
func (t *tracker) delete() error {
	n := 0
	var batch []named
	flush := func() error {
		ended, err := t.kill(batch)
		n, batch = n+ended, batch[:0]
		return err
	}
	err := t.each(func(f *nfct.Flow, a *api.Flow) error {
		if batch = append(batch, named{*f, *a}); len(batch) < killBatch {
			return nil
		}
		return flush()
	})
	if err == nil && len(batch) > 0 {
		err = flush()
	}
	if err != nil {
		return err
	}
	t.footer()
	text := fmt.Sprintf("%d flow entries have been deleted.", n)
	if n == 0 {
		return &nfct.Error{Status: nfct.Failed, Text: text}
	}
	return t.sayUnless(nil, "%s", text)
}

func (t *tracker) kill(batch []named) (n int, err error) {
	ids := make([]string, len(batch))
	for i := range batch {
		ids[i] = batch[i].api.ID
	}
	killed, err := t.usher.Kill(t.ctx, url.Values{"id": {strings.Join(ids, ",")}})
	if err != nil {
		return 0, err
	}
	isEnded := make(map[string]bool, len(killed.IDs))
	for _, id := range killed.IDs {
		isEnded[id] = true
	}
	event := nfct.NoEvent
	if t.Save {
		event = nfct.Destroy
	}
	for i := range batch {
		if !isEnded[batch[i].api.ID] {
			continue
		}
		if err := t.print(&batch[i].flow, &batch[i].api, event, time.Time{}); err != nil {
			return n, err
		}
		n++
	}
	return n, nil
}

// statistics prints a line a worker. usher counts by service, not by worker: the first line has all.
func (t *tracker) statistics() error {
	all, err := t.usher.Services(t.ctx)
	if err != nil {
		return err
	}
	var flows, refused, failed uint64
	for i := range all.Services {
		s := &all.Services[i]
		flows, failed = flows+s.Total, failed+s.Failed
		for _, n := range s.Refused {
			refused += n
		}
	}
	return t.eachWorker(func(i int) string {
		insert, drop, bad := flows, refused, failed
		if i > 0 {
			insert, drop, bad = 0, 0, 0
		}
		return fmt.Sprintf("found=0 invalid=0 insert=%d insert_failed=0 drop=%d early_drop=0 error=%d search_restart=0 clash_resolve=0 chaintoolong=0 ", insert, drop, bad)
	})
}

func (t *tracker) eachWorker(line func(int) string) error {
	p, err := t.usher.Process(t.ctx)
	if err != nil {
		return err
	}
	for i := range max(p.Workers, 1) {
		if _, err := fmt.Fprintf(t.stdout, "cpu=%-4d\t%s\n", i, line(i)); err != nil {
			return err
		}
	}
	return nil
}

// follow prints events until a signal, or the end of usher. An upgrade ends the stream: the new image is asked again.
func (t *tracker) follow() error {
	ctx, stop := context.WithCancel(t.ctx)
	defer stop()
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, os.Interrupt, syscall.SIGTERM)
	go func() {
		select {
		case <-signals:
			stop()
		case <-ctx.Done():
		}
	}()
	defer signal.Stop(signals)
	before, err := t.usher.Process(ctx)
	if err != nil {
		return err
	}
	n := 0
	for {
		if err = t.followOnce(ctx, &n); err != nil || ctx.Err() != nil {
			break
		}
		now, gone := findAgain(ctx, t.usher)
		if gone != nil || now.PID != before.PID || !now.Started.Equal(before.Started) {
			break
		}
	}
	if ctx.Err() != nil {
		err = nil
	}
	t.footer()
	return t.sayUnless(err, "%d flow events have been shown.", n)
}

// followOnce prints until the connection ends. The error is that of a refusal or of the output.
func (t *tracker) followOnce(ctx context.Context, n *int) error {
	events, err := t.usher.FlowEvents(ctx, t.query())
	if err != nil {
		if _, isRefusal := errors.AsType[*api.StatusError](err); isRefusal {
			return err
		}
		return nil
	}
	if t.HasBuffer {
		t.HasBuffer = false
		fmt.Fprintf(t.stderr, "NOTICE: usher keeps up to %d events for a reader, whatever --buffer-size says.\n", proxy.FollowRoom)
	}
	kinds := map[string]nfct.Event{"new": nfct.New, "update": nfct.Update, "destroy": nfct.Destroy}
	for e, err := range events {
		switch {
		case err != nil:
			return nil // an end, or an upgrade
		case e.Lost > 0:
			fmt.Fprint(t.stderr, nfct.Losing, nfct.Message("%d events are lost", e.Lost))
			continue
		case e.Flow == nil || !t.Wants(kinds[e.Event]):
			continue
		}
		f, ok := running.TrackedFlow(e.Flow)
		if !ok || !t.Match(&f) {
			continue
		}
		*n++
		if err := t.print(&f, e.Flow, kinds[e.Event], e.Time.Local()); err != nil {
			return err
		}
		if err := t.stdout.Flush(); err != nil {
			return err
		}
	}
	return nil
}

// print prints a flow, or an event of it, in the form that was asked for.
func (t *tracker) print(f *nfct.Flow, a *api.Flow, e nfct.Event, at time.Time) error {
	t.line = t.line[:0]
	switch {
	case t.JSON && e != nfct.NoEvent:
		return output{w: t.stdout, form: "json"}.object(t.stdout, api.FlowEvent{Time: at, Event: []string{nfct.New: "new", nfct.Update: "update", nfct.Destroy: "destroy"}[e], Flow: a})
	case t.JSON:
		return output{w: t.stdout, form: "json"}.object(t.stdout, a)
	case t.Save:
		t.line = f.AppendSave(t.line, e)
	case t.XML:
		t.header()
		t.line = f.AppendXML(t.line, t.Output, e, at)
	default:
		t.line = f.AppendLine(t.line, t.Output, e, at)
	}
	_, err := t.stdout.Write(append(t.line, '\n'))
	return err
}

// header begins the document of XML, before the first flow.
func (t *tracker) header() {
	if !t.hasHeader {
		t.hasHeader = true
		fmt.Fprint(t.stdout, nfct.XMLHeader)
	}
}

// footer ends the document, if there is one.
func (t *tracker) footer() {
	if t.hasHeader {
		fmt.Fprint(t.stdout, nfct.XMLFooter)
	}
}
