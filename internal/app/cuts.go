package app

import (
	"sync"
	"time"

	"usher/balancer"
	"usher/internal/config"
	"usher/proxy"
)

// cuts ends the flows of backends that get no new ones, at once or after a while. Its owner closes it.
type cuts struct {
	cut func(*balancer.Backend, proxy.Cut)

	mu      sync.Mutex
	planned map[reason]*time.Timer // of cuts to come
	closed  bool
	running sync.WaitGroup
}

// cause is why a backend gets no new flows.
type cause uint8

const (
	checkDown cause = iota
	agentDown
	ordered // by an operator, to drain or for maintenance
	removal // for good
	causes
)

// reason is a backend and a cause: of several the first to be due counts.
type reason struct {
	backend *balancer.Backend
	cause   cause
}

func newCuts(cut func(*balancer.Backend, proxy.Cut)) *cuts {
	return &cuts{cut: cut, planned: make(map[reason]*time.Timer)}
}

// plan does what policy says with the flows of a backend. The order of a removal, which is the last that a backend gets,
// takes the place of all others, unless it is to keep the flows: those of a backend that was down before are still such.
func (c *cuts) plan(b *balancer.Backend, policy config.Cut, why cause) {
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
	r := reason{b, why}
	if c.closed || c.planned[r] != nil || c.planned[reason{b, removal}] != nil {
		return
	}
	if why == removal {
		for other := range causes {
			c.drop(reason{b, other})
		}
	}
	var timer *time.Timer
	timer = time.AfterFunc(policy.After, func() {
		c.mu.Lock()
		due := c.planned[r] == timer && !c.closed
		if due {
			delete(c.planned, r)
			c.running.Add(1)
		}
		c.mu.Unlock()
		if due {
			defer c.running.Done()
			c.cut(b, how)
		}
	})
	c.planned[r] = timer
}

// spare calls off what was planned for a cause that has gone.
func (c *cuts) spare(b *balancer.Backend, why cause) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.drop(reason{b, why})
}

// drop needs mu.
func (c *cuts) drop(r reason) {
	if timer := c.planned[r]; timer != nil {
		timer.Stop()
		delete(c.planned, r)
	}
}

// close calls off all that is planned, and waits for what is under way.
func (c *cuts) close() {
	c.mu.Lock()
	c.closed = true
	for r := range c.planned {
		c.drop(r)
	}
	c.mu.Unlock()
	c.running.Wait()
}
