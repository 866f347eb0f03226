//go:build linux

package conformance

import (
	"sync"
	"time"
)

// pulse measures how far this machine falls behind while a case measures time. A
// goroutine sleeps briefly in a loop and adds up by how much it oversleeps. Load that
// delays it also delays the proxy, the backends and the clients.
type pulse struct {
	mu   sync.Mutex
	lost time.Duration
	most time.Duration // of one sleep
	due  time.Time     // when the current sleep should end
}

const (
	beat = 10 * time.Millisecond
	// A machine at rest oversleeps as well.
	oversleep = 2 * time.Millisecond
)

// lostBy returns the time lost until now, the current sleep included.
func (p *pulse) lostBy(now time.Time) time.Duration {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.lost + max(0, now.Sub(p.due)-oversleep)
}

func (p *pulse) sleeps(now time.Time) {
	lost := p.lostBy(now)
	p.mu.Lock()
	defer p.mu.Unlock()
	p.most = max(p.most, lost-p.lost)
	p.lost, p.due = lost, now.Add(beat)
}

// total returns the time lost in all, and the most in one sleep.
func (p *pulse) total() (lost, most time.Duration) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.lost, p.most
}

// run keeps the pulse until done is closed.
func (p *pulse) run(done <-chan struct{}) {
	for {
		select {
		case <-time.After(beat):
			p.sleeps(time.Now())
		case <-done:
			return
		}
	}
}

// A stopwatch measures what a case judges the proxy by. Any goroutine may read it.
type stopwatch struct {
	pulse *pulse
	began time.Time
	lost  time.Duration
}

// stopwatch begins to measure.
func (c *C) stopwatch() stopwatch {
	c.keepPulse.Do(func() {
		c.pulse.due = time.Now().Add(beat)
		ended := make(chan struct{})
		go func() {
			defer close(ended)
			c.pulse.run(c.ctx.Done())
		}()
		c.Cleanup(func() { <-ended })
	})
	now := time.Now()
	return stopwatch{&c.pulse, now, c.pulse.lostBy(now)}
}

// took is the time that has passed. Use it to judge that nothing is early.
func (w stopwatch) took() time.Duration { return time.Since(w.began) }

// fair is about the time that it takes on a machine at rest: took without the loss of
// each participant. Use it to judge that nothing is late. On a machine that loses
// nearly all time, it still advances slowly.
func (w stopwatch) fair() time.Duration {
	const parts = 4 // the client, the proxy on both ways, the backend
	const least = 3 // the least that remains of those parts
	now := time.Now()
	took := now.Sub(w.began)
	return max(took/least, took-parts*(w.pulse.lostBy(now)-w.lost))
}
