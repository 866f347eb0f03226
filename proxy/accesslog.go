package proxy

import (
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"go.uber.org/zap"

	"usher/balancer"
)

// accessBacklog bounds the ended flows that wait for their line to be written.
// When a slow log reader lets it fill up, lines are dropped and counted: bytes
// of other flows never wait for a log.
const accessBacklog = 16384

// accessRecord is what the access log says of one flow.
type accessRecord struct {
	svc      *Service
	backend  *balancer.Backend // the last one reserved; nil if none was
	client   netip.AddrPort
	connect  time.Duration // until a backend accepted; negative if none did
	duration time.Duration
	up, down uint64
	tries    uint8
	outcome  Outcome
}

// accessLog writes one line a flow, away from the loops that end them.
// A nil *accessLog writes nothing.
type accessLog struct {
	log     *zap.Logger
	records chan accessRecord
	dropped atomic.Uint64
	writer  sync.WaitGroup
}

func newAccessLog(log *zap.Logger) *accessLog {
	l := &accessLog{log: log, records: make(chan accessRecord, accessBacklog)}
	l.writer.Go(l.write)
	return l
}

// add hands a record over without waiting.
func (l *accessLog) add(r accessRecord) {
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
	for r := range l.records {
		l.line(r)
		if n := l.dropped.Swap(0); n > 0 {
			l.log.Warn("access log lines dropped, their reader is too slow", zap.Uint64("lines", n))
		}
	}
}

func (l *accessLog) line(r accessRecord) {
	peer := "unix"
	if r.client.IsValid() {
		peer = r.client.String()
	}
	to := "-"
	if r.backend != nil {
		to = r.backend.String()
	}
	connect := zap.Skip()
	if r.connect >= 0 {
		connect = zap.Duration("connect", r.connect)
	}
	l.log.Info("flow",
		zap.String("client", peer),
		zap.String("service", r.svc.Name),
		zap.String("backend", to),
		connect,
		zap.Duration("duration", r.duration),
		zap.Uint64("up", r.up),
		zap.Uint64("down", r.down),
		zap.Uint8("tries", r.tries),
		zap.Stringer("end", r.outcome),
	)
}
