package app

import (
	"sync"
	"time"
)

// errand is a goroutine that does one thing again and again: soon after it is told to, and when the thing itself said so
// the last time. However often it is told meanwhile, once is enough.
type errand struct {
	do func() (next time.Duration, ok bool) // ok: again in next, if nobody tells before

	news   chan struct{} // holds one
	done   chan struct{}
	ending sync.Once
	loop   sync.WaitGroup
}

// errandRest is how much longer than its work an errand rests after it. What it does takes time for each backend, and when
// thousands of them have news one by one there would be one round for each.
const errandRest = 9

// newErrand begins with a round if first, else when it is told to.
func newErrand(first bool, do func() (next time.Duration, ok bool)) *errand {
	e := &errand{do: do, news: make(chan struct{}, 1), done: make(chan struct{})}
	if first {
		e.tell()
	}
	e.loop.Go(e.run)
	return e
}

// tell does not wait. Any goroutine may call it.
func (e *errand) tell() {
	select {
	case e.news <- struct{}{}:
	default:
	}
}

// run ends with close.
func (e *errand) run() {
	timer, rest := time.NewTimer(time.Hour), time.NewTimer(0)
	timer.Stop()
	defer timer.Stop()
	defer rest.Stop()
	for {
		select {
		case <-e.news:
		case <-timer.C:
		case <-e.done:
			return
		}
		select {
		case <-rest.C:
		case <-e.done:
			return
		}
		select {
		case <-e.news: // came during the rest: the round to come sees it
		default:
		}
		began := time.Now()
		next, ok := e.do()
		took := time.Since(began)
		if ok {
			timer.Reset(max(next, time.Millisecond))
		} else {
			timer.Stop()
		}
		rest.Reset(errandRest * took)
	}
}

// close waits for a round that is under way.
func (e *errand) close() {
	e.ending.Do(func() { close(e.done) })
	e.loop.Wait()
}
