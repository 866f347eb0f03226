package reconcile

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// timed is a task whose runs take a while.
type timed struct {
	began []time.Duration
	since time.Time
	takes time.Duration
	again []time.Duration // what its runs ask for, in order
}

func (x *timed) reconcile() (again time.Duration) {
	x.began = append(x.began, time.Since(x.since))
	time.Sleep(x.takes)
	if len(x.again) > 0 {
		again, x.again = x.again[0], x.again[1:]
	}
	return again
}

// TestQueue is when the runs begin of a task that takes a second or so.
func TestQueue(t *testing.T) {
	t.Parallel()
	const s = time.Second
	type add struct{ at, delay time.Duration }
	for _, tt := range []struct {
		name  string
		adds  []add
		takes time.Duration
		again []time.Duration
		want  []time.Duration
	}{
		{"not added", nil, s, nil, nil},
		{"added", []add{{3 * s, 0}}, s, nil, []time.Duration{3 * s}},
		{"added twice before it runs", []add{{0, 5 * s}, {s, 7 * s}}, s, nil, []time.Duration{5 * s}},
		{"added again for an earlier time", []add{{0, 5 * s}, {s, s}}, s, nil, []time.Duration{2 * s}},
		{"added while it runs", []add{{3 * s, 0}, {3*s + s/30, 0}, {3*s + s/20, 0}}, s / 10, nil, []time.Duration{3 * s, 4 * s}},
		{"added while it rests", []add{{3 * s, 0}, {3*s + s/2, 0}, {3*s + s/3, 0}}, s / 10, nil, []time.Duration{3 * s, 4 * s}},
		{"added after its rest", []add{{3 * s, 0}, {20 * s, 0}}, s / 10, nil, []time.Duration{3 * s, 20 * s}},
		{"due again", []add{{0, 0}}, s / 10, []time.Duration{30 * s, 1}, []time.Duration{0, 30*s + s/10, 31*s + s/10}},
		{"added before it is due again", []add{{0, 0}, {20 * s, 0}}, s, []time.Duration{30 * s}, []time.Duration{0, 20 * s}},
		{"added while a long run goes on", []add{{0, 0}, {10 * s, 0}}, 20 * s, nil, []time.Duration{0, 21 * s}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				begin := time.Now()
				x := &timed{since: begin, takes: tt.takes, again: tt.again}
				q, j := newQueue(2), &job{task: x}
				for _, a := range tt.adds {
					time.Sleep(time.Until(begin.Add(a.at)))
					q.add(j, a.delay)
				}
				time.Sleep(time.Hour)
				q.close()
				q.close()
				q.add(j, 0)
				if !slices.Equal(x.began, tt.want) {
					t.Errorf("runs at %v, want %v", x.began, tt.want)
				}
			})
		})
	}
}

// TestQueueFlush: no rest holds it up, and a run that is under way has not seen what came before the flush.
func TestQueueFlush(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		begin := time.Now()
		x, y := &timed{since: begin, takes: time.Second}, &timed{since: begin, takes: time.Minute}
		q, jx, jy := newQueue(2), &job{task: x}, &job{task: y}
		defer q.close()
		q.flush(t.Context(), jx, jy) // of what was not added
		q.add(jx, 0)
		time.Sleep(time.Second / 2)
		q.add(jx, time.Hour)
		q.flush(t.Context(), jx, jy)
		if got := fmt.Sprint(x.began, time.Since(begin)); got != "[0s 1s] 2s" {
			t.Errorf("runs and end of the flush: %s", got)
		}
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		defer cancel()
		q.add(jy, 0)
		q.flush(ctx, jx, jy)
		if got := time.Since(begin); got != 12*time.Second {
			t.Errorf("flush goes on until %v", got)
		}
	})
}

// TestQueueEnds: with the run that is under way, as remove does.
func TestQueueEnds(t *testing.T) {
	t.Parallel()
	for name, end := range map[string]func(*queue, *job){
		"close":  func(q *queue, _ *job) { q.close() },
		"remove": func(q *queue, j *job) { q.remove(j); q.remove(j) },
	} {
		synctest.Test(t, func(t *testing.T) {
			begin := time.Now()
			x := &timed{since: begin, takes: time.Minute, again: []time.Duration{1, 1}}
			q, j := newQueue(2), &job{task: x}
			q.add(j, 0)
			time.Sleep(time.Second)
			q.add(j, 0)
			go func() {
				time.Sleep(time.Second)
				q.add(j, 0) // by who has not heard of the end: two runs at once would be the worst
			}()
			end(q, j)
			q.add(j, 0)
			if took := time.Since(begin); took != time.Minute {
				t.Errorf("%s took until %v", name, took)
			}
			time.Sleep(time.Hour)
			if len(x.began) != 1 {
				t.Errorf("%s: %d runs", name, len(x.began))
			}
			q.close()
		})
	}
}

// counter fails when it runs twice at once.
type counter struct {
	t                   *testing.T
	added, seen, inside atomic.Int64
}

func (c *counter) reconcile() time.Duration {
	if c.inside.Add(1) > 1 {
		c.t.Error("a task runs twice at once")
	}
	c.seen.Store(c.added.Load())
	c.inside.Add(-1)
	return 0
}

// TestQueueLosesNothing: a run begins after each addition, from any goroutine.
func TestQueueLosesNothing(t *testing.T) {
	t.Parallel()
	q := newQueue(3)
	var tasks [5]counter
	var jobs [5]job
	for i := range tasks {
		tasks[i].t = t
		jobs[i].task = &tasks[i]
	}
	var adding sync.WaitGroup
	for range 4 {
		adding.Go(func() {
			for i := range 2000 {
				tasks[i%len(tasks)].added.Add(1)
				q.add(&jobs[i%len(tasks)], 0)
			}
		})
	}
	adding.Wait()
	for i := range tasks {
		for c := &tasks[i]; c.seen.Load() < c.added.Load(); time.Sleep(time.Millisecond) {
		}
	}
	q.close()
}
