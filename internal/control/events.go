package control

import (
	"context"
	"fmt"
	"iter"
	"sync"
	"time"

	"usher/internal/api"
	"usher/internal/reconcile"
)

// maxEvents is how many events a reader may be behind.
const maxEvents = 1024

// hub hands events to readers. The zero value is ready.
type hub struct {
	mu      sync.Mutex
	readers map[*reader]bool
	closed  bool
}

// reader is one that follows events.
type reader struct {
	news chan struct{} // has room for one
	mu   sync.Mutex
	wait []api.Event // at most maxEvents
	lost int         // that there was no room for, behind wait
	done bool
}

// publish hands events to every reader, and waits for none.
func (h *hub) publish(events ...api.Event) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for r := range h.readers {
		r.add(events)
	}
}

func (r *reader) add(events []api.Event) {
	r.mu.Lock()
	for _, e := range events {
		if r.lost == 0 && len(r.wait) < maxEvents {
			r.wait = append(r.wait, e)
			continue
		}
		r.lost++
	}
	r.mu.Unlock()
	r.wake()
}

func (r *reader) wake() {
	select {
	case r.news <- struct{}{}:
	default:
	}
}

// take returns what has come. Behind what was lost stands an event that says how many.
func (r *reader) take() (events []api.Event, done bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	events, r.wait = r.wait, nil
	if r.lost > 0 {
		events = append(events, api.Event{Time: time.Now(), Event: "lost", Reason: fmt.Sprintf("%d events: this reader is too slow", r.lost)})
		r.lost = 0
	}
	return events, r.done
}

// Events returns the changes of services and backends from now on, until ctx ends or usher has stopped. A reader that is
// more than 1024 events behind gets one called lost in place of the rest.
func (c *Controller) Events(ctx context.Context) iter.Seq[api.Event] {
	r := &reader{news: make(chan struct{}, 1)}
	c.events.add(r)
	return func(yield func(api.Event) bool) {
		defer c.events.remove(r)
		for {
			events, done := r.take()
			for _, e := range events {
				if !yield(e) {
					return
				}
			}
			if done {
				return
			}
			select {
			case <-r.news:
			case <-ctx.Done():
				return
			}
		}
	}
}

// Publish hands an event of the process to the readers of events.
func (c *Controller) Publish(e api.Event) { c.events.publish(e) }

// onTransition publishes what the reconciler has found and done.
func (c *Controller) onTransition(transitions []reconcile.Transition) {
	events := make([]api.Event, len(transitions))
	for i, t := range transitions {
		events[i] = api.Event{
			Time: t.Time, Service: t.Service, Backend: t.Backend, Event: string(t.Kind), From: t.From, To: t.To, Reason: t.Reason,
		}
	}
	c.events.publish(events...)
}

func (h *hub) add(r *reader) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.readers == nil {
		h.readers = make(map[*reader]bool)
	}
	h.readers[r] = true
	r.done = h.closed
}

func (h *hub) remove(r *reader) {
	h.mu.Lock()
	defer h.mu.Unlock()
	delete(h.readers, r)
}

// close ends all readers, once they have what has come.
func (h *hub) close() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.closed = true
	for r := range h.readers {
		r.mu.Lock()
		r.done = true
		r.mu.Unlock()
		r.wake()
	}
}
