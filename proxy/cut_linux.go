package proxy

import "usher/balancer"

// cutBackend ends the connections of a backend among cutShare slots; flows that are
// still connecting to it go on to another one. It reports whether there are more slots.
func (w *worker) cutBackend(b *balancer.Backend, how Cut, from int) (more bool) {
	for i := from / connChunk; i < len(w.conns); i++ {
		if i*connChunk >= from+cutShare {
			return true
		}
		for j := range w.conns[i] {
			c := &w.conns[i][j]
			if c.half[client].fd < 0 || c.backend != b {
				continue
			}
			switch c.phase {
			case relaying:
				c.gentle = how == Fin
				w.end(c, BackendDown)
			case connecting:
				w.abandon(c)
				c.release()
				w.connect(c)
			}
		}
	}
	return false
}

// woken lets a flow look for a backend that has been in the queue. The slot may be
// another flow's by now: for that one, a look before its time does no harm.
func (w *worker) woken(c *conn) {
	if c.half[client].fd >= 0 && c.phase == waiting {
		w.connect(c)
	}
}
