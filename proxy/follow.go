package proxy

import (
	"context"
	"iter"
	"sort"
	"sync"
	"time"

	"usher/proxy/flow"
)

const (
	// followPause is how often readers of events look for some: nobody wakes them, as that would cost a flow a system call.
	followPause = 10 * time.Millisecond
	// FollowRoom bounds the events that wait for one reader. Each takes about 300 bytes.
	FollowRoom = 16384
)

// What can happen to a flow.
const (
	FlowBegan = flow.Began
	FlowMoved = flow.Moved
	FlowEnded = flow.Ended
)

// FlowEvent is a change of a flow.
type FlowEvent struct {
	Change flow.Change
	At     time.Duration // on the server's clock
	Row    Row           // as it was then, with its Sockets
	Lost   uint64        // not zero: so many events came here that there was no room for, and this is none
}

// followers are the readers of events.
type followers struct {
	mu    sync.Mutex
	all   map[*follower]bool
	batch []FlowEvent
}

type follower struct {
	mu   sync.Mutex
	wait []FlowEvent // at most FollowRoom
	lost uint64      // behind wait
}

// FollowFlows yields what happens to flows from its call on, those of a flow in order, until ctx ends or the server has
// stopped. A reader that is too slow for FollowRoom events gets the number of those that it has lost. It holds up no flow.
func (s *Server) FollowFlows(ctx context.Context) iter.Seq[[]FlowEvent] {
	f := new(follower)
	s.addFollower(f)
	return func(yield func([]FlowEvent) bool) {
		defer s.removeFollower(f)
		tick := time.NewTicker(followPause)
		defer tick.Stop()
		for isDone := false; ; {
			s.collectEvents()
			if some := f.take(); len(some) > 0 && !yield(some) || isDone {
				return
			}
			select {
			case <-tick.C:
			case <-ctx.Done():
				return
			case <-s.done:
				isDone = true // with what the last flows have left
			}
		}
	}
}

func (s *Server) addFollower(f *follower) {
	s.followers.mu.Lock()
	defer s.followers.mu.Unlock()
	if len(s.followers.all) == 0 {
		s.followers.all = make(map[*follower]bool)
		for _, feed := range s.engine.feeds() {
			feed.Open()
		}
	}
	s.followers.all[f] = true
}

func (s *Server) removeFollower(f *follower) {
	s.followers.mu.Lock()
	defer s.followers.mu.Unlock()
	delete(s.followers.all, f)
	if len(s.followers.all) == 0 {
		s.followers.batch = nil
		for _, feed := range s.engine.feeds() {
			feed.Close()
		}
	}
}

// collectEvents takes what the workers have left, and hands it to all readers.
func (s *Server) collectEvents() {
	r := &s.followers
	r.mu.Lock()
	defer r.mu.Unlock()
	batch, lost := r.batch[:0], uint64(0)
	for _, feed := range s.engine.feeds() {
		lost += feed.Take(func(e *flow.Event) {
			row := Row{Row: e.Row, Sockets: e.Sockets, worker: e.Worker}
			batch = append(batch, FlowEvent{Change: e.Change, At: e.At, Row: row})
		})
	}
	sort.Stable(byTime(batch))
	for f := range r.all {
		f.add(batch, lost)
	}
	clear(batch) // which holds no backend in memory
	r.batch = batch
}

// byTime sorts events. Package slices would take 15 KB for a type of this size.
type byTime []FlowEvent

func (b byTime) Len() int           { return len(b) }
func (b byTime) Less(i, j int) bool { return b[i].At < b[j].At }
func (b byTime) Swap(i, j int)      { b[i], b[j] = b[j], b[i] }

func (f *follower) add(batch []FlowEvent, lost uint64) {
	f.mu.Lock()
	defer f.mu.Unlock()
	room := FollowRoom - len(f.wait)
	if f.lost > 0 {
		room = 0
	}
	room = min(room, len(batch))
	f.wait = append(f.wait, batch[:room]...)
	f.lost += lost + uint64(len(batch)-room)
}

// take returns what has come. Behind what was lost stands how much.
func (f *follower) take() []FlowEvent {
	f.mu.Lock()
	defer f.mu.Unlock()
	events := f.wait
	if f.lost > 0 {
		events = append(events, FlowEvent{Lost: f.lost})
	}
	f.wait, f.lost = nil, 0
	return events
}
