package app

import (
	"sync"
	"time"

	"go.uber.org/zap"

	"usher/proxy"
	"usher/proxy/flow"
)

// dropsEvery is the shortest interval between two log lines about drops.
const dropsEvery = 10 * time.Second

// dropReasons are the reasons for which a datagram may be dropped.
var dropReasons = [...]proxy.Drop{flow.DropRefused, flow.DropFull, flow.DropOversized, flow.DropKernel, flow.DropReplies}

// remedies are the ends of flows that an operator may act on. They are of clients that were turned away, and of flows
// that made room for others. Who is denied by a rule or a list, or dropped by --on-empty, has no remedy: somebody wants it so.
var remedies = [...]struct {
	end  proxy.Outcome
	what string
	text string
}{
	{flow.ServerFull, turnedAway, "raise --max-conns or ulimit -n, give the service a --reserve, or bound idle flows (--idle-timeout, --reclaim-idle, --udp-idle-timeout)"},
	{flow.ServiceFull, turnedAway, "raise --max-flows, or end flows sooner (--udp-replies, --udp-idle-timeout)"},
	{flow.ClientFull, turnedAway, "raise --max-client-flows or set it off, if many clients are behind one address"},
	{flow.BackendsFull, turnedAway, "raise max= of the backends, add one, or have tcp clients wait (--queue)"},
	{flow.QueueFull, turnedAway, "raise max= of the backends, add one, or lengthen --queue"},
	{flow.QueueTimeout, turnedAway, "raise max= of the backends, add one, or have --queue wait longer"},
	{flow.NoResources, turnedAway, "raise ulimit -n, or lower --max-conns"},
	{flow.NoLocalPort, turnedAway, "widen net.ipv4.ip_local_port_range, add a backend, or end flows sooner"},
	{flow.NoBackend, turnedAway, "add a backend, or have clients wait (--wait)"},
	{flow.ConnectFailed, turnedAway, "see whether the backends listen, or raise --connect-timeout"},
	{flow.Refused, turnedAway, "see whether the backends listen"},
	{flow.Draining, turnedAway, "start a successor before this one drains"},
	{flow.Denied, turnedAway, ""},
	{flow.RateLimited, turnedAway, "raise --client-rate or --rate, if these clients are welcome"},
	{flow.ClientLimit, turnedAway, "raise --max-client-conns, or end idle connections sooner (--idle-timeout)"},
	{flow.BadProxyHeader, turnedAway, "see whether all peers in --accept-proxy send a PROXY header, their checks included"},
	{flow.NoServerName, turnedAway, "add a listener with the sni= of these clients, or one without for all others"},
	{flow.NoEndpoint, turnedAway, ""},
	{flow.Evicted, madeRoom, "raise --max-conns, ulimit -n or --max-flows, or end flows sooner (--udp-replies, --udp-idle-timeout)"},
	{flow.Reclaimed, madeRoom, "raise --max-conns or ulimit -n"},
}

const (
	turnedAway = "clients turned away"
	madeRoom   = "flows ended to make room for new ones"
)

// dropReporter logs which datagrams services dropped and which clients they turned away. It reports at intervals while
// there are any, and once more at the end.
type dropReporter struct {
	services func() []*proxy.Service
	log      *zap.Logger
	logged   map[*proxy.Service]*drops
	asked    chan chan struct{}
	done     chan struct{}
	loop     sync.WaitGroup
}

// drops are the counts of a service, as last logged.
type drops struct {
	datagrams [len(dropReasons)]uint64
	ended     [len(remedies)]uint64
	starved   uint64
	fellBack  uint64
}

// newDropReporter reports what comes after the counts of now: those of before an upgrade were reported there.
func newDropReporter(services func() []*proxy.Service, log *zap.Logger) *dropReporter {
	d := &dropReporter{
		services: services, log: zap.NewNop(),
		logged: make(map[*proxy.Service]*drops),
		asked:  make(chan chan struct{}),
		done:   make(chan struct{}),
	}
	d.report()
	d.log = log
	d.loop.Go(d.run)
	return d
}

// now has what is new reported, and returns when that is done.
func (d *dropReporter) now() {
	done := make(chan struct{})
	select {
	case d.asked <- done:
		<-done
	case <-d.done:
	}
}

// close stops it after a last report.
func (d *dropReporter) close() {
	close(d.done)
	d.loop.Wait()
}

func (d *dropReporter) run() {
	t := time.NewTicker(dropsEvery)
	defer t.Stop()
	for {
		select {
		case <-d.done:
			d.report()
			return
		case <-t.C:
			d.report()
		case done := <-d.asked:
			d.report()
			close(done)
		}
	}
}

// report logs the growth of each service's counts since the last time. A service that has gone has its last report.
func (d *dropReporter) report() {
	before := d.logged
	services := d.services()
	d.logged = make(map[*proxy.Service]*drops, len(services))
	for _, s := range services {
		last := before[s]
		if last == nil {
			last = new(drops)
		}
		delete(before, s)
		d.logged[s] = last
		d.reportService(s, last)
	}
	for s, last := range before {
		d.reportService(s, last)
	}
}

func (d *dropReporter) reportService(s *proxy.Service, last *drops) {
	d.reportDatagrams(s, last)
	d.reportEnds(s, last)
	if n := more(s.Starved(), &last.starved); n > 0 && !s.IsUDP() {
		d.warn(s, "accepting paused for lack of descriptors", zap.Uint64("times", n), zap.String("remedy", "raise ulimit -n, or lower --max-conns"))
	}
	if n := more(s.FellBack(), &last.fellBack); n > 0 {
		d.log.Info("sockets without segmentation offload", zap.String("service", s.Name), zap.Uint64("more", n))
	}
}

func (d *dropReporter) reportDatagrams(s *proxy.Service, last *drops) {
	var fields []zap.Field
	for i, reason := range dropReasons {
		if n := more(s.Dropped(reason), &last.datagrams[i]); n > 0 {
			fields = append(fields, zap.Uint64(reason.String(), n))
		}
	}
	if len(fields) > 0 {
		d.warn(s, "datagrams dropped", fields...)
	}
}

// reportEnds has one line for each reason.
func (d *dropReporter) reportEnds(s *proxy.Service, last *drops) {
	for i, r := range remedies {
		n := more(s.Ended(r.end), &last.ended[i])
		switch {
		case n == 0:
		case r.text == "":
			d.log.Info(r.what, zap.String("service", s.Name), zap.Stringer("reason", r.end), zap.Uint64("count", n))
		default:
			d.warn(s, r.what, zap.Stringer("reason", r.end), zap.Uint64("count", n), zap.String("remedy", r.text))
		}
	}
}

func (d *dropReporter) warn(s *proxy.Service, what string, fields ...zap.Field) {
	d.log.Warn(what, append([]zap.Field{zap.String("service", s.Name)}, fields...)...)
}

// more returns how much a count has grown since it was last logged, and stores it as logged.
func more(now uint64, logged *uint64) uint64 {
	n := now - *logged
	*logged = now
	return n
}
