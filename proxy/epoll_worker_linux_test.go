package proxy

import (
	"testing"
	"time"
)

// TestLoopGivesItsPBack: a loop that keeps its P while it waits does so for a moment only,
// and then lends it for as long as it waits.
func TestLoopGivesItsPBack(t *testing.T) {
	t.Parallel()
	s, err := New(Options{Engine: "epoll", Workers: 1})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = s.Shutdown(t.Context()) }()
	w := s.engine.(*epollEngine).workers[0] // its loop does not run
	w.short = keepAfter
	for w.short > 0 { // a signal may end a wait before its time
		if n := w.wait(); n > 0 {
			t.Fatalf("%d events, want none", n)
		}
	}
	w.resume = s.Now() + 2*keepPause
	if n := w.wait(); n > 0 || w.turn > 0 {
		t.Errorf("after a long wait: %d events, the turn took %v", n, w.turn)
	}
	for w.short < keepAfter+1 { // a busy machine may make any wait a long one
		w.enqueue(func() {})
		if n := w.wait(); n != 1 {
			t.Fatalf("%d events, want 1", n)
		}
		w.runTasks()
	}
	w.resume = s.Now() - time.Second
	if n := w.wait(); n > 0 {
		t.Errorf("past a deadline: %d events", n)
	}
}
