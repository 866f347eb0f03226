package proxy

import (
	"context"
	"fmt"
	"net/netip"
	"strings"
	"sync"
	"testing"

	"usher/proxy/flow"
)

// record keeps the events that a server tells.
type record struct {
	mu     sync.Mutex
	events []FlowEvent
}

// follow begins to record.
func follow(t *testing.T, s *Server) *record {
	t.Helper()
	r := new(record)
	ctx, cancel := context.WithCancel(context.Background())
	all := s.FollowFlows(ctx)
	var reader sync.WaitGroup
	reader.Go(func() {
		for some := range all {
			r.mu.Lock()
			r.events = append(r.events, some...)
			r.mu.Unlock()
		}
	})
	t.Cleanup(func() { cancel(); reader.Wait() })
	return r
}

// of returns what has happened to the flows of a client, word by word.
func (r *record) of(client netip.AddrPort) string {
	r.mu.Lock()
	defer r.mu.Unlock()
	var words []string
	for _, e := range r.events {
		if e.Row.Client() == client {
			words = append(words, fmt.Sprint([]string{"began", "moved", "ended"}[e.Change], " ", e.Row.State))
		}
	}
	return strings.Join(words, ", ")
}

// TestFollowFlows: each flow is told from its begin to its end, with its sockets while they are open, and with its bytes.
func TestFollowFlows(t *testing.T) {
	t.Parallel()
	eachEngine(t, func(t *testing.T, engine string) {
		s, addr := start(t, Options{Engine: engine, Workers: 2}, service(t, echo(t)))
		early := dial(t, addr)
		roundTrip(t, early)
		seen := follow(t, s)
		conn := dial(t, addr)
		roundTrip(t, conn)
		client := conn.LocalAddr().String()
		conn.CloseWrite()
		early.CloseWrite()
		eventually(t, "the flows end", func() bool { return s.Open() == 0 })
		at, first := netip.MustParseAddrPort(client), netip.MustParseAddrPort(early.LocalAddr().String())
		eventually(t, "their ends are told", func() bool {
			return strings.Contains(seen.of(at), "ended") && strings.Contains(seen.of(first), "ended")
		})
		if got, want := seen.of(at), "began connecting, moved established, moved half-closed, ended half-closed"; got != want {
			t.Errorf("%s, want %s", got, want)
		}
		if got, want := seen.of(first), "moved half-closed, ended half-closed"; got != want {
			t.Errorf("a flow from before: %s, want %s", got, want)
		}
		seen.mu.Lock()
		defer seen.mu.Unlock()
		for _, e := range seen.events {
			if e.Row.Client() == at && e.Change == FlowEnded && (e.Row.Up == 0 || e.Row.Up != e.Row.Down || !e.Row.Source.IsValid() || e.Row.Target != e.Row.Backend.Endpoint().Addr) {
				t.Errorf("end of %v: %d bytes up, %d down, from %v to %v", at, e.Row.Up, e.Row.Down, e.Row.Source, e.Row.Target)
			}
		}
	})
}

// TestFollowSessions: so is a udp flow.
func TestFollowSessions(t *testing.T) {
	t.Parallel()
	eachEngine(t, func(t *testing.T, engine string) {
		s, _, at := startUDP(t, engine, udpService(t, UDPConfig{}, udpEcho(t)))
		seen := follow(t, s)
		conn := dialUDP(t, at)
		roundTrip(t, conn)
		roundTrip(t, conn)
		s.Kill(func(*Row) bool { return true })
		client := netip.MustParseAddrPort(conn.LocalAddr().String())
		eventually(t, "its end is told", func() bool { return strings.Contains(seen.of(client), "ended") })
		if got, want := seen.of(client), "began unreplied, moved assured, ended assured"; got != want {
			t.Errorf("%s, want %s", got, want)
		}
	})
}

// TestFollowersLose: readers that take nothing lose events, are told how many, and cost no more memory then; others
// lose none. Without a reader nothing is kept.
func TestFollowersLose(t *testing.T) {
	t.Parallel()
	s := &Server{engine: &portableEngine{}}
	feed := s.engine.feeds()[0]
	slow, quick := new(follower), new(follower)
	put := func(n int) {
		for range n {
			feed.Put(flow.Event{})
		}
	}
	put(10) // nobody reads
	s.addFollower(slow)
	s.addFollower(quick)
	const rounds = 10
	got := 0
	for range rounds {
		put(flow.FeedRoom)
		s.collectEvents()
		got += len(quick.take())
	}
	if got != rounds*flow.FeedRoom {
		t.Errorf("the quick one got %d events of %d", got, rounds*flow.FeedRoom)
	}
	have := slow.take()
	if last := have[len(have)-1]; len(have) != FollowRoom+1 || last.Lost != rounds*flow.FeedRoom-FollowRoom {
		t.Errorf("the slow one got %d events, lost %d", len(have), last.Lost)
	}
	put(flow.FeedRoom + 5)
	s.collectEvents()
	if have := quick.take(); len(have) != flow.FeedRoom+1 || have[flow.FeedRoom].Lost != 5 {
		t.Errorf("%d events, %d lost where a worker had no room", len(have), have[len(have)-1].Lost)
	}
	s.removeFollower(slow)
	s.removeFollower(quick)
	put(1)
	s.collectEvents()
	s.addFollower(quick)
	s.collectEvents()
	if have := quick.take(); len(have) != 0 {
		t.Errorf("%d events from before", len(have))
	}
}

// TestFollowOrder: the events of each flow come in order, from its begin to its end.
func TestFollowOrder(t *testing.T) {
	t.Parallel()
	eachEngine(t, func(t *testing.T, engine string) {
		s, addr := start(t, Options{Engine: engine, Workers: 3}, service(t, echo(t)))
		seen := follow(t, s)
		var clients sync.WaitGroup
		const flows = 60
		for range flows {
			clients.Go(func() {
				conn := dial(t, addr)
				roundTrip(t, conn)
				conn.Close()
			})
		}
		clients.Wait()
		ended := func() (n int) {
			seen.mu.Lock()
			defer seen.mu.Unlock()
			for _, e := range seen.events {
				if e.Change == FlowEnded {
					n++
				}
			}
			return n
		}
		eventually(t, "all ends are told", func() bool { return ended() == flows })
		last := make(map[FlowID]flow.Change)
		for _, e := range seen.events {
			before, has := last[e.Row.FlowID()]
			if has != (e.Change != FlowBegan) || e.Change < before {
				t.Fatalf("%v: %d after %d", e.Row.FlowID(), e.Change, before)
			}
			if last[e.Row.FlowID()] = e.Change; e.Change == FlowEnded {
				delete(last, e.Row.FlowID())
			}
		}
		if len(last) > 0 {
			t.Errorf("%d flows have no end", len(last))
		}
	})
}
