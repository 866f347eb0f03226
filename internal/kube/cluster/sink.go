package cluster

import (
	"reflect"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/tools/cache"

	"usher/internal/kube/objects"
	"usher/internal/kube/planner"
)

// object is a pointer to one of a watched kind.
type object interface {
	comparable
	metav1.Object
}

// sink writes the objects of one kind into the Store. It is what a Reflector calls its store, without a copy of its own.
type sink[T object] struct {
	get    func(planner.Key) T // zero: there is none
	set    func(T)
	delete func(planner.Key)
	keys   func() []planner.Key
	batch  func(func())
	trim   func(T)
	// isSame compares trimmed objects of different versions; nil: they differ.
	isSame func(a, b T) bool
	listed func()
}

func serviceSink(s *objects.Store, listed func()) cache.ReflectorStore {
	return &sink[*corev1.Service]{get: s.Service, set: s.SetService, delete: s.DeleteService, keys: s.ServiceKeys, batch: s.Batch, trim: trimService, listed: listed}
}

func sliceSink(s *objects.Store, listed func()) cache.ReflectorStore {
	return &sink[*discoveryv1.EndpointSlice]{get: s.Slice, set: s.SetSlice, delete: s.DeleteSlice, keys: s.SliceKeys, batch: s.Batch, trim: trimSlice, listed: listed}
}

func nodeSink(s *objects.Store, listed func()) cache.ReflectorStore {
	return &sink[*corev1.Node]{
		get:    func(k planner.Key) *corev1.Node { return s.Node(k.Name) },
		set:    s.SetNode,
		delete: func(k planner.Key) { s.DeleteNode(k.Name) },
		keys: func() []planner.Key {
			var keys []planner.Key
			for _, name := range s.NodeNames() {
				keys = append(keys, planner.Key{Name: name})
			}
			return keys
		},
		batch: s.Batch,
		trim:  trimNode,
		// A kubelet writes the status of its Node every few minutes.
		isSame: isSameNode,
		listed: listed,
	}
}

// Add stores an object.
func (s *sink[T]) Add(o any) error { return s.Update(o) }

// Update stores an object, unless the Store has it in this version.
func (s *sink[T]) Update(o any) error {
	if o, is := o.(T); is {
		s.store(o)
	}
	return nil
}

// Delete removes an object.
func (s *sink[T]) Delete(o any) error {
	if o, is := o.(T); is {
		s.delete(objects.KeyOf(o))
	}
	return nil
}

// Replace stores the objects of a list and removes all others.
func (s *sink[T]) Replace(list []any, _ string) error {
	found := make(map[planner.Key]bool, len(list))
	s.batch(func() {
		for _, o := range list {
			if o, is := o.(T); is {
				found[objects.KeyOf(o)] = true
				s.store(o)
			}
		}
		for _, key := range s.keys() {
			if !found[key] {
				s.delete(key)
			}
		}
	})
	s.listed()
	return nil
}

// Resync is part of cache.ReflectorStore. The Store has nothing to repeat.
func (s *sink[T]) Resync() error { return nil }

func (s *sink[T]) store(o T) {
	var none T
	held := s.get(objects.KeyOf(o))
	if held != none && held.GetUID() == o.GetUID() && held.GetResourceVersion() == o.GetResourceVersion() {
		return
	}
	s.trim(o)
	if held != none && s.isSame != nil && s.isSame(held, o) {
		return
	}
	s.set(o)
}

// isSameNode reports whether two trimmed Nodes differ in their version alone.
func isSameNode(a, b *corev1.Node) bool {
	c := *b
	c.ResourceVersion = a.ResourceVersion
	return reflect.DeepEqual(a, &c)
}
