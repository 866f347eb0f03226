package proxy

import (
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"go.uber.org/zap"

	"usher/proxy/flow"
)

// accessBacklog bounds the ended flows that wait for their line to be written.
// When a slow log reader lets it fill up, lines are dropped and counted: bytes
// of other flows never wait for a log.
const accessBacklog = 16384

// accessRecord is what the access log says of one flow.
type accessRecord flow.Record

// accessLog writes one line a flow, away from the loops that end them. While the server traces, it writes the choices of
// backends, too.
// A nil *accessLog writes nothing.
type accessLog struct {
	log     *zap.Logger
	isFull  bool // every flow has a line, not those of some services alone
	records chan flow.Record
	flushes chan chan struct{}
	dropped atomic.Uint64
	writer  sync.WaitGroup
}

func newAccessLog(log *zap.Logger, isFull bool) *accessLog {
	l := &accessLog{log: log, isFull: isFull, records: make(chan flow.Record, accessBacklog), flushes: make(chan chan struct{})}
	l.writer.Go(l.write)
	return l
}

// add hands a record over without waiting.
func (l *accessLog) add(r flow.Record) {
	if l == nil {
		return
	}
	select {
	case l.records <- r:
	default:
		l.dropped.Add(1)
	}
}

// close writes what is left. No add may follow.
func (l *accessLog) close() {
	if l == nil {
		return
	}
	close(l.records)
	l.writer.Wait()
}

func (l *accessLog) write() {
	for {
		select {
		case r, ok := <-l.records:
			if !ok {
				return
			}
			l.put(r)
		case done := <-l.flushes:
			for range len(l.records) {
				l.put(<-l.records)
			}
			close(done)
		}
	}
}

func (l *accessLog) put(r flow.Record) {
	l.line(accessRecord(r))
	if n := l.dropped.Swap(0); n > 0 {
		l.log.Warn("access log lines dropped, their reader is too slow", zap.Uint64("lines", n))
	}
}

// flush waits until what was added before is written, or for so long at most.
func (l *accessLog) flush(most time.Duration) {
	if l == nil {
		return
	}
	late := time.NewTimer(most)
	defer late.Stop()
	done := make(chan struct{})
	select {
	case l.flushes <- done:
	case <-late.C:
		return
	}
	select {
	case <-done:
	case <-late.C:
	}
}

// line writes a record. A name that ends in _ms is a number of milliseconds, with microseconds behind its point.
func (l *accessLog) line(r accessRecord) {
	if r.Outcome == flow.Running {
		l.choice(&r)
		return
	}
	level := zap.InfoLevel
	if !l.isFull && !r.Settings.LogAccess {
		level = zap.DebugLevel // the record is there because the server traces
	}
	if !l.log.Core().Enabled(level) {
		return
	}
	connect := zap.Skip()
	if r.Connect >= 0 {
		connect = milliseconds("connect_ms", r.Connect)
	}
	via := flow.Via{}
	if r.Via != nil {
		via = *r.Via
	}
	peer, others := zap.Skip(), zap.Skip()
	if via.Peer.IsValid() {
		peer = zap.Stringer("peer", via.Peer)
	}
	if r.Others > 0 {
		others = zap.Uint64("others", r.Others)
	}
	l.log.Log(level, "flow",
		zap.String("client", r.clientText()),
		peer,
		zap.String("listener", r.listenerText()),
		zap.String("service", r.Settings.Service.Name),
		zap.String("backend", r.backendText()),
		zap.String("network", r.network()),
		connect,
		milliseconds("duration_ms", r.Duration),
		zap.Uint64("bytes_up", r.Up),
		zap.Uint64("bytes_down", r.Down),
		zap.Uint8("tries", r.Tries),
		textUnlessEmpty("sni", via.ServerName),
		textUnlessEmpty("id", via.ID),
		zap.Stringer("end", r.Outcome),
		others,
	)
}

// choice writes which backend a flow has got, and why.
func (l *accessLog) choice(r *accessRecord) {
	if !l.log.Core().Enabled(zap.DebugLevel) {
		return
	}
	l.log.Debug("backend chosen",
		zap.String("client", r.clientText()),
		zap.String("listener", r.listenerText()),
		zap.String("service", r.Settings.Service.Name),
		zap.String("backend", r.backendText()),
		zap.String("why", r.whyText()),
		milliseconds("after_ms", r.Duration),
	)
}

// whyText says what a backend was chosen by, as in "lc, failover, try 2".
func (r *accessRecord) whyText() string {
	by, hashes := r.Settings.Pool.Scheduler()
	if hashes {
		by += ", hash"
	}
	if r.Why&flow.WhyAffinity != 0 {
		by = ""
	}
	words := make([]string, 0, 3)
	for _, w := range []string{by, r.Why.String()} {
		if w != "" {
			words = append(words, w)
		}
	}
	if r.Tries > 1 {
		words = append(words, fmt.Sprintf("failover, try %d", r.Tries))
	}
	return strings.Join(words, ", ")
}

func textUnlessEmpty(name, text string) zap.Field {
	if text == "" {
		return zap.Skip()
	}
	return zap.String(name, text)
}

func milliseconds(name string, d time.Duration) zap.Field {
	return zap.Float64(name, float64(d.Microseconds())/1000)
}

func (r *accessRecord) network() string {
	switch {
	case r.Path != "":
		return "unix"
	case r.Settings.IsUDP():
		return "udp"
	}
	return "tcp"
}

func (r *accessRecord) clientText() string {
	if !r.Client.IsValid() {
		return "unix"
	}
	return r.Client.String()
}

// listenerText is where the client came in. A tcp listener on all addresses has no host, as where it is set.
func (r *accessRecord) listenerText() string {
	if r.Path != "" {
		return Listener{Network: "unix", Path: r.Path}.String()
	}
	v6only := slices.ContainsFunc(r.Settings.Listeners, func(l Listener) bool { return l.V6Only && l.Has(r.Local) })
	return Listener{Network: "tcp", Addr: r.Local, V6Only: v6only}.String()
}

// backendText is the very address that the flow was sent to: of a backend without a port or with several, the port used.
func (r *accessRecord) backendText() string {
	if r.Backend == nil {
		return "-"
	}
	if at, path := r.Target(r.Backend); path == "" {
		return at.String()
	}
	return r.Backend.String()
}
