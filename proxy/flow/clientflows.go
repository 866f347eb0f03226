package flow

import (
	"net/netip"
	"sync"
)

// clientFlows counts the udp flows of each client address at each service, over all
// workers, also where nothing bounds them: a later config may. It is asked when a flow begins or ends, never
// for a datagram of one that runs. It holds no more addresses than there are flows.
type clientFlows struct {
	mu    sync.Mutex
	count map[clientOf]int
}

type clientOf struct {
	Service *Service
	addr    netip.Addr
}

// enter counts one more flow, unless there are as many as the service allows.
func (c *clientFlows) enter(svc *Service, addr netip.Addr) bool {
	most := int(svc.clientMost.Load())
	c.mu.Lock()
	defer c.mu.Unlock()
	key := clientOf{svc, addr}
	if most > 0 && c.count[key] >= most {
		return false
	}
	if c.count == nil {
		c.count = make(map[clientOf]int)
	}
	c.count[key]++
	return true
}

// leave takes back what enter counted.
func (c *clientFlows) leave(svc *Service, addr netip.Addr) {
	c.mu.Lock()
	defer c.mu.Unlock()
	key := clientOf{svc, addr}
	if c.count[key]--; c.count[key] <= 0 {
		delete(c.count, key)
	}
}
