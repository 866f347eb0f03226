package proxy

import (
	"sync/atomic"
	"time"
)

// countEvery bounds how often the bytes of running flows are counted, however many readers
// ask.
const countEvery = 100 * time.Millisecond

// CountBytes brings the byte counters of services and backends up to date with what running
// flows have carried. A reader calls it before it reads them; counters that are younger than
// 100 ms are left alone. Loops look at a share of their flows a turn.
func (s *Server) CountBytes() {
	s.counting.Lock()
	defer s.counting.Unlock()
	if now := s.Now(); s.countedAt == 0 || now-s.countedAt >= countEvery {
		s.whileRunning(s.engine.countBytes)
		s.countedAt = now
	}
}

// MaxConns returns how many flows there may be at any one time.
func (s *Server) MaxConns() int { return s.admission.MaxConns() }

// Engine returns the name of the engine that carries the flows: epoll or portable.
func (s *Server) Engine() string { return s.kind.name }

// WorkerCount returns how many workers the engine has.
func (s *Server) WorkerCount() int { return s.workers }

// WorkerStats is what an event loop has done, and has.
type WorkerStats struct {
	Busy        time.Duration // not waiting for events, since the start
	LongestTurn time.Duration // of the last minute or two
	Connections int           // TCP and unix
	Sessions    int           // UDP
}

// Workers returns the state of each event loop. The portable engine has none.
func (s *Server) Workers() []WorkerStats { return s.engine.workerStats() }

// loopLoad is how busy a loop is. The loop writes it, any goroutine reads it.
type loopLoad struct {
	busy    atomic.Int64    // time.Duration
	longest [2]atomic.Int64 // of even and odd windows, the present and the last one
	window  atomic.Int64    // the number of the present one
}

// loadWindow is how long a turn counts as the longest, at least.
const loadWindow = time.Minute

// observe notes a turn that has just ended.
func (l *loopLoad) observe(turn, now time.Duration) {
	l.busy.Store(l.busy.Load() + int64(turn))
	window := int64(now / loadWindow)
	if last := l.window.Load(); window != last {
		l.longest[window%2].Store(0)
		if window > last+1 {
			l.longest[(window+1)%2].Store(0)
		}
		l.window.Store(window)
	}
	if longest := &l.longest[window%2]; int64(turn) > longest.Load() {
		longest.Store(int64(turn))
	}
}

// longestTurn returns the longest turn of the present window and the one before it.
func (l *loopLoad) longestTurn(now time.Duration) time.Duration {
	if int64(now/loadWindow) > l.window.Load()+1 {
		return 0 // the loop has slept since
	}
	return time.Duration(max(l.longest[0].Load(), l.longest[1].Load()))
}
