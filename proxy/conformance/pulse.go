//go:build linux

package conformance

import (
	"sync"
	"time"
)

// A pulse knows how far this machine falls behind while a case measures time: a
// goroutine sleeps for a short while again and again, and adds up by how much it
// oversleeps. What keeps it from its processor keeps the proxy, the backends and
// the clients from theirs.
type pulse struct {
	mu   sync.Mutex
	lost time.Duration
	due  time.Time // when the sleep that is under way should end
}

const (
	beat = 10 * time.Millisecond
	// A machine at rest oversleeps as well.
	oversleep = 2 * time.Millisecond
)

// lostBy returns what has been lost until now, the sleep under way included.
func (p *pulse) lostBy(now time.Time) time.Duration {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.lost + max(0, now.Sub(p.due)-oversleep)
}

func (p *pulse) next(now time.Time) {
	lost := p.lostBy(now)
	p.mu.Lock()
	defer p.mu.Unlock()
	p.lost, p.due = lost, now.Add(beat)
}

// run keeps the pulse until done is closed.
func (p *pulse) run(done <-chan struct{}) {
	for {
		select {
		case <-time.After(beat):
			p.next(time.Now())
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

// took is the time that has passed. To be early is judged by it.
func (w stopwatch) took() time.Duration { return time.Since(w.began) }

// fair is about the time that it would have taken on a machine at rest: what each
// of those who took part has lost is taken off. To be late is judged by it. It goes
// on, if slowly, on a machine that loses nearly all.
func (w stopwatch) fair() time.Duration {
	const parts = 4 // the client, the proxy on both ways, the backend
	const least = 3 // of which one part is the least that is left
	now := time.Now()
	took := now.Sub(w.began)
	return max(took/least, took-parts*(w.pulse.lostBy(now)-w.lost))
}
