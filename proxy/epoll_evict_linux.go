package proxy

import (
	"time"

	"usher/proxy/flow"
)

// askEvery bounds how often one worker, however flooded, wakes the others.
const askEvery = time.Millisecond

// evict ends the flow of this worker that will be missed least among those whose end eases a shortage.
func (w *worker) evict(s flow.Shortage) bool {
	return w.udp.sessions.Evict(s, nil, w.now) || w.reclaim(s)
}

// newcomersMost bounds the clients that wait for the answers of other workers.
const newcomersMost = 64

// await holds a client that the other workers may have room for, until they have
// answered: a moment, for nothing else is waited for. It reports false if none can have any.
func (w *worker) await(n *newcomer) bool {
	if !w.server.admission.CanEvict() || len(w.workers) == 1 || len(w.newcomers) == newcomersMost {
		return false
	}
	w.newcomers = append(w.newcomers, *n)
	if w.answers == 0 {
		w.askForNewcomers()
	}
	return true
}

// askForNewcomers asks each other worker for one place for the service of the first
// newcomer.
func (w *worker) askForNewcomers() {
	w.roomFound = false
	s := flow.Shortage{Settings: w.newcomers[0].cfg, Of: w.newcomers[0].short}
	for _, other := range w.workers {
		if other == w {
			continue
		}
		w.answers++
		other.enqueue(func() {
			room := !w.server.admission.Lasts(s) || other.evict(s)
			w.enqueue(func() { w.onAnswer(s.Settings.Service, room) })
		})
	}
}

// onAnswer starts the flows of newcomers for which there is room by now. When all workers
// have answered and none had room for svc, its newcomers are turned away; the others ask
// anew.
func (w *worker) onAnswer(svc *Service, room bool) {
	w.answers--
	w.roomFound = w.roomFound || room
	waiting := w.newcomers
	w.newcomers = nil
	for i := range waiting {
		n := &waiting[i]
		if n.short = w.server.admission.Place(n.cfg); n.short == flow.Running {
			w.begin(n)
		} else if w.answers == 0 && !w.roomFound && n.cfg.Service == svc {
			w.turnAway(n)
		} else {
			w.newcomers = append(w.newcomers, *n)
		}
	}
	if w.answers == 0 && len(w.newcomers) > 0 {
		w.askForNewcomers()
	}
}

// turnNewcomersAway turns those of a service away; nil is all services.
func (w *worker) turnNewcomersAway(svc *Service) {
	waiting := w.newcomers
	w.newcomers = nil
	for i := range waiting {
		if n := &waiting[i]; svc == nil || n.cfg.Service == svc {
			w.turnAway(n)
		} else {
			w.newcomers = append(w.newcomers, *n)
		}
	}
}

// evictElsewhere makes room where no session of the worker can: it ends an idle
// connection, or asks the other workers. They are not waited for: this newcomer is
// refused, and there is room for the next.
func (w *worker) evictElsewhere(s flow.Shortage) bool {
	if w.reclaim(s) {
		return true
	}
	if len(w.workers) > 1 && w.now >= w.asking+askEvery {
		w.asking = w.now
		w.requestRemoteEviction(s)
	}
	return false
}

// requestRemoteEviction asks the other workers for room. One that still has such a
// request to look at gets no second one, so queues stay short.
func (w *worker) requestRemoteEviction(s flow.Shortage) {
	for _, other := range w.workers {
		if other == w || !other.asked.CompareAndSwap(false, true) {
			continue
		}
		other.enqueue(func() {
			other.asked.Store(false)
			other.onEvictRequest(s)
		})
	}
}

// onEvictRequest makes room for another worker, unless it has got some by now.
func (w *worker) onEvictRequest(s flow.Shortage) {
	if w.server.admission.Lasts(s) {
		w.evict(s)
	}
}

// reclaim ends the connection that has been idle longest of those whose end eases a
// shortage.
func (w *worker) reclaim(s flow.Shortage) bool {
	for range flow.EvictStale {
		id, ok := w.table.OldestIdle(s.Eases)
		if !ok {
			return false
		}
		c := w.conn(id)
		var a flow.Action
		if c.IsRelaying() {
			a = w.inspect(c) // the peers may have acknowledged something
		}
		if a.Do != flow.End {
			a = c.Flow.Reclaim(w.table, w.now)
		}
		if w.follow(c, a); a.Do == flow.End {
			return true
		}
	}
	return false
}
