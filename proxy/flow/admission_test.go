package flow

import (
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
)

func TestReserves(t *testing.T) {
	t.Parallel()
	const all = unbounded
	for _, tc := range []struct {
		name        string
		places      int64
		asked, most []int64
		each        []int64
		shared      int64
		problem     string
	}{
		{"one service has all", 100, []int64{0}, []int64{all}, []int64{100}, 0, ""},
		{"what it can use", 100, []int64{0}, []int64{30}, []int64{30}, 70, ""},
		{"half is divided evenly", 100, []int64{0, 0}, []int64{all, all}, []int64{25, 25}, 50, ""},
		{"few places", 3, []int64{0, 0}, []int64{all, all}, []int64{0, 0}, 3, ""},
		{"one of them asks", 100, []int64{40, 0, 0}, []int64{all, all, all}, []int64{40, 15, 15}, 30, ""},
		{"one of them needs little", 100, []int64{0, 0}, []int64{all, 5}, []int64{25, 5}, 70, ""},
		{"all is asked for", 100, []int64{60, 40}, []int64{all, all}, []int64{60, 40}, 0, ""},
		{"too much is asked for", 100, []int64{60, 41}, []int64{all, all}, nil, 0, "add up to 101 flows, and there may be 100"},
		{"no service", 100, nil, nil, []int64{}, 100, ""},
	} {
		each, shared, err := reserves(tc.places, tc.asked, tc.most)
		if tc.problem != "" {
			if err == nil || !strings.Contains(err.Error(), tc.problem) {
				t.Errorf("%s: error %v, want %q", tc.name, err, tc.problem)
			}
			continue
		}
		if err != nil || !slices.Equal(each, tc.each) || shared != tc.shared {
			t.Errorf("%s: %d, %d shared, %v; want %d, %d", tc.name, each, shared, err, tc.each, tc.shared)
		}
	}
}

func TestClientShare(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		wanted int
		most   int64
		want   int
	}{
		{0, 26468, 13234}, {0, 200, 100}, {0, 100, leastClientShare}, {0, leastClientShare, 0},
		{7, 26468, 7}, {7, 7, 0}, {-1, 26468, 0},
	} {
		if got := clientShare(tc.wanted, tc.most); got != tc.want {
			t.Errorf("asked for %d of %d: %d, want %d", tc.wanted, tc.most, got, tc.want)
		}
	}
}

// TestPlacesAreExact has many goroutines take places and give them back, far more than
// there are. A service within its reserve is never refused, no more flows are let in than
// there are places, and at the end all of them are there again.
func TestPlacesAreExact(t *testing.T) {
	t.Parallel()
	const places, each = 40, 20_000
	services := make([]*Service, 4)
	for i := range services {
		var c ServiceConfig
		if i == 1 || i == 2 {
			c.Listeners = []Listener{{Network: "udp"}}
		}
		if i == 1 {
			c.UDP.MaxFlows = 12
		}
		services[i] = testService(c)
	}
	s := dividing(t, places, 25, services...)
	quiet := services[3] // two goroutines use it, and it has a reserve of more
	if reserve, _ := quiet.Shares(); reserve < 2 {
		t.Fatalf("a reserve of %d", reserve)
	}
	var all sync.WaitGroup
	for i := range 16 {
		svc := services[i%3]
		if i < 2 {
			svc = quiet
		}
		all.Go(func() {
			held := 0
			for range each {
				if o := s.Place(svc.Settings()); o == Running {
					held++
				} else if svc == quiet {
					t.Errorf("refused within its reserve: %v", o)
				}
				for held > 0 && (svc == quiet || held > 6 || rand.IntN(2) == 0) {
					held--
					s.leave(svc.Settings())
				}
			}
			for range held {
				s.leave(svc.Settings())
			}
		})
	}
	all.Wait()
	if s.Open.Load() != 0 || s.places.used.Load() != 0 || s.ports.used.Load() != 0 {
		t.Errorf("%d flows, %d shared places and %d shared ports are left", s.Open.Load(), s.places.used.Load(), s.ports.used.Load())
	}
	n := 0
	for _, svc := range services {
		for s.Place(svc.Settings()) == Running {
			n++
		}
		if _, most := svc.Shares(); svc.Active() > most {
			t.Errorf("%d flows of a service that may have %d", svc.Active(), most)
		}
	}
	if n != places {
		t.Errorf("%d flows find a place, want %d", n, places)
	}
}

// TestFreedPlaceMayGoToAnother: a newcomer for whom a flow has ended finds a place even if
// another newcomer was faster to take that one.
func TestFreedPlaceMayGoToAnother(t *testing.T) {
	t.Parallel()
	svc := testService(ServiceConfig{})
	cfg := svc.Settings()
	s := admissionFor(t, 2, svc)
	for s.Place(cfg) == Running {
	}
	ended := 0
	o := s.MakeRoom(Shortage{cfg, ServerFull}, func(Shortage) bool {
		s.leave(cfg)
		if ended++; ended == 1 && s.Place(cfg) != Running {
			t.Error("the other newcomer finds no place")
		}
		return true
	})
	if o != Running || ended != 2 || svc.Active() != 2 {
		t.Errorf("%v after the end of %d flows, %d are left", o, ended, svc.Active())
	}
	if o := s.MakeRoom(Shortage{cfg, ServerFull}, func(Shortage) bool { return false }); o != ServerFull {
		t.Errorf("%v although no flow has ended", o)
	}
}
