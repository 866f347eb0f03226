package proxy

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math"
	"time"

	"usher/balancer"
	"usher/conntrack"
	"usher/proxy/flow"
)

const (
	// rebalanceTime is how long a rebalance takes whose rate is not given.
	rebalanceTime = time.Minute
	// rebalanceStep is the shortest time between two steps of it.
	rebalanceStep = 100 * time.Millisecond
	// rebalanceChoice bounds the flows that are chosen by one walk of the tables.
	rebalanceChoice = 1024
)

// ErrRebalancing is the error of a rebalance of a service that is being rebalanced.
var ErrRebalancing = errors.New("it is being rebalanced already")

// Rebalance ends the flows that backends of a service have beyond their fair share, so that
// the scheduler spreads their clients anew; see [balancer.Pool.Surplus]. It ends those first
// that have been idle longest, at most rate a second; zero is as many as all of them take a
// minute. A connection is closed as by [flow.Fin]; the outcome is [flow.Rebalanced].
//
// Shares are looked at again before each step, so flows that end by themselves count. There
// are no more ended than were too many at the start. Before the first step and after each one
// progress, if it is not nil, is called with how many have ended, of how many. Rebalance
// returns how many have when it is done, or when ctx or the server ends. The error says why
// the service has no shares, or is ctx's.
func (s *Server) Rebalance(ctx context.Context, svc *Service, rate float64, progress func(ended, of int)) (ended int, err error) {
	if rate < 0 || math.IsNaN(rate) {
		return 0, fmt.Errorf("rate %v: flows per second are at least 0", rate)
	}
	if _, isOn := s.rebalancing.LoadOrStore(svc, nil); isOn {
		return 0, ErrRebalancing
	}
	defer s.rebalancing.Delete(svc)
	surplus, err := surplusOf(svc)
	if err != nil {
		return 0, err
	}
	most := surplus.total()
	if rate == 0 {
		rate = float64(most) / rebalanceTime.Seconds()
	}
	if progress == nil {
		progress = func(int, int) {}
	}
	r := rebalance{server: s, service: svc, most: int(most), pace: newPace(rate), progress: progress}
	err = r.run(ctx)
	return r.ended, err
}

// surpluses are the flows that backends have beyond their share.
type surpluses map[*balancer.Backend]int64

func surplusOf(svc *Service) (surpluses, error) {
	c := svc.Config()
	switch {
	case c.Persist.On:
		return nil, errors.New("its clients are kept at their backends")
	case c.UDP.OnePacket:
		return nil, errors.New("it chooses a backend for each datagram")
	}
	all, err := c.Pool.Surplus()
	if err != nil {
		return nil, err
	}
	of := make(surpluses)
	for _, one := range all {
		of[one.Backend] = one.Flows
	}
	return of, nil
}

func (s surpluses) total() (n int64) {
	for _, flows := range s {
		n += flows
	}
	return n
}

// pace is how many flows end in a step, and how long that is.
type pace struct {
	step  time.Duration
	flows int
}

// newPace keeps a rate of flows a second, which is positive, in steps of at least
// rebalanceStep.
func newPace(rate float64) pace {
	flows := max(math.Ceil(rate*rebalanceStep.Seconds()), 1)
	step := time.Duration(min(flows/rate*float64(time.Second), math.MaxInt64/2))
	return pace{step: max(step, rebalanceStep), flows: int(min(flows, math.MaxInt32))}
}

// rebalance is one that is under way.
type rebalance struct {
	server  *Server
	service *Service
	most    int // flows to end
	pace    pace
	ended   int

	progress func(ended, of int)
}

// run ends flows step by step until nobody has too many.
func (r *rebalance) run(ctx context.Context) error {
	var chosen []Row
	timer := time.NewTimer(0)
	defer timer.Stop()
	r.progress(0, r.most)
	for r.ended < r.most {
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-r.server.done:
			return nil
		case <-timer.C:
		}
		surplus, err := surplusOf(r.service)
		if err != nil || r.service.IsRemoved() {
			return err
		}
		if len(chosen) == 0 {
			if chosen = r.choose(surplus); len(chosen) == 0 {
				return nil
			}
		}
		chosen = r.step(chosen, surplus)
		r.progress(r.ended, r.most)
		timer.Reset(r.pace.step)
	}
	return nil
}

// step ends one step's flows, of backends that still have too many, and returns the others.
func (r *rebalance) step(chosen []Row, surplus surpluses) (left []Row) {
	left = chosen
	rows := make([]Row, 0, rowShare)
	for n := min(r.pace.flows, r.most-r.ended); n > 0 && len(left) > 0; {
		rows = rows[:0]
		for len(left) > 0 && len(rows) < min(n, rowShare) {
			if row := left[0]; surplus[row.Backend] > 0 {
				surplus[row.Backend]--
				rows = append(rows, row)
			}
			left = left[1:]
		}
		ended := r.server.terminate(rows, flow.Rebalanced)
		r.ended += ended
		n -= ended
	}
	return left
}

// choose returns flows that may end: the longest idle of each backend, some of its surplus.
func (r *rebalance) choose(surplus surpluses) []Row {
	total := surplus.total()
	if total == 0 {
		return nil
	}
	chosen := make(map[*balancer.Backend]*TopRows, len(surplus))
	for b, n := range surplus {
		share := max(n*min(total, rebalanceChoice)/total, 1)
		chosen[b] = NewTopRows(int(share), longestIdle)
	}
	for row := range r.server.Flows() {
		if h := chosen[row.Backend]; h != nil && row.Service == r.service && mayMove(&row) {
			h.Add(row)
		}
	}
	var all []Row
	for _, h := range chosen {
		all = append(all, h.Take()...)
	}
	sortRows(all, longestIdle)
	return all
}

// longestIdle has those come first that have carried nothing for longest, of these the oldest.
func longestIdle(a, b *Row) int {
	return cmp.Or(cmp.Compare(a.Touched, b.Touched), cmp.Compare(a.Created, b.Created))
}

// mayMove reports whether a flow is worth ending: it is with its backend, and does not end
// anyway.
func mayMove(r *Row) bool {
	return r.State == conntrack.Established || r.State == conntrack.Assured
}
