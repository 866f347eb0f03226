package flow

import (
	"net/netip"
	"sync"
	"sync/atomic"
	"time"
)

// Change is what has happened to a flow.
type Change uint8

const (
	Began Change = iota // its client was let in
	Moved               // it has another state
	Ended
)

// Event is a change of a flow, and how it was then.
type Event struct {
	Change  Change
	At      time.Duration
	Row     Row
	Sockets Sockets
	Worker  int
}

// Sockets is what is known of the sockets of a flow. What is not known is zero.
type Sockets struct {
	Detail
	RTT         time.Duration  // to the client, as its kernel measures it
	Local       netip.AddrPort // that the client asked for, where the row has all addresses; else invalid
	Source      netip.AddrPort // of the connection to the backend; invalid: there is none, or a unix socket
	SegmentsIn  uint64         // of TCP, from the client
	SegmentsOut uint64         // of TCP, to the client
}

// PacketsUp returns how many segments came from the client, or datagrams left for the backend.
func (s *Sockets) PacketsUp() uint64 { return s.SegmentsIn + s.Sent }

// PacketsDown returns how many segments left for the client, or datagrams came from the backend.
func (s *Sockets) PacketsDown() uint64 { return s.SegmentsOut + s.Got }

// FeedRoom bounds the events that wait for the reader of a feed.
const FeedRoom = 4096

// Feed passes the events of a worker's flows on to one reader. Without a reader an event costs one load. It never
// waits for the reader: what finds no room is counted. Events of a flow keep their order.
//
//	no reader ──Open──▶ read ──Close──▶ no reader
type Feed struct {
	Worker int
	// Flow and Session say what is known of the sockets. Whoever reports calls them.
	Flow    func(*Flow) Sockets
	Session func(*Session) Sockets

	ring atomic.Pointer[feedRing] // nil: there is no reader
}

// feedRing holds events between head and tail. Those who report share mu; the reader never takes it.
type feedRing struct {
	mu         sync.Mutex
	head, tail atomic.Uint64 // head: what was written; tail: what was read
	lost       atomic.Uint64
	slots      [FeedRoom]Event
}

// Open has events kept from now on.
func (d *Feed) Open() { d.ring.Store(new(feedRing)) }

// Close has events forgotten.
func (d *Feed) Close() { d.ring.Store(nil) }

// Take calls each with the events that have come, and returns how many found no room behind them. One goroutine at a
// time may call it.
func (d *Feed) Take(each func(*Event)) (lost uint64) {
	r := d.ring.Load()
	if r == nil {
		return 0
	}
	lost = r.lost.Swap(0)
	head := r.head.Load()
	for at := r.tail.Load(); at < head; at++ {
		slot := &r.slots[at%FeedRoom]
		each(slot)
		*slot = Event{} // holds no backend in memory
		r.tail.Store(at + 1)
	}
	return lost
}

// hasRoom reports whether an event would be kept: what is lost anyway costs no look at sockets. It counts the loss.
func (d *Feed) hasRoom() bool {
	r := d.ring.Load()
	if r == nil {
		return false
	}
	if r.head.Load()-r.tail.Load() == FeedRoom {
		r.lost.Add(1)
		return false
	}
	return true
}

// Put reports an event. Any goroutine may call it; those of a flow one at a time.
func (d *Feed) Put(e Event) {
	r := d.ring.Load()
	if r == nil {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	head := r.head.Load()
	if head-r.tail.Load() == FeedRoom {
		r.lost.Add(1)
		return
	}
	r.slots[head%FeedRoom] = e
	r.head.Store(head + 1)
}

// Announce reports that the flow has begun, once. The engine calls it when the client waits for a backend, or an attempt
// is under way. A client that was not let in has not begun.
func (f *Flow) Announce(now time.Duration) {
	if !f.isAnnounced && f.phase <= relaying {
		f.isAnnounced = true
		f.tell(Began, now)
	}
}

// Ending reports that the flow ends, unless it was never announced. An engine may call it while the sockets are open;
// Settle does if it has not.
func (f *Flow) Ending(now time.Duration) {
	if f.isAnnounced {
		f.tell(Ended, now)
		f.isAnnounced = false
	}
}

func (f *Flow) tell(c Change, now time.Duration) {
	if f.Feed == nil {
		return
	}
	if f.isAnnounced && f.Feed.hasRoom() {
		f.Feed.Put(Event{Change: c, At: now, Row: f.ent.Row(f.ID), Sockets: f.Feed.Flow(f), Worker: f.Feed.Worker})
	}
}

func (m *Sessions) tell(x *Session, c Change, now time.Duration) {
	if m.Feed == nil {
		return
	}
	if m.Feed.hasRoom() {
		m.Feed.Put(Event{Change: c, At: now, Row: x.ent.Row(x.ID), Sockets: m.Feed.Session(x), Worker: m.Feed.Worker})
	}
}
