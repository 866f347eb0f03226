package reconcile

import (
	"context"
	"sync"
	"time"
)

// task is what a queue runs.
type task interface {
	// reconcile does what is due, and returns after how long it is due again; 0: when it is added.
	reconcile() (again time.Duration)
}

// restFactor is how much longer than its run a task rests after it. A run takes time for each backend: when thousands of
// them have news one by one there would be one run for each.
const restFactor = 9

// maxRest bounds a rest: a run that a busy machine has drawn out does not keep the next one for long.
const maxRest = time.Second

// queue runs tasks soon after they were added: none twice at once, and once for all additions that come before the run
// begins. Its methods may be called by any goroutine, and add waits for no task.
type queue struct {
	workers sync.WaitGroup

	mu     sync.Mutex // never held while a task runs
	work   sync.Cond  // signals ready and closed
	ended  sync.Cond  // signals the end of a run, and closed
	ready  []*job
	closed bool
}

// job is a task of a queue. Guarded by queue.mu.
type job struct {
	task    task
	wanted  time.Time // when the next run is due; zero: not at all
	rest    time.Time // until when none begins
	hurry   bool      // but the next one, which flush waits for
	awaited bool      // somebody waits for the end of a run
	isReady bool
	running bool
	removed bool
	begun   int // runs
	timer   *time.Timer
}

// newQueue starts n workers.
func newQueue(n int) *queue {
	q := new(queue)
	q.work.L, q.ended.L = &q.mu, &q.mu
	for range n {
		q.workers.Go(q.run)
	}
	return q
}

// add has a job run after the delay, or before if it was added for an earlier time.
func (q *queue) add(j *job, delay time.Duration) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.schedule(j, time.Now().Add(delay))
}

// flush runs those of jobs that were added, without a rest, and returns when they have run or ctx ends.
func (q *queue) flush(ctx context.Context, jobs ...*job) {
	defer context.AfterFunc(ctx, func() {
		q.mu.Lock()
		defer q.mu.Unlock()
		q.ended.Broadcast()
	})()
	q.mu.Lock()
	defer q.mu.Unlock()
	runs := make([]int, len(jobs)) // that are to end
	for i, j := range jobs {
		runs[i] = j.begun
		if !j.wanted.IsZero() {
			runs[i]++
			j.hurry = true
			q.schedule(j, time.Now())
			q.wake(j)
		}
	}
	for i := len(jobs) - 1; i >= 0; i-- { // the last one ends last: there is little to wake up for
		j := jobs[i]
		for (j.begun < runs[i] || j.begun == runs[i] && j.running) && !j.removed && !q.closed && ctx.Err() == nil {
			q.awaitEnd(j)
		}
	}
}

// remove forgets a job. It waits for a run that is under way; none follows.
func (q *queue) remove(j *job) {
	q.mu.Lock()
	defer q.mu.Unlock()
	j.removed = true
	if j.timer != nil {
		j.timer.Stop()
	}
	q.ended.Broadcast()
	for j.running {
		q.awaitEnd(j)
	}
}

// close waits for the runs that are under way.
func (q *queue) close() {
	q.mu.Lock()
	q.closed = true
	q.work.Broadcast()
	q.ended.Broadcast()
	q.mu.Unlock()
	q.workers.Wait()
}

// awaitEnd returns when a run of a job has ended, or more. It needs mu, as all that follow do.
func (q *queue) awaitEnd(j *job) {
	j.awaited = true
	q.ended.Wait()
}

// schedule makes a run due at a time, unless one is due before.
func (q *queue) schedule(j *job, at time.Time) {
	if !j.wanted.IsZero() && !at.Before(j.wanted) {
		return
	}
	j.wanted = at
	q.wake(j)
}

// wake makes a job ready if it is due, else it sets its timer.
func (q *queue) wake(j *job) {
	if j.wanted.IsZero() || j.running || j.isReady || j.removed || q.closed {
		return
	}
	pause := time.Until(j.wanted)
	if !j.hurry {
		pause = max(pause, time.Until(j.rest))
	}
	switch {
	case pause <= 0:
		j.isReady = true
		q.ready = append(q.ready, j)
		q.work.Signal()
	case j.timer == nil:
		j.timer = time.AfterFunc(pause, func() {
			q.mu.Lock()
			defer q.mu.Unlock()
			q.wake(j)
		})
	default:
		j.timer.Reset(pause)
	}
}

// run runs what is ready until the queue is closed.
func (q *queue) run() {
	q.mu.Lock()
	defer q.mu.Unlock()
	for {
		for len(q.ready) == 0 && !q.closed {
			q.work.Wait()
		}
		if q.closed {
			return
		}
		j := q.ready[0]
		q.ready = q.ready[1:]
		j.isReady = false
		if !j.removed {
			q.runOne(j)
		}
	}
}

// runOne gives mu up while the task runs.
func (q *queue) runOne(j *job) {
	j.wanted, j.hurry, j.running = time.Time{}, false, true
	j.begun++
	q.mu.Unlock()
	began := time.Now()
	again := j.task.reconcile()
	now := time.Now()
	q.mu.Lock()
	j.running = false
	j.rest = now.Add(min(restFactor*now.Sub(began), maxRest))
	if again > 0 {
		q.schedule(j, now.Add(again))
	}
	q.wake(j)
	if j.awaited {
		j.awaited = false
		q.ended.Broadcast()
	}
}
