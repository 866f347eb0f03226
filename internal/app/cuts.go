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
	planned map[*balancer.Backend]*time.Timer
	closed  bool
	running sync.WaitGroup
}

func newCuts(cut func(*balancer.Backend, proxy.Cut)) *cuts {
	return &cuts{cut: cut, planned: make(map[*balancer.Backend]*time.Timer)}
}

// plan does what policy says with the flows of a backend. Its clients forget it in any case.
func (c *cuts) plan(b *balancer.Backend, policy config.Cut) {
	how := proxy.Keep
	switch policy.How {
	case "fin":
		how = proxy.Fin
	case "reset":
		how = proxy.Reset
	}
	if policy.After == 0 || how == proxy.Keep {
		c.cut(b, how)
		return
	}
	c.cut(b, proxy.Keep)

	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed || c.planned[b] != nil {
		return
	}
	var timer *time.Timer
	timer = time.AfterFunc(policy.After, func() {
		c.mu.Lock()
		due := c.planned[b] == timer && !c.closed
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
	c.planned[b] = timer
}

// spare calls off what was planned for a backend: it is up again.
func (c *cuts) spare(b *balancer.Backend) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if t := c.planned[b]; t != nil {
		t.Stop()
		delete(c.planned, b)
	}
}

// close calls off all that is planned, and waits for what is under way.
func (c *cuts) close() {
	c.mu.Lock()
	c.closed = true
	for b, t := range c.planned {
		t.Stop()
		delete(c.planned, b)
	}
	c.mu.Unlock()
	c.running.Wait()
}
