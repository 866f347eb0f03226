//go:build linux

package conformance_test

import (
	"fmt"
	"hash/fnv"
	"net"
	"net/netip"
	"os"
	"slices"
	"sync"
	"time"

	"usher/internal/conformance"
)

// pool chooses backends for the forwarder.
type pool struct {
	forwarderOrder
	backends []conformance.BackendWord

	mu     *sync.Mutex
	next   int
	active []int // flows of each backend
	kept   map[netip.Prefix]int
	until  map[netip.Prefix]time.Time
	line   []chan struct{} // clients that wait, each to be closed when it is its turn
}

func newPool(order forwarderOrder) *pool {
	p := &pool{forwarderOrder: order, mu: new(sync.Mutex), kept: make(map[netip.Prefix]int), until: make(map[netip.Prefix]time.Time)}
	for _, word := range order.Config.Backends {
		p.backends = append(p.backends, conformance.ParseBackend(word))
	}
	p.active = make([]int, len(p.backends))
	return p
}

// choose reserves a backend that was not tried, or returns -1. busy reports whether
// one of those is at its maximum of flows.
func (p *pool) choose(client netip.Addr, tried []int) (b int, busy bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, i := range p.order(client) {
		most := p.backends[i].Max
		if most > 0 && p.Flaw == "max-and-one" {
			most++
		}
		switch {
		case slices.Contains(tried, i):
			continue
		case most > 0 && p.active[i] >= most && p.Flaw != "no-max":
			busy = true
			continue
		}
		p.active[i]++
		p.keep(client, i)
		return i, false
	}
	return -1, busy
}

// who returns the part of a client's address that persistence uses, if it is on.
func (p *pool) who(client netip.Addr) (who netip.Prefix, keeps bool) {
	bits := p.Config.PersistBits
	if bits == 0 || p.Flaw == "ignores-the-prefix" {
		bits = 32
	}
	who, _ = client.Unmap().Prefix(bits)
	return who, p.Config.Persist > 0 && p.Flaw != "keeps-no-clients"
}

// keep remembers the backend of a client. The caller must hold p.mu.
func (p *pool) keep(client netip.Addr, b int) {
	if who, keeps := p.who(client); keeps {
		p.kept[who] = b
		if p.Flaw != "keeps-for-ever" {
			p.until[who] = time.Now().Add(p.Config.Persist)
		}
	}
}

// order lists the backends in the order of tries. The caller must hold p.mu.
func (p *pool) order(client netip.Addr) []int {
	var turns []int
	for i, b := range p.backends {
		weight := b.Weight
		if p.Flaw == "ignores-weights" {
			weight = 1
		}
		for range weight {
			turns = append(turns, i)
		}
	}
	first := p.next % len(turns)
	p.next++
	switch p.Config.Scheduler {
	case "mh", "sh", "ring", "hrw":
		if bits := p.Config.HashBits; bits > 0 && p.Flaw != "ignores-the-prefix" {
			prefix, _ := client.Unmap().Prefix(bits)
			client = prefix.Addr()
		}
	}
	order := slices.Concat(turns[first:], turns[:first])
	switch p.Config.Scheduler {
	case "mh", "sh", "ring", "hrw": // the highest draw of backend and client together
		slices.SortStableFunc(order, func(a, b int) int { return p.draw(client, b) - p.draw(client, a) })
	case "lc", "wlc", "p2c", "ewma":
		if p.Flaw != "counts-nothing" {
			slices.SortStableFunc(order, func(a, b int) int {
				return p.active[a]*p.backends[b].Weight - p.active[b]*p.backends[a].Weight
			})
		}
	}
	if p.Flaw != "uses-backups" {
		slices.SortStableFunc(order, func(a, b int) int {
			switch {
			case p.backends[a].Backup == p.backends[b].Backup:
				return 0
			case p.backends[b].Backup:
				return -1
			}
			return 1
		})
	}
	if p.Flaw == "first-backend-only" {
		slices.Sort(order)
	}
	who, keeps := p.who(client)
	until, ends := p.until[who]
	if i, ok := p.kept[who]; keeps && ok && (!ends || time.Now().Before(until)) {
		order = slices.Insert(order, 0, i)
	}
	return order
}

// draw is a hash of a client and a backend.
func (p *pool) draw(client netip.Addr, b int) int {
	h := fnv.New32a()
	fmt.Fprint(h, p.backends[b].Addr, " ", client.Unmap())
	if p.Flaw == "hashes-by-process" {
		fmt.Fprint(h, os.Getpid())
	}
	n := h.Sum32()
	n = (n ^ n>>15) * 0x85ebca6b // mixes similar addresses
	return int((n ^ n>>13) >> 1)
}

func (p *pool) release(b int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.active[b]--
	if len(p.line) == 0 {
		return
	}
	next := 0
	if p.Flaw == "last-come-first-served" {
		next = len(p.line) - 1
	}
	close(p.line[next])
	p.line = slices.Delete(p.line, next, next+1)
}

// wait queues a client until its turn comes, and reports whether to continue.
func (p *pool) wait(client *net.TCPConn, since time.Time) bool {
	turn := make(chan struct{})
	p.mu.Lock()
	if len(p.line) >= p.Config.QueueLength && p.Flaw != "endless-queue" {
		p.mu.Unlock()
		return false
	}
	p.line = append(p.line, turn)
	p.mu.Unlock()
	patience := p.Config.QueueTimeout
	if p.Flaw == "waits-for-ever" {
		patience = time.Hour
	}
	deadline := time.After(time.Until(since.Add(patience)))
	look := time.NewTicker(5 * time.Millisecond)
	defer look.Stop()
	for {
		select {
		case <-turn:
			return true
		case <-deadline:
			return p.leave(turn)
		case <-look.C:
			if isBroken(client) {
				p.leave(turn)
				return false
			}
			if p.isTurnMissed(turn) {
				return true
			}
		}
	}
}

// isTurnMissed reports whether a place became free before the client reached the head of the
// queue. The client then leaves the queue.
func (p *pool) isTurnMissed(turn chan struct{}) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.line) == 0 || p.line[0] != turn {
		return false
	}
	for i, b := range p.backends {
		if p.active[i] < b.Max {
			p.line = p.line[1:]
			return true
		}
	}
	return false
}

// leave removes a client from the queue. If its turn has just come, it passes the turn
// on.
func (p *pool) leave(turn chan struct{}) bool {
	p.mu.Lock()
	i := slices.Index(p.line, turn)
	if i >= 0 {
		p.line = slices.Delete(p.line, i, i+1)
	}
	p.mu.Unlock()
	return i < 0
}
