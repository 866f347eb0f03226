package kube

import (
	"testing"
	"time"

	"usher/internal/kube/planner"
)

// TestAPlanOfTheSameEndpointsIsNoChangeOfThem keeps a Node or a Service that changes hours later out of the latency of
// network programming.
func TestAPlanOfTheSameEndpointsIsNoChangeOfThem(t *testing.T) {
	t.Parallel()
	b, key, at := newBook(), planner.Key{Namespace: "default", Name: "web"}, time.Unix(1000, 0)
	for i, step := range []struct {
		triggered time.Time
		is        bool
	}{
		{time.Time{}, false}, {at, true}, {at, false}, {at.Add(time.Second), true}, {at, false}, {time.Time{}, false},
	} {
		if got := b.isTriggered(key, step.triggered); got != step.is {
			t.Errorf("step %d: %v", i, got)
		}
		b.set(key, &planner.Result{Triggered: step.triggered})
	}
}
