//go:build linux

package conformance

import (
	"errors"
	"fmt"
	"os"
	"sync"
	"sync/atomic"
	"time"
)

// A reuse is a reply that came to a client which had not asked for it.
type reuse struct {
	client, of int
	port       uint16 // of the flow that the reply was sent to
	backend    string
}

// churn has far more clients than allowed flows, and flows that end with their reply.
// Flows are evicted, refused and begun anew while replies are in flight. Many replies
// are lost. A client must only get replies to its own requests, and in the end all
// resources are returned.
//
// The kernel gives a port to a new flow soon after another flow has left it. The proxy
// cannot tell a late reply to such a port from the new flow's. No target fails for it.
func churn(c *C) {
	const clients = 100
	type user struct {
		port    uint16
		backend string
		client  int
	}
	var mu sync.Mutex
	used := make(map[user]bool)
	serve := func(name string) *UDP {
		return c.ServeUDP(func(b *UDP, d Datagram) {
			var client, n int
			if _, err := fmt.Sscanf(string(d.Data), "client %d, request %d", &client, &n); err != nil {
				c.Errorf("backend: got %.40q", d.Data)
			}
			mu.Lock()
			used[user{d.From.Port(), name, client}] = true
			mu.Unlock()
			b.Send(d.From, named(name, d))
		})
	}
	a, b := serve("a"), serve("b")
	p := through(c, Config{MaxFlows: 40, Replies: 1, IdleTimeout: time.Second}, a, b)
	// On a busy machine it takes longer until any of that little is answered.
	requests, enough, start := c.Size(100, 40), int64(10), time.Now()
	var answered atomic.Int64
	var strange []reuse
	c.Each(clients, func(id int) error {
		r := c.Rand(2 + id)
		client, err := c.TryClient(p, c.host(1)+":0")
		if err != nil {
			return err
		}
		for n := 0; n < requests || answered.Load() < enough && time.Since(start) < c.patience(); n++ {
			for range 1 + r.IntN(3) {
				if err := client.Say(fmt.Sprintf("client %d, request %d", id, n)); err != nil {
					return err
				}
			}
			for patience := time.Duration(1+r.IntN(3)) * time.Millisecond; ; patience = time.Microsecond {
				data, err := client.Reply(patience)
				if errors.Is(err, os.ErrDeadlineExceeded) {
					break
				}
				if err != nil {
					return err
				}
				x, to, of := reuse{client: id}, 0, 0
				if _, err := fmt.Sscanf(string(data), "%s %d client %d, request %d", &x.backend, &x.port, &to, &of); err != nil || to == id && of > n {
					return client.errorf("client %d has sent request %d and gets the reply %.40q", id, n, data)
				}
				answered.Add(1)
				if x.of = to; to != id {
					mu.Lock()
					strange = append(strange, x)
					mu.Unlock()
				}
			}
		}
		return nil
	})
	c.Logf("%d of at least %d requests were answered, %d through a port that had been another client's", answered.Load(), clients*requests, len(strange))
	if n := answered.Load(); n < enough {
		c.Fatalf("only %d of at least %d requests were answered", n, clients*requests)
	}
	c.Wait(2*c.patience(), "the flows to end", func() bool { return HasNoUpstreams(a.Addr, b.Addr) })
	mu.Lock()
	defer mu.Unlock()
	for _, x := range strange {
		if !used[user{x.port, x.backend, x.client}] {
			c.Fatalf("client %d got a reply to client %d from backend %s, which was sent to port %d: never a port of its own", x.client, x.of, x.backend, x.port)
		}
	}
}
