package proxy

import (
	"sync"
	"sync/atomic"
	"time"

	"usher/conntrack"
	"usher/proxy/flow"
)

func (e *epollEngine) terminate(rows []Row, as Outcome) int {
	var ended atomic.Int64
	e.visit(rows, func(w *worker, r *Row) {
		if w.terminate(r, as) {
			ended.Add(1)
		}
	})
	return int(ended.Load())
}

func (e *epollEngine) measureRTT(rows []Row) { e.visit(rows, (*worker).measureRTT) }

func (e *epollEngine) countBytes() {
	e.rounds(func(w *worker, round int) (more bool) {
		from := round * flow.CutShare
		more = w.countBytes(from)
		return w.udp.sessions.CountBytes(from) || more
	})
}

// countBytes counts for the connections among CutShare slots. It reports whether there are
// more slots.
func (w *worker) countBytes(from int) (more bool) {
	for i := from / connChunk; i < len(w.conns); i++ {
		if i*connChunk >= from+flow.CutShare {
			return true
		}
		for j := range w.conns[i] {
			if c := &w.conns[i][j]; c.half[flow.Client].fd >= 0 {
				c.CountBytes()
			}
		}
	}
	return false
}

func (e *epollEngine) workerStats() (all []WorkerStats) {
	now := e.server.Now()
	for _, w := range e.workers {
		longest := w.load.longestTurn(now) // first: a turn that it shows is in busy, too
		all = append(all, WorkerStats{
			Busy: time.Duration(w.load.busy.Load()), LongestTurn: longest,
			Connections: w.table.Len(), Sessions: w.udp.sessions.Len(),
		})
	}
	return all
}

// visit runs do for each row on the loop of its worker, and waits for it. Meanwhile do may write to a row: of the others'
// rows nobody reads more than the worker.
func (e *epollEngine) visit(rows []Row, do func(*worker, *Row)) {
	has := make(map[int]bool, len(e.workers))
	for i := range rows {
		has[rows[i].worker] = true
	}
	var done sync.WaitGroup
	for _, w := range e.workers {
		if !has[w.number] {
			continue
		}
		done.Add(1)
		w.enqueue(func() {
			defer done.Done()
			for i := range rows {
				if rows[i].worker == w.number {
					do(w, &rows[i])
				}
			}
		})
	}
	done.Wait()
}

// terminate ends the flow of a row, and reports whether there was one.
func (w *worker) terminate(r *Row, as Outcome) bool {
	if r.Key.Proto() == conntrack.UDP {
		return w.udp.sessions.Terminate(&r.Row, as, w.now)
	}
	if !w.table.Has(&r.Row) {
		return false
	}
	c := w.conn(r.ID)
	a := c.Terminate(as, w.now)
	w.follow(c, a)
	return a.Do == flow.End || a.Do == flow.Deliver
}

// measureRTT asks the kernel for the round trip time to the client of a row.
func (w *worker) measureRTT(r *Row) {
	r.RTT = 0
	if r.Key.Proto() != conntrack.TCP || !w.table.Has(&r.Row) {
		return
	}
	if tcpInfo(w.conn(r.ID).half[flow.Client].fd, &w.info) == noError {
		r.RTT = time.Duration(w.info.Rtt) * time.Microsecond
	}
}
