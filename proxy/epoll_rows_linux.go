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
		if r.isTerminated = w.terminate(r, as); r.isTerminated {
			ended.Add(1)
		}
	})
	return int(ended.Load())
}

func (e *epollEngine) measure(rows []Row) { e.visit(rows, (*worker).measure) }

func (e *epollEngine) feeds() (all []*flow.Feed) {
	for _, w := range e.workers {
		all = append(all, &w.feed)
	}
	return all
}

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
				w.countPackets(c)
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

// measure asks the flow of a row, and the kernel, for what they know of its sockets.
func (w *worker) measure(r *Row) {
	r.Sockets = Sockets{}
	switch {
	case r.Key.Proto() == conntrack.UDP:
		if x := w.udp.sessions.Find(&r.Row); x != nil {
			r.Sockets = w.udp.measure(x)
		}
	case w.table.Has(&r.Row):
		r.Sockets = w.measureConn(w.conn(r.ID))
	}
}

func (w *worker) measureConn(c *conn) (s Sockets) {
	s.Detail = c.Detail(w.now)
	if fd := c.half[flow.Backend].fd; fd >= 0 && s.Target.IsValid() {
		s.Source = localAddr(fd, &w.sa)
	}
	if c.Local.Addr().IsUnspecified() {
		s.Local = localAddr(c.half[flow.Client].fd, &w.sa)
	}
	if tcpInfo(c.half[flow.Client].fd, &w.info) == noError {
		setInfo(&s, &w.info)
	}
	return s
}

// measure is measureConn for a session.
func (d *datagrams) measure(x *flow.Session) (s Sockets) {
	s.Detail = x.Detail(d.w.now)
	if fd := d.socket(x.ID).fd; fd >= 0 {
		s.Source = localAddr(fd, &d.w.sa)
	}
	return s
}
