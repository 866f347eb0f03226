package objects

import (
	"runtime"
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"

	"usher/internal/kube/planner"
)

func service(name string) *corev1.Service {
	s := new(corev1.Service)
	s.Namespace, s.Name = "default", name
	return s
}

// slice returns a slice that belongs to a Service; empty: to none.
func slice(name, owner string) *discoveryv1.EndpointSlice {
	s := new(discoveryv1.EndpointSlice)
	s.Namespace, s.Name = "default", name
	if owner != "" {
		s.Labels = map[string]string{discoveryv1.LabelServiceName: owner}
	}
	return s
}

func key(name string) planner.Key { return planner.Key{Namespace: "default", Name: name} }

// TestChanges: which Services each change is about, and what they have then.
func TestChanges(t *testing.T) {
	t.Parallel()
	s := New()
	for _, step := range []struct {
		name   string
		change func()
		dirty  []string // Services
		nodes  bool
		owned  map[string][]string // the slices of Services
	}{
		{name: "a Service", change: func() { s.SetService(service("a")) }, dirty: []string{"a"}, owned: map[string][]string{"a": nil}},
		{name: "a slice", change: func() { s.SetSlice(slice("1", "a")) }, dirty: []string{"a"}, owned: map[string][]string{"a": {"1"}}},
		{name: "a slice before its Service", change: func() { s.SetSlice(slice("2", "b")) }, dirty: []string{"b"}, owned: map[string][]string{"b": nil}},
		{name: "its Service", change: func() { s.SetService(service("b")) }, dirty: []string{"b"}, owned: map[string][]string{"b": {"2"}}},
		{name: "a slice that moves", change: func() { s.SetSlice(slice("1", "b")) }, dirty: []string{"a", "b"}, owned: map[string][]string{"a": nil, "b": {"1", "2"}}},
		{name: "a slice that is nobody's any more", change: func() { s.SetSlice(slice("1", "")) }, dirty: []string{"b"}, owned: map[string][]string{"b": {"2"}}},
		{name: "that slice is gone", change: func() { s.DeleteSlice(key("1")) }},
		{name: "one that never was", change: func() { s.DeleteSlice(key("9")) }},
		{name: "a Service is gone", change: func() { s.DeleteService(key("b")) }, dirty: []string{"b"}, owned: map[string][]string{"b": nil}},
		{name: "it comes again, with its slice", change: func() { s.SetService(service("b")) }, dirty: []string{"b"}, owned: map[string][]string{"b": {"2"}}},
		{name: "several changes are one", change: func() { s.SetService(service("a")); s.DeleteSlice(key("2")); s.SetService(service("a")) },
			dirty: []string{"a", "b"}, owned: map[string][]string{"a": nil, "b": nil}},
		{name: "a Node", change: func() { s.SetNode(new(corev1.Node)) }, nodes: true},
		{name: "a Node is gone", change: func() { s.DeleteNode("") }, nodes: true},
	} {
		step.change()
		select {
		case <-s.Changed():
		default:
			t.Errorf("%s: nobody is told", step.name)
		}
		c := s.Take()
		var dirty []string
		for _, k := range c.Services {
			dirty = append(dirty, k.Name)
		}
		if diff := cmp.Diff(step.dirty, dirty); diff != "" || c.Nodes != step.nodes || c.Seen != s.Seen() {
			t.Errorf("%s: %+v %s", step.name, c, diff)
		}
		for name, want := range step.owned {
			in, _ := s.Input(key(name))
			var owned []string
			for _, o := range in.Slices {
				owned = append(owned, o.Name)
			}
			if in.Service == nil { // then its slices do not count
				owned = nil
			}
			if diff := cmp.Diff(want, owned); diff != "" {
				t.Errorf("%s: slices of %s %s", step.name, name, diff)
			}
		}
		if again := s.Take(); len(again.Services) > 0 || again.Nodes {
			t.Errorf("%s: once more %+v", step.name, again)
		}
	}
}

// TestBatch: a Take that comes in between returns all changes of a batch.
func TestBatch(t *testing.T) {
	t.Parallel()
	s, taken := New(), make(chan Changes)
	s.Batch(func() {
		s.SetService(service("a"))
		go func() { taken <- s.Take() }()
		for range 100 {
			runtime.Gosched()
		}
		s.SetService(service("b"))
	})
	if c := <-taken; len(c.Services) != 2 {
		t.Errorf("changes of %v alone", c.Services)
	}
}
