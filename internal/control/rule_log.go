package control

import (
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"

	"usher/proxy/rules"
)

const (
	// ruleLogBacklog bounds the lines of LOG rules that wait to be written. Further ones are counted.
	ruleLogBacklog = 1024
	// ruleLogRate is how many are written a second.
	ruleLogRate = 100
)

// ruleLog writes the lines of rules with target LOG, away from the loops that judge clients.
type ruleLog struct {
	log     *zap.Logger
	entries chan ruleEntry
	omitted atomic.Uint64 // since the last line that says so
	writer  sync.WaitGroup
	done    chan struct{}
}

// ruleEntry is a client that came to a rule.
type ruleEntry struct {
	rule   *rules.Rule
	packet rules.Packet
}

// newRuleLog returns a log whose owner calls close.
func newRuleLog(log *zap.Logger) *ruleLog {
	l := &ruleLog{log: log, entries: make(chan ruleEntry, ruleLogBacklog), done: make(chan struct{})}
	l.writer.Go(l.run)
	return l
}

// add hands a line over without waiting. Any goroutine may call it, also after close.
func (l *ruleLog) add(r *rules.Rule, p rules.Packet) {
	select {
	case l.entries <- ruleEntry{r, p}:
	default:
		l.omitted.Add(1)
	}
}

// close writes what is left, within the rate of the present second.
func (l *ruleLog) close() {
	close(l.done)
	l.writer.Wait()
}

// run writes at most ruleLogRate lines in each second, and then how many it left out.
func (l *ruleLog) run() {
	second := time.NewTicker(time.Second)
	defer second.Stop()
	written := 0
	put := func(e ruleEntry) {
		if written++; written > ruleLogRate {
			l.omitted.Add(1)
			return
		}
		l.put(e)
	}
	for {
		select {
		case e := <-l.entries:
			put(e)
		case <-second.C:
			written = 0
			l.putOmitted()
		case <-l.done:
			for range len(l.entries) {
				put(<-l.entries)
			}
			l.putOmitted()
			return
		}
	}
}

func (l *ruleLog) putOmitted() {
	if n := l.omitted.Swap(0); n > 0 {
		l.log.Warn("lines of rules left out, there were too many", zap.Uint64("lines", n))
	}
}

// put writes a line. Its message has the form of the kernel's, for those who read that; its fields say the same.
func (l *ruleLog) put(e ruleEntry) {
	line := l.log.Check(ruleLogLevel(e.rule.LogLevel), ruleLogMessage(&e))
	if line == nil {
		return
	}
	line.Write(
		zap.String("prefix", e.rule.LogPrefix),
		zap.Stringer("client", e.packet.Client),
		zap.Stringer("local", e.packet.Local),
		zap.String("network", ruleNetwork(e.packet.Protocol)),
	)
}

// ruleLogLevel is the level that comes next to one of syslog: of emerg to err, warning, notice and info, debug.
func ruleLogLevel(syslog uint8) zapcore.Level {
	switch {
	case syslog <= 3:
		return zap.ErrorLevel
	case syslog == 4:
		return zap.WarnLevel
	case syslog <= 6:
		return zap.InfoLevel
	}
	return zap.DebugLevel
}

// ruleLogMessage is what the kernel's LOG target writes, as far as it is known here.
func ruleLogMessage(e *ruleEntry) string {
	p := &e.packet
	return fmt.Sprintf("%sIN=%s OUT= SRC=%s DST=%s PROTO=%s SPT=%d DPT=%d", e.rule.LogPrefix, p.Interface,
		p.Client.Addr().WithZone(""), p.Local.Addr().WithZone(""), strings.ToUpper(ruleNetwork(p.Protocol)), p.Client.Port(), p.Local.Port())
}

func ruleNetwork(p rules.Protocol) string {
	if p == rules.UDP {
		return "udp"
	}
	return "tcp"
}
