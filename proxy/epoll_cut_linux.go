package proxy

import (
	"usher/conntrack"
	"usher/proxy/flow"
)

// cutProgress is how far a worker has come with a cut: the next slots to look at.
type cutProgress struct {
	conn, session         int
	hasConns, hasSessions bool // there may be more
}

// cut ends connections and sessions from the slots that are next, as many as go in a turn.
// It reports whether there may be more.
func (w *worker) cut(t flow.CutTarget, how Cut, at *cutProgress) (more bool) {
	if t.Service != nil {
		w.turnNewcomersAway(t.Service)
	}
	if at.hasConns {
		at.conn, at.hasConns = w.cutConns(t, how, at.conn)
	} else if at.hasSessions {
		at.session, at.hasSessions = w.udp.sessions.CutFlows(t, at.session, w.now)
	}
	return at.hasConns || at.hasSessions
}

// cutConns ends up to EndShare connections among CutShare slots; those that are still
// connecting to a backend that is cut go on to another one. It returns the next slot, and
// whether there is one.
func (w *worker) cutConns(t flow.CutTarget, how Cut, from int) (next int, more bool) {
	all, ended := len(w.conns)*connChunk, 0
	next = min(from+flow.CutShare, all)
	for i := from; i < next; i++ {
		c := w.conn(conntrack.ID(i))
		if c.half[flow.Client].fd < 0 || !c.IsCutBy(t) {
			continue
		}
		w.follow(c, c.Cut(t, how, w.now))
		if ended++; ended == flow.EndShare {
			next = i + 1
		}
	}
	return next, next < all
}

// woken lets a flow look for a backend that has been in the queue.
func (w *worker) woken(c *conn) {
	if c.half[flow.Client].fd >= 0 {
		w.follow(c, c.Flow.Woken(w.now))
	}
}
