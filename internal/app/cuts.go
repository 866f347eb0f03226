package app

import (
	"sync"
	"time"

	"usher/balancer"
	"usher/internal/config"
	"usher/proxy"
)

// cuts ends the flows of backends that are down or removed, at once or after a while. Its owner closes it.
type cuts struct {
	cut func(*balancer.Backend, proxy.Cut)

	mu      sync.Mutex
	planned map[*balancer.Backend]*planned
	closed  bool
	running sync.WaitGroup
}

// planned is a cut to come.
type planned struct {
	*time.Timer
	removed bool // the backend has been: it will not be up again
}

func newCuts(cut func(*balancer.Backend, proxy.Cut)) *cuts {
	return &cuts{cut: cut, planned: make(map[*balancer.Backend]*planned)}
}

// plan does what policy says with the flows of a backend that is down or, last of all, removed. The order of a removal
// takes the place of what was planned because the backend is down, unless it is to keep the flows: those of a backend
// that was down before are still such.
func (c *cuts) plan(b *balancer.Backend, policy config.Cut, removed bool) {
	how := proxy.Keep
	switch policy.How {
	case "fin":
		how = proxy.Fin
	case "reset":
		how = proxy.Reset
	}
	if how == proxy.Keep {
		return
	}
	if policy.After == 0 {
		c.cut(b, how)
		return
	}

	c.mu.Lock()
	defer c.mu.Unlock()
	before := c.planned[b]
	if c.closed || before != nil && (before.removed || !removed) {
		return
	}
	if before != nil {
		before.Stop()
	}
	p := &planned{removed: removed}
	p.Timer = time.AfterFunc(policy.After, func() {
		c.mu.Lock()
		due := c.planned[b] == p && !c.closed
		if due {
			delete(c.planned, b)
			c.running.Add(1)
		}
		c.mu.Unlock()
		if due {
			defer c.running.Done()
			c.cut(b, how)
		}
	})
	c.planned[b] = p
}

// spare calls off what was planned for a backend that was down: it is up again. A report of that may come when the
// backend has just been removed.
func (c *cuts) spare(b *balancer.Backend) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if p := c.planned[b]; p != nil && !p.removed {
		p.Stop()
		delete(c.planned, b)
	}
}

// close calls off all that is planned, and waits for what is under way.
func (c *cuts) close() {
	c.mu.Lock()
	c.closed = true
	for b, p := range c.planned {
		p.Stop()
		delete(c.planned, b)
	}
	c.mu.Unlock()
	c.running.Wait()
}
