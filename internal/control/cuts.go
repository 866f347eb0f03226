package control

import (
	"sync"
	"time"

	"usher/proxy"
	"usher/proxy/flow"
)

// delayedCuts ends the flows of removed services, each after the time of its on-remove. The zero value is ready.
type delayedCuts struct {
	mu     sync.Mutex
	timers map[*time.Timer]delayedCut
	closed bool
	under  sync.WaitGroup // way
}

// delayedCut is one that is yet to come.
type delayedCut struct {
	service string
	how     proxy.Cut
	due     time.Time
}

// cuts are the ends of flows that an on-remove may have.
var cuts = map[string]proxy.Cut{"fin": flow.Fin, "reset": flow.Reset}

// cut has the flows of a removed service end as its on-remove says. One of its name may run, of another network: its own
// flows go on.
func (d *delayedCuts) cut(server *proxy.Server, s *service, hasSuccessor bool) {
	how := cuts[s.plan.OnRemove.How]
	end := func() {
		if !hasSuccessor {
			server.CutService(s.running, how)
			return
		}
		for _, b := range s.keeper.Pool().Backends() {
			server.CutBackend(b, how)
		}
	}
	switch after := s.plan.OnRemove.After; {
	case how == flow.Keep:
	case after == 0:
		end()
	default:
		d.add(delayedCut{s.plan.Name, how, time.Now().Add(after)}, end)
	}
}

// add has flows end when a cut is due.
func (d *delayedCuts) add(c delayedCut, end func()) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.closed {
		return
	}
	if d.timers == nil {
		d.timers = make(map[*time.Timer]delayedCut)
	}
	d.under.Add(1)
	var t *time.Timer
	t = time.AfterFunc(time.Until(c.due), func() {
		defer d.under.Done()
		end()
		d.mu.Lock()
		delete(d.timers, t)
		d.mu.Unlock()
	})
	d.timers[t] = c
}

// state returns what is yet to come.
func (d *delayedCuts) state() (all []EndState) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, c := range d.timers {
		all = append(all, EndState{c.service, uint8(c.how), max(time.Until(c.due), 0)})
	}
	return all
}

// restore has the flows of a service end that was removed before a restart.
func (d *delayedCuts) restore(server *proxy.Server, s *proxy.Service, st EndState) {
	how := proxy.Cut(st.How)
	d.add(delayedCut{s.Name, how, time.Now().Add(st.Left)}, func() { server.CutService(s, how) })
}

// close cancels what is not due yet, and waits for the rest.
func (d *delayedCuts) close() {
	d.mu.Lock()
	d.closed = true
	for t := range d.timers {
		if t.Stop() {
			d.under.Done()
		}
	}
	d.timers = nil
	d.mu.Unlock()
	d.under.Wait()
}
