package conntrack

import (
	"sync/atomic"
	"time"
)

// Entry is one flow in a [Table]. The pointer is good until the entry is removed.
//
// The Set methods are the owner's. CountUp and CountDown may run in two
// goroutines at once, one of each, until the owner removes the entry: every
// counter has a single writer, which is why counting needs no locked addition.
//
// [Table.Rows] reads entries from other goroutines, by this protocol: all words
// are atomic, and version is stored last when a flow begins and first when it
// ends. A reader that finds the same life before and after it has read the
// other words has read words of that life alone. Neither side waits, and
// neither tries again.
type Entry[S, B any] struct {
	version atomic.Uint32 // a version
	next    ID            // of a free slot: the next free one, or none; the owner's alone

	up, down         atomic.Uint64 // bytes
	touched, created atomic.Int64  // time.Duration
	service          atomic.Pointer[S]
	backend          atomic.Pointer[B] // nil: none chosen yet
	key              [5]atomic.Uint64  // the words of a Key
}

// A version holds which life of its slot an entry is in (24 bits, counting the
// flows that the slot has held) above the flow's state (8 bits, zero while the
// slot is free). A reader would be misled only if it were held up between two
// loads for exactly a multiple of 2^24 flows through this one slot.
type version uint32

const stateBits = 8

func (v version) state() State              { return State(v & (1<<stateBits - 1)) }
func (v version) life() uint32              { return uint32(v >> stateBits) }
func (v version) withState(s State) version { return v>>stateBits<<stateBits | version(s) }
func (v version) nextLife(s State) version  { return (v>>stateBits+1)<<stateBits | version(s) }

// sameFlow reports whether a version loaded after v is of the same flow, which
// has not ended.
func (v version) sameFlow(after version) bool {
	return after.state() != 0 && after.life() == v.life()
}

func (e *Entry[S, B]) loadVersion() version { return version(e.version.Load()) }
func (e *Entry[S, B]) setVersion(v version) { e.version.Store(uint32(v)) }

// Key returns the key that the entry was inserted with.
func (e *Entry[S, B]) Key() Key {
	return Key{
		client: address{e.key[0].Load(), e.key[1].Load()},
		local:  address{e.key[2].Load(), e.key[3].Load()},
		rest:   e.key[4].Load(),
	}
}

// hasKey reports whether Key would return k, without copying it.
func (e *Entry[S, B]) hasKey(k *Key) bool {
	return e.key[4].Load() == k.rest &&
		e.key[1].Load() == k.client.lo && e.key[0].Load() == k.client.hi &&
		e.key[3].Load() == k.local.lo && e.key[2].Load() == k.local.hi
}

// Service returns what the flow belongs to.
func (e *Entry[S, B]) Service() *S { return e.service.Load() }

// Backend returns what the flow was given, nil if nothing yet.
func (e *Entry[S, B]) Backend() *B { return e.backend.Load() }

// SetBackend records what the flow was given; nil takes it back.
func (e *Entry[S, B]) SetBackend(b *B) { e.backend.Store(b) }

// State returns how far the flow has come.
func (e *Entry[S, B]) State() State { return e.loadVersion().state() }

// SetState records how far the flow has come. The zero State is ignored: only
// [Table.Remove] ends a flow. So is a change to or from [Unreplied], which is the
// table's to make: a flow begins so, and [Table.Assure] ends it.
func (e *Entry[S, B]) SetState(s State) {
	if v := e.loadVersion(); s != 0 && s != Unreplied && v.state() != Unreplied {
		e.setVersion(v.withState(s))
	}
}

// Created returns when the entry was inserted.
func (e *Entry[S, B]) Created() time.Duration { return time.Duration(e.created.Load()) }

// Touched returns when bytes were last counted, at first when the entry was inserted.
func (e *Entry[S, B]) Touched() time.Duration { return time.Duration(e.touched.Load()) }

// Up returns the bytes moved from client to backend.
func (e *Entry[S, B]) Up() uint64 { return e.up.Load() }

// Down returns the bytes moved from backend to client.
func (e *Entry[S, B]) Down() uint64 { return e.down.Load() }

// CountUp adds n bytes moved from client to backend at now.
func (e *Entry[S, B]) CountUp(n int, now time.Duration) {
	e.up.Store(e.up.Load() + uint64(n))
	e.touch(now)
}

// CountDown adds n bytes moved from backend to client at now.
func (e *Entry[S, B]) CountDown(n int, now time.Duration) {
	e.down.Store(e.down.Load() + uint64(n))
	e.touch(now)
}

// touch stores only a later time. That spares the store when both directions
// move in one turn of a loop. Two goroutines at once may leave the earlier of
// their two times, which differ by no more than the one was held up.
func (e *Entry[S, B]) touch(now time.Duration) {
	if int64(now) > e.touched.Load() {
		e.touched.Store(int64(now))
	}
}

// begin fills a free slot and shows it to readers.
func (e *Entry[S, B]) begin(k Key, s *S, state State, now time.Duration) {
	replace(&e.key[0], k.client.hi)
	replace(&e.key[1], k.client.lo)
	replace(&e.key[2], k.local.hi)
	replace(&e.key[3], k.local.lo)
	replace(&e.key[4], k.rest)
	e.service.Store(s)
	replace(&e.up, 0)
	replace(&e.down, 0)
	e.touched.Store(int64(now))
	e.created.Store(int64(now))
	e.setVersion(e.loadVersion().nextLife(state))
}

// end hides the entry from readers, then lets go of what it pointed to.
func (e *Entry[S, B]) end() {
	e.setVersion(e.loadVersion().withState(0))
	e.service.Store(nil)
	e.backend.Store(nil)
}

// replace leaves out a store that changes nothing. An atomic store is a locked
// exchange on amd64, many times the price of a load, and most words of a key
// are those of the flow before: the local address, the upper half of an IPv4
// address.
func replace(w *atomic.Uint64, v uint64) {
	if w.Load() != v {
		w.Store(v)
	}
}

// Row is a copy of an entry, of one flow alone. Up, Down, Touched, State and
// Backend move on while they are copied, each by itself.
type Row[S, B any] struct {
	Key              Key
	Service          *S
	Backend          *B // nil: none chosen yet
	State            State
	Created, Touched time.Duration
	Up, Down         uint64 // bytes
}

// row copies the entry. ok is false if the slot is free or its flow ended meanwhile.
func (e *Entry[S, B]) row() (r Row[S, B], ok bool) {
	before := e.loadVersion()
	if before.state() == 0 {
		return r, false
	}
	r = Row[S, B]{
		Key:     e.Key(),
		Service: e.Service(),
		Backend: e.Backend(),
		Created: e.Created(),
		Touched: e.Touched(),
		Up:      e.Up(),
		Down:    e.Down(),
	}
	after := e.loadVersion()
	r.State = after.state()
	return r, before.sameFlow(after)
}
