//go:build linux

package conformance

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"os"
	"sync/atomic"
	"time"
)

func udpCrowdCases() []Case {
	const group = "UDP crowds"
	return []Case{
		{Name: "udp-replies-of-2000-clients-never-cross", Group: group, Heavy: true, Run: repliesNeverCross},
		{Name: "udp-churn-never-crosses", Group: group, Heavy: true, Run: churn},
		{Name: "udp-workers-share-a-port", Group: group, Heavy: true, Run: workersShare},
		{Name: "udp-clients-before-the-proxy", Group: group, Heavy: true, Run: earlyClients},
		{Name: "udp-flood-starves-nobody", Group: group, Alone: true, Run: floodStarvesNobody},
		{Name: "udp-back-to-start-after-10000-flows", Group: group, Heavy: true, Run: udpBackToStart},
	}
}

// shuffled is a backend that answers everything, but a few requests together
// and in any order.
func shuffled(c *C, r *rand.Rand) *UDP {
	b := c.UDPBackend()
	go func() {
		const together = 16
		var held []Datagram
		for {
			patience := time.Millisecond
			if len(held) == 0 {
				patience = time.Hour
			}
			d, err := b.Next(patience)
			if err == nil {
				held = append(held, d)
			}
			if c.ctx.Err() != nil {
				return
			}
			if err == nil && len(held) < together {
				continue
			}
			r.Shuffle(len(held), func(i, k int) { held[i], held[k] = held[k], held[i] })
			for _, d := range held {
				b.Send(d.From, d.Data)
			}
			held = held[:0]
		}
	}()
	return b
}

// repliesNeverCross has two thousand flows at once. Each request carries the
// number of its client and a number of its own, and contents of that number.
func repliesNeverCross(c *C) {
	const clients, atOnce = 2000, 100
	p := through(c, Config{IdleTimeout: time.Minute}, shuffled(c, c.Rand(0)), shuffled(c, c.Rand(1)))
	all := make([]*Client, clients)
	for i := range all {
		all[i] = c.Client(p)
	}
	for round := range c.Size(4, 3) {
		order := c.Rand(2 + round).Perm(clients)
		c.Step("round %d of %d clients", round, clients)
		c.Each(atOnce, func(worker int) error {
			r := c.Rand(1000 + worker)
			for i := worker; i < clients; i += atOnce {
				id := order[i]
				request := binary.BigEndian.AppendUint32(nil, uint32(id))
				request = binary.BigEndian.AppendUint32(request, uint32(round))
				request = append(request, c.Stream(uint64(id)).at(round, r.IntN(1000))...)
				if err := all[id].Say(string(request)); err != nil {
					return err
				}
				if err := all[id].Hear(string(request)); err != nil {
					return fmt.Errorf("client %d, round %d: %w", id, round, err)
				}
			}
			return nil
		})
	}
	for _, client := range all {
		c.Must(client.Silent(time.Microsecond)) // nobody got anything twice
	}
}

// workersShare sends many datagrams of few clients to a proxy of several workers. All
// workers must use the same flow for one client.
func workersShare(c *C) {
	a, b := c.Names("a"), c.Names("b")
	p := through(c, Config{Workers: 4}, a, b)
	const clients, together = 24, 8
	ports := make([]uint16, clients)
	c.Each(clients, func(i int) error {
		client, err := c.TryClient(p, c.host(1)+":0")
		if err != nil {
			return err
		}
		first, err := client.Ask("who?")
		if err != nil {
			return err
		}
		ports[i] = first.Port
		for range 100 {
			for range together {
				if err := client.Say("more"); err != nil {
					return err
				}
			}
			for range together {
				if err := client.Hear(fmt.Sprintf("%s %d more", first.Backend, first.Port)); err != nil {
					return err
				}
			}
		}
		return nil
	})
	seen := make(map[uint16]bool)
	for _, port := range ports {
		seen[port] = true
	}
	if len(seen) != clients {
		c.Fatalf("%d clients come from %d ports", clients, len(seen))
	}
	if n := Upstreams(a.Addr, b.Addr); n > clients {
		c.Fatalf("the proxy holds %d flows for %d clients", n, clients)
	}
}

// earlyClients sends before the proxy starts and while it starts. A port may then have
// the sockets of only some workers. Datagrams may be lost meanwhile, but a client that
// got an answer has a flow and keeps it.
func earlyClients(c *C) {
	const clients = 50
	port := c.udpPorts(1)
	to := netip.AddrPortFrom(netip.MustParseAddr("127.0.0.1"), uint16(port))
	var over atomic.Bool
	began := make(chan struct{}, clients)
	crowd := c.Begin(func() error {
		errs := make(chan error, clients)
		for range clients {
			go func() { errs <- earlyClient(c, to, &over, began) }()
		}
		var first error
		for range clients {
			if err := <-errs; err != nil && first == nil {
				first = err
			}
		}
		return first
	})
	for range clients {
		<-began
	}
	through(c, Config{Workers: 4, Listen: []Listener{{Network: "udp", Port: port}}}, c.Names("a"), c.Names("b"))
	c.Sleep(300 * time.Millisecond)
	over.Store(true)
	c.Must(crowd())
}

// earlyClient asks every millisecond until it is over.
func earlyClient(c *C, to netip.AddrPort, over *atomic.Bool, began chan<- struct{}) error {
	u, err := c.openUDP("client", c.host(1)+":0")
	began <- struct{}{}
	if err != nil {
		return err
	}
	client, flow := &Client{UDP: u, proxy: to}, Answer{}
	for done := false; !done && c.ctx.Err() == nil; {
		done = over.Load()
		patience := time.Millisecond
		if done && flow == (Answer{}) {
			patience = c.patience()
		}
		switch a, err := client.AskWithin("who?", patience); {
		case errors.Is(err, os.ErrDeadlineExceeded):
			if done && flow == (Answer{}) {
				return client.errorf("not answered by a proxy that serves")
			}
		case err != nil:
			return err
		case flow != (Answer{}) && a != flow:
			return client.errorf("one flow goes to %s from port %d and to %s from port %d", flow.Backend, flow.Port, a.Backend, a.Port)
		default:
			flow = a
		}
	}
	return nil
}

// floodStarvesNobody lets one client send as fast as it can while others ask and are
// answered. They share the listener's buffer, so some of their datagrams are lost and
// they ask again. They must get all of their answers, and lose hardly a larger part
// than the flood does. The flood has a backend of its own that echoes all of it. Its
// cost is not the proxy's.
func floodStarvesNobody(c *C) {
	const clients = 50
	a, b := c.Names("a"), c.Names("b")
	p := through(c, Config{Workers: 1, Scheduler: "mh"}, a, b)
	locals := map[string]string{} // a client address that is given to each
	for i := 2; len(locals) < 2; i++ {
		if i == 100 {
			c.Fatalf("a hundred client addresses are all given to one backend")
		}
		local := c.host(i)
		client, err := c.TryClient(p, local+":0")
		c.Must(err)
		x, err := client.Ask("who?")
		c.Must(err)
		locals[x.Backend] = local
	}
	flooder, err := c.TryClient(p, locals["a"]+":0")
	c.Must(err)
	var stop atomic.Bool
	var flooded atomic.Int64
	passed := a.Got()
	flood := c.Begin(func() error {
		text := make([]byte, 256)
		for !stop.Load() && c.ctx.Err() == nil {
			if err := flooder.Send(flooder.proxy, text); err != nil {
				return err
			}
			flooded.Add(1)
		}
		return nil
	})
	c.Wait(c.patience(), "the flood to arrive", func() bool { return a.Got() > 1000 })

	const questions = 10
	var tries atomic.Int64
	start := time.Now()
	c.Each(clients, func(i int) error {
		client, err := c.TryClient(p, locals["b"]+":0")
		if err != nil {
			return err
		}
		for q := range questions {
			text := fmt.Sprintf("client %d, question %d", i, q)
			for {
				tries.Add(1)
				// An answer that comes too late for one try is accepted by the next,
				// or was counted as lost.
				x, err := client.AskWithin(text, 200*time.Millisecond)
				if err == nil {
					if x.Backend != "b" {
						return client.errorf("answered by %s", x.Backend)
					}
					break
				}
				if time.Since(start) > 3*c.patience() {
					return fmt.Errorf("question %d of %d is not answered while another client floods: %w", q+1, questions, err)
				}
			}
			for client.Silent(time.Microsecond) != nil { // later answers
			}
			select {
			case <-time.After(5 * time.Millisecond):
			case <-c.ctx.Done():
				return c.ctx.Err()
			}
		}
		return nil
	})
	stop.Store(true)
	c.Must(flood())
	took := time.Since(start)
	passed = a.Got() - passed
	c.Logf("%d answers took %d tries and %v beside a flood of %d datagrams, of which %d passed", clients*questions, tries.Load(), took.Round(time.Millisecond), flooded.Load(), passed)
	// What the kernel has no room for it takes from all alike, and the busier the
	// machine the more.
	if limit := 4 * clients * questions * flooded.Load() / max(1, passed); tries.Load() > limit && !c.o.Instrumented {
		c.Fatalf("%d answers took %d tries beside a flood of which %d datagrams of %d passed", clients*questions, tries.Load(), passed, flooded.Load())
	}
}

// udpBackToStart compares what the proxy holds after 10,000 flows with what it held
// after 2,000. The first 2,000 fill its pools.
func udpBackToStart(c *C) {
	b := c.Names("b")
	p := through(c, Config{IdleTimeout: 500 * time.Millisecond}, b)
	// Each wave is as large as the first two thousand were.
	const workers, first = 32, 2000
	flows := func(n int) {
		for n > 0 {
			wave := min(n, first)
			n -= wave
			c.Step("%d flows", wave)
			c.Each(workers, func(int) error {
				for range wave / workers {
					client, err := c.TryClient(p, c.host(1)+":0")
					if err != nil {
						return err
					}
					if _, err := client.AskAgain("who?"); err != nil {
						return err
					}
					if err := client.Close(); err != nil {
						return err
					}
				}
				return nil
			})
			c.Wait(2*c.patience(), "the flows to expire", func() bool { return HasNoUpstreams(b.Addr) })
		}
	}
	flows(first)
	noMore(c, p, 0, func() { flows(c.Size(10_000, 2000)) })
}
