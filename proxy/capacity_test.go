package proxy

import (
	"errors"
	"slices"
	"testing"
)

// What there is no room for is named, the last services first, and nothing has changed.
func TestCapacityErrorNamesServices(t *testing.T) {
	t.Parallel()
	eachEngine(t, func(t *testing.T, engine string) {
		s, err := New(Options{Engine: engine, Workers: 1, MaxConns: 10})
		if err != nil {
			t.Fatal(err)
		}
		defer s.Close()
		a, b, c := named(t, "a"), named(t, "b"), named(t, "c")
		a.Reserve, c.Reserve = 6, 5
		refused := func(want ...string) {
			t.Helper()
			err := s.Apply(pointers([]ServiceConfig{a, b, c}))
			if e, is := errors.AsType[*CapacityError](err); !is || !slices.Equal(e.Services, want) {
				t.Errorf("%v, want services %v", err, want)
			}
			if len(s.Services()) > 0 {
				t.Error("something has changed")
			}
		}
		refused("c")
		a.Reserve = 11
		refused("c", "a")
		a.Reserve, c.Reserve = 0, 0
		const many = 1 << 30
		share := shareDescriptors(0, consumers{listening: many, workers: s.workers, pipes: s.kind.pipes})
		own := s.kind.sockets(a.Listeners[0], s.workers)
		s.sockets = many - share.lacking - own // there is room for one more listener
		refused("c", "b")
		s.sockets += own
		refused("c", "b", "a")
		s.sockets++ // of others: without any of these it is too much
		refused("c", "b", "a")
		s.sockets = 0
		if err := s.Apply(pointers([]ServiceConfig{a, b, c})); err != nil {
			t.Error(err)
		}
	})
}
