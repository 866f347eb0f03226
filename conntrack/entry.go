package conntrack

import (
	"fmt"
	"sync/atomic"
	"time"
)

// State is how far a flow has come. The zero State means that there is no flow.
type State uint8

const (
	Connecting  State = iota + 1 // accepted, no backend has answered yet
	Established                  // both sides may send
	HalfClosed                   // one side has sent its FIN, the other may still send
	Closing                      // both sides have ended or one was reset; the rest is flushed
	Unreplied                    // UDP: the backend has not answered yet
	Assured                      // UDP: the backend has answered
	Waiting                      // held: no backend can be had
	Queued                       // in its service's queue: every backend is full
	Greeting                     // its PROXY header or ClientHello has not come whole yet
	Silent                       // a rule has dropped it: held without an answer

	states // the number of states and the zero one
)

var stateNames = [states]string{
	"none", "connecting", "established", "half-closed", "closing", "unreplied", "assured", "waiting", "queued",
	"greeting", "silent",
}

// String returns the state in one word.
func (s State) String() string {
	if s < states {
		return stateNames[s]
	}
	return fmt.Sprintf("state(%d)", uint8(s))
}

// StateNames returns the words of all states that a flow can have.
func StateNames() []string { return stateNames[1:] }

// Entry is one flow in a [Table]. The pointer is valid until the entry is removed.
//
// The owner alone calls the Set methods. CountUp and CountDown may run in two
// goroutines at once, one each, until the owner removes the entry. So each counter
// has a single writer and needs no locked addition.
//
// [Table.Rows] reads entries from other goroutines. All words are atomic; version is
// stored last when a flow begins and first when it ends. A reader that sees the same
// generation before and after it read the other words has read one flow alone.
// Neither side waits or retries.
type Entry[S, B any] struct {
	version atomic.Uint32
	tries   atomic.Uint32 // of a free slot: the next free one, or none; see next

	up, down         atomic.Uint64 // bytes
	touched, created atomic.Int64  // time.Duration
	service          atomic.Pointer[S]
	backend          atomic.Pointer[B] // nil: none chosen yet
	key              [5]atomic.Uint64  // the words of a Key
}

// version is a generation (24 bits, counts the flows of the slot) above a state (8
// bits, zero while the slot is free). A reader errs only if exactly a multiple of
// 2^24 flows pass through the slot between two of its loads.
type version uint32

const stateBits = 8

func (v version) state() State                   { return State(v & (1<<stateBits - 1)) }
func (v version) generation() uint32             { return uint32(v >> stateBits) }
func (v version) withState(s State) version      { return v>>stateBits<<stateBits | version(s) }
func (v version) nextGeneration(s State) version { return (v>>stateBits+1)<<stateBits | version(s) }

// isSameFlow reports whether a version loaded after v is of the same, living flow.
func (v version) isSameFlow(after version) bool {
	return after.state() != 0 && after.generation() == v.generation()
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

// SetBackend records what the flow was given; nil clears it.
func (e *Entry[S, B]) SetBackend(b *B) { e.backend.Store(b) }

// State returns how far the flow has come.
func (e *Entry[S, B]) State() State { return e.loadVersion().state() }

// Tries returns how many backends the flow was sent to.
func (e *Entry[S, B]) Tries() int { return int(e.tries.Load()) }

// SetTries records how many backends the flow was sent to.
func (e *Entry[S, B]) SetTries(n uint8) {
	if e.tries.Load() != uint32(n) {
		e.tries.Store(uint32(n))
	}
}

// next is the free slot that follows this one, or none. A free slot has no tries.
func (e *Entry[S, B]) next() ID      { return ID(e.tries.Load()) }
func (e *Entry[S, B]) setNext(id ID) { e.tries.Store(uint32(id)) }

// SetState records how far the flow has come. It ignores the zero State, since only
// [Table.Remove] ends a flow, and changes to or from [Unreplied], which
// [Table.Insert] and [Table.Assure] make.
func (e *Entry[S, B]) SetState(s State) {
	if v := e.loadVersion(); s != 0 && s != v.state() && s != Unreplied && v.state() != Unreplied {
		e.setVersion(v.withState(s))
	}
}

// Created returns when the entry was inserted.
func (e *Entry[S, B]) Created() time.Duration { return time.Duration(e.created.Load()) }

// Touched returns when bytes were last counted, or when the entry was inserted.
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

// ResetBytes sets both counters to zero. The caller makes sure that nobody counts.
func (e *Entry[S, B]) ResetBytes() {
	e.up.Store(0)
	e.down.Store(0)
}

// touch stores a later time only, which saves the store when both directions move in
// one turn of a loop. With two goroutines the earlier of their times may win.
func (e *Entry[S, B]) touch(now time.Duration) {
	if int64(now) > e.touched.Load() {
		e.touched.Store(int64(now))
	}
}

// publish fills a free slot, then shows it to readers.
func (e *Entry[S, B]) publish(k Key, s *S, state State, now time.Duration) {
	e.setKey(k)
	e.service.Store(s)
	e.SetTries(0)
	storeChanged(&e.up, 0)
	storeChanged(&e.down, 0)
	e.touched.Store(int64(now))
	e.created.Store(int64(now))
	e.setVersion(e.loadVersion().nextGeneration(state))
}

// Rename gives the entry another key, and what it belongs to. Rows from before are of a flow that has ended. It is not for
// indexed tables, nor for entries marked by [Table.MarkIdle].
func (e *Entry[S, B]) Rename(k Key, s *S) {
	v := e.loadVersion()
	e.setVersion(v.withState(0))
	e.setKey(k)
	e.service.Store(s)
	e.setVersion(v.nextGeneration(v.state()))
}

// retract hides the entry from readers, then drops its pointers.
func (e *Entry[S, B]) retract() {
	e.setVersion(e.loadVersion().withState(0))
	e.service.Store(nil)
	e.backend.Store(nil)
}

func (e *Entry[S, B]) setKey(k Key) {
	storeChanged(&e.key[0], k.client.hi)
	storeChanged(&e.key[1], k.client.lo)
	storeChanged(&e.key[2], k.local.hi)
	storeChanged(&e.key[3], k.local.lo)
	storeChanged(&e.key[4], k.rest)
}

// storeChanged skips a store that changes nothing. On amd64 an atomic store is a
// locked exchange, many times the price of a load. Most words of a key equal those of
// the flow before, such as the local address.
func storeChanged(w *atomic.Uint64, v uint64) {
	if w.Load() != v {
		w.Store(v)
	}
}

// Row is a copy of an entry, of one flow alone. Up, Down, Touched, Tries, State and
// Backend are each read at their own moment.
type Row[S, B any] struct {
	ID               ID // together with generation: which flow
	generation       uint32
	Tries            uint8
	Key              Key
	Service          *S
	Backend          *B // nil: none chosen yet
	State            State
	Created, Touched time.Duration
	Up, Down         uint64 // bytes
}

// Generation counts the flows of the row's slot. With the ID it names a flow.
func (r *Row[S, B]) Generation() uint32 { return r.generation }

// NewRow returns a row that only names a flow, for [Table.Has].
func NewRow[S, B any](id ID, generation uint32, k Key) Row[S, B] {
	return Row[S, B]{ID: id, generation: generation, Key: k}
}

// Row returns a copy of the entry. It is for the owner.
func (e *Entry[S, B]) Row(id ID) Row[S, B] {
	r, _ := e.row(id)
	return r
}

// row copies the entry of slot id. ok is false if the slot is free or its flow ended
// meanwhile.
func (e *Entry[S, B]) row(id ID) (r Row[S, B], ok bool) {
	before := e.loadVersion()
	if before.state() == 0 {
		return r, false
	}
	r = Row[S, B]{
		ID:      id,
		Tries:   uint8(e.Tries()),
		Key:     e.Key(),
		Service: e.Service(),
		Backend: e.Backend(),
		Created: e.Created(),
		Touched: e.Touched(),
		Up:      e.Up(),
		Down:    e.Down(),
	}
	after := e.loadVersion()
	r.State, r.generation = after.state(), after.generation()
	return r, before.isSameFlow(after)
}
