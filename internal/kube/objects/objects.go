// Package objects holds the Kubernetes objects that usher plans by, as their source gives them, and says which Services
// have to be planned anew.
//
//	cluster (watch) ─┐                ┌─▶ Take: keys of changed Services
//	folder (files)  ─┴─▶ Store ───────┴─▶ Input of one of them
package objects

import (
	"maps"
	"slices"
	"sync"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"usher/internal/kube/planner"
)

// Store holds Services, EndpointSlices and Nodes by their names. Any goroutine may call its methods. Objects that are
// given to it, and those that it returns, are not written to any more.
type Store struct {
	mu       sync.Mutex
	services map[planner.Key]*corev1.Service
	slices   map[planner.Key]*discoveryv1.EndpointSlice
	nodes    map[string]*corev1.Node
	owned    map[planner.Key]map[planner.Key]*discoveryv1.EndpointSlice // by the Service that their label names

	batch    sync.Mutex // held while changes are made that Take returns together; before mu
	dirty    map[planner.Key]bool
	areNodes bool // some Node is new, changed or gone
	seen     Seen
	changed  chan struct{}
}

// New returns an empty Store.
func New() *Store {
	return &Store{
		services: make(map[planner.Key]*corev1.Service),
		slices:   make(map[planner.Key]*discoveryv1.EndpointSlice),
		nodes:    make(map[string]*corev1.Node),
		owned:    make(map[planner.Key]map[planner.Key]*discoveryv1.EndpointSlice),
		dirty:    make(map[planner.Key]bool),
		changed:  make(chan struct{}, 1),
	}
}

// Changes are what has changed since the last Take.
type Changes struct {
	Services []planner.Key // sorted; a Service that is gone has no Input
	Nodes    bool
	Seen     Seen // those that are in it, and in all before
}

// Seen counts changes that a source has made.
type Seen struct{ Services, Slices uint64 }

// Changed receives after a change that Take has not returned yet.
func (s *Store) Changed() <-chan struct{} { return s.changed }

// Batch has Take return the changes that a function makes together: so that what one Service gives up, and another one
// has then, is not without both in between.
func (s *Store) Batch(change func()) {
	s.batch.Lock()
	defer s.batch.Unlock()
	change()
}

// Take returns what has changed, once.
func (s *Store) Take() Changes {
	s.batch.Lock()
	defer s.batch.Unlock()
	s.mu.Lock()
	defer s.mu.Unlock()
	c := Changes{Services: slices.SortedFunc(maps.Keys(s.dirty), planner.Key.Compare), Nodes: s.areNodes, Seen: s.seen}
	clear(s.dirty)
	s.areNodes = false
	return c
}

// Seen returns how many changes there have been.
func (s *Store) Seen() Seen {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.seen
}

// ServiceKeys returns the Services that there are, sorted. A source that has listed all objects of a kind deletes those
// that it has not found.
func (s *Store) ServiceKeys() []planner.Key {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.SortedFunc(maps.Keys(s.services), planner.Key.Compare)
}

// Input returns the objects of a Service; false: there is none of that name.
func (s *Store) Input(key planner.Key) (planner.Input, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	in := planner.Input{Service: s.services[key], Slices: make([]*discoveryv1.EndpointSlice, 0, len(s.owned[key]))}
	for _, name := range slices.SortedFunc(maps.Keys(s.owned[key]), planner.Key.Compare) {
		in.Slices = append(in.Slices, s.owned[key][name])
	}
	return in, in.Service != nil
}

// Service returns a Service; nil: there is none of that name.
func (s *Store) Service(key planner.Key) *corev1.Service {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.services[key]
}

// Slice returns an EndpointSlice; nil: there is none of that name.
func (s *Store) Slice(key planner.Key) *discoveryv1.EndpointSlice {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.slices[key]
}

// Node returns a Node; nil: there is none of that name.
func (s *Store) Node(name string) *corev1.Node {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.nodes[name]
}

// SetService adds or replaces a Service.
func (s *Store) SetService(o *corev1.Service) {
	s.edit(func() {
		s.seen.Services++
		s.services[KeyOf(o)] = o
		s.dirty[KeyOf(o)] = true
	})
}

// DeleteService removes a Service.
func (s *Store) DeleteService(key planner.Key) {
	s.edit(func() {
		s.seen.Services++
		delete(s.services, key)
		s.dirty[key] = true
	})
}

// SetSlice adds or replaces an EndpointSlice. It may name another Service than before.
func (s *Store) SetSlice(o *discoveryv1.EndpointSlice) {
	s.edit(func() {
		s.seen.Slices++
		key := KeyOf(o)
		s.release(key)
		s.slices[key] = o
		owner, is := ownerOf(o)
		if !is {
			return
		}
		if s.owned[owner] == nil {
			s.owned[owner] = make(map[planner.Key]*discoveryv1.EndpointSlice)
		}
		s.owned[owner][key] = o
		s.dirty[owner] = true
	})
}

// DeleteSlice removes an EndpointSlice.
func (s *Store) DeleteSlice(key planner.Key) {
	s.edit(func() {
		s.seen.Slices++
		s.release(key)
	})
}

// SetNode adds or replaces a Node.
func (s *Store) SetNode(o *corev1.Node) {
	s.edit(func() {
		s.nodes[o.Name] = o
		s.areNodes = true
	})
}

// DeleteNode removes a Node.
func (s *Store) DeleteNode(name string) {
	s.edit(func() {
		delete(s.nodes, name)
		s.areNodes = true
	})
}

// SliceKeys returns the EndpointSlices that there are, sorted.
func (s *Store) SliceKeys() []planner.Key {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.SortedFunc(maps.Keys(s.slices), planner.Key.Compare)
}

// NodeNames returns the Nodes that there are, sorted.
func (s *Store) NodeNames() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Sorted(maps.Keys(s.nodes))
}

// release takes an EndpointSlice from its Service. The caller holds mu.
func (s *Store) release(key planner.Key) {
	before := s.slices[key]
	if before == nil {
		return
	}
	delete(s.slices, key)
	owner, is := ownerOf(before)
	if !is {
		return
	}
	delete(s.owned[owner], key)
	if len(s.owned[owner]) == 0 {
		delete(s.owned, owner)
	}
	s.dirty[owner] = true
}

func (s *Store) edit(change func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	change()
	select {
	case s.changed <- struct{}{}:
	default: // a Take is due already
	}
}

// KeyOf returns the name of an object.
func KeyOf(o metav1.Object) planner.Key {
	return planner.Key{Namespace: o.GetNamespace(), Name: o.GetName()}
}

// ownerOf returns the Service that an EndpointSlice belongs to.
func ownerOf(o *discoveryv1.EndpointSlice) (planner.Key, bool) {
	name, is := o.Labels[discoveryv1.LabelServiceName]
	return planner.Key{Namespace: o.Namespace, Name: name}, is
}
