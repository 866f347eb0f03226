package ipvsadm

import (
	"iter"
	"maps"
	"slices"
)

// ordered is a map that remembers the order in which its keys were added. All its operations are O(1), amortized.
type ordered[K comparable, V any] struct {
	items []item[K, V] // with holes where keys were deleted
	index map[K]int    // nil while there are few items
	holes int
}

type item[K comparable, V any] struct {
	key   K
	value V
	isSet bool // else a hole
}

// fewItems is how many items are searched one by one: an index of them costs more memory than they do.
const fewItems = 16

func (o *ordered[K, V]) len() int { return len(o.items) - o.holes }

func (o *ordered[K, V]) find(key K) (int, bool) {
	if o.index != nil {
		at, ok := o.index[key]
		return at, ok
	}
	at := slices.IndexFunc(o.items, func(i item[K, V]) bool { return i.isSet && i.key == key })
	return at, at >= 0
}

// get returns the value of key. The pointer is good until the next add or delete.
func (o *ordered[K, V]) get(key K) (*V, bool) {
	at, ok := o.find(key)
	if !ok {
		return nil, false
	}
	return &o.items[at].value, true
}

// add appends a key that is not there.
func (o *ordered[K, V]) add(key K, value V) {
	o.items = append(o.items, item[K, V]{key: key, value: value, isSet: true})
	switch {
	case o.index != nil:
		o.index[key] = len(o.items) - 1
	case len(o.items) > fewItems:
		o.reindex()
	}
}

func (o *ordered[K, V]) delete(key K) {
	at, ok := o.find(key)
	if !ok {
		return
	}
	o.items[at] = item[K, V]{}
	delete(o.index, key)
	o.holes++
	if o.holes > fewItems && o.holes > len(o.items)/2 {
		o.items = slices.DeleteFunc(o.items, func(i item[K, V]) bool { return !i.isSet })
		o.holes = 0
		o.reindex()
	}
}

func (o *ordered[K, V]) reindex() {
	o.index = make(map[K]int, len(o.items))
	for at, i := range o.items {
		if i.isSet {
			o.index[i.key] = at
		}
	}
}

func (o *ordered[K, V]) clone() ordered[K, V] {
	return ordered[K, V]{items: slices.Clone(o.items), index: maps.Clone(o.index), holes: o.holes}
}

// oldestFirst yields the values in the order in which their keys were added.
func (o *ordered[K, V]) oldestFirst() iter.Seq[V] {
	return func(yield func(V) bool) {
		for _, i := range o.items {
			if i.isSet && !yield(i.value) {
				return
			}
		}
	}
}

func (o *ordered[K, V]) newestFirst() iter.Seq[V] {
	return func(yield func(V) bool) {
		for _, i := range slices.Backward(o.items) {
			if i.isSet && !yield(i.value) {
				return
			}
		}
	}
}
