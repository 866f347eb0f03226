package admin

import (
	"context"
	"net/http"
	"reflect"
	"sync"
	"time"

	"usher/internal/api"
)

// Bounds of the live stream.
const (
	livePeriod = time.Second // between two snapshots for one reader
	liveEvents = 64          // that wait here for a reader that is being written to; the rest waits in control's bound
)

// snapshot is all services at one moment. Nobody writes to it: readers share it.
type snapshot struct {
	time     time.Time
	services []api.Service
	byName   map[string]*api.Service
}

// snapshots makes one snapshot for all readers that ask within half a period, so that more readers cost no more looks at
// the services. Without a reader it keeps nothing. The zero value is ready.
type snapshots struct {
	mu      sync.Mutex
	readers int
	last    *snapshot
}

func (s *snapshots) enter() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.readers++
}

func (s *snapshots) leave() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.readers--; s.readers == 0 {
		s.last = nil
	}
}

func (s *snapshots) take(c Controller) *snapshot {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := time.Now()
	if s.last != nil && now.Sub(s.last.time) < livePeriod/2 {
		return s.last
	}
	all := c.Services()
	s.last = &snapshot{time: now, services: all, byName: make(map[string]*api.Service, len(all))}
	for i := range all {
		s.last.byName[all[i].Name] = &all[i]
	}
	return s.last
}

// followLive answers with server-sent events: a snapshot each period, of which a service that has not changed is left
// out, and between them what happens. A reader that is slow misses snapshots. The next one it gets is against the last
// one that it got, so that nothing waits for it.
func (h *Handler) followLive(w http.ResponseWriter, r *request) error {
	h.live.enter()
	defer h.live.leave()
	ctx, cancel := context.WithCancel(r.Context())
	events, ended := h.liveEvents(ctx)
	defer func() {
		cancel()
		<-ended
	}()
	w.Header().Set("Content-Type", "text/event-stream")
	w.Header().Set("X-Accel-Buffering", "no") // of nginx, if it stands between
	out := newLines(w)
	_ = out.text("retry: 1000\n\n") // milliseconds until a browser connects again
	tick := time.NewTicker(livePeriod)
	defer tick.Stop()
	for last := (*snapshot)(nil); ; {
		if next := h.live.take(h.control); next != last {
			if h.sendSnapshot(out, last, next, changesOf(ctx)) != nil {
				return nil // the reader is gone
			}
			last = next
		}
		for isTime := false; !isTime; {
			select {
			case <-ctx.Done():
				return nil
			case e := <-events:
				if out.event("event", e) != nil || len(events) == 0 && out.flush() != nil {
					return nil
				}
			case <-ended:
				return nil // usher stops
			case <-tick.C:
				isTime = true
			}
		}
	}
}

// liveEvents follows the events from now on until ctx ends or usher stops; then ended is closed.
func (h *Handler) liveEvents(ctx context.Context) (events <-chan api.Event, ended <-chan struct{}) {
	follow, to, done := h.control.Events(ctx), make(chan api.Event, liveEvents), make(chan struct{})
	go func() {
		defer close(done)
		for e := range follow {
			select {
			case to <- e:
			case <-ctx.Done():
				return
			}
		}
	}()
	return to, done
}

// sendSnapshot writes what next has and last has not; without last all. A service is encoded on its own, so that the text
// is never there as a whole.
func (h *Handler) sendSnapshot(out *lines, last, next *snapshot, changes string) error {
	end := api.Snapshot{Time: next.time, IsWhole: last == nil, Changes: changes, Process: h.process.Info()}
	for i := range next.services {
		s := &next.services[i]
		var before *api.Service
		if last != nil {
			before = last.byName[s.Name]
		}
		kind, changed := difference(before, s)
		if kind != "" && out.event(kind, changed) != nil {
			return context.Canceled
		}
	}
	if last != nil {
		for i := range last.services {
			if name := last.services[i].Name; next.byName[name] == nil {
				end.Removed = append(end.Removed, name)
			}
		}
	}
	if err := out.event("snapshot", &end); err != nil {
		return err
	}
	return out.flush()
}

// difference returns the event that brings a reader from one state of a service to the next one: "service" is all of it,
// "change" has only the backends that differ, and "" means that nothing does.
func difference(before, s *api.Service) (kind string, changed *api.Service) {
	if before == nil || !hasSameBackends(before, s) {
		return "service", s
	}
	var differ []api.Backend
	for i := range s.Backends {
		if s.Backends[i] != before.Backends[i] {
			differ = append(differ, s.Backends[i])
		}
	}
	was, is := *before, *s
	was.Backends, is.Backends = nil, nil
	if len(differ) == 0 && reflect.DeepEqual(&was, &is) {
		return "", nil
	}
	is.Backends = differ
	if differ == nil {
		is.Backends = []api.Backend{}
	}
	return "change", &is
}

// hasSameBackends reports whether two states of a service have the same addresses in the same order.
func hasSameBackends(a, b *api.Service) bool {
	if len(a.Backends) != len(b.Backends) {
		return false
	}
	for i := range a.Backends {
		if a.Backends[i].Address != b.Backends[i].Address {
			return false
		}
	}
	return true
}

// event writes a server-sent event, whose data is an object in one line.
func (l *lines) event(kind string, v any) error {
	if err := l.text("event: " + kind + "\ndata: "); err != nil {
		return err
	}
	if err := l.write(v); err != nil {
		return err
	}
	return l.text("\n")
}

// changesKey is where the context of a request says what changes of its sender need.
type changesKey struct{}

// changesOf returns what changes by the sender of a request need: nothing on the control socket; on an admin address the
// token, or none can be made.
func changesOf(ctx context.Context) string {
	if word, ok := ctx.Value(changesKey{}).(string); ok {
		return word
	}
	return "free"
}
