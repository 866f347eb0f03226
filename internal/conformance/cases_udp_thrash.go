//go:build linux

package conformance

import (
	"fmt"
	"strings"
	"time"
)

func udpThrashCases() []Case {
	const group = "UDP limits"
	return []Case{
		{Name: "udp-newcomers-leave-young-flows-alone", Group: group, Run: youngFlows},
		{Name: "udp-crowd-beyond-the-limit-is-served", Group: group, Run: crowdIsServed},
		{Name: "udp-clients-of-all-workers-find-room", Group: group, Run: allWorkersFindRoom},
		{Name: "udp-flow-leaves-a-backend-that-is-down-for-another", Group: group, Run: leavesTheDown},
	}
}

// grace is how long a flow may wait for its first reply before another client can
// have its place.
const grace = time.Second

// askAgain has a new client ask until it has its place, as real ones do.
func askAgain(c *C, p *Proxy) (f keptFlow) {
	client, err := c.TryClient(p, c.host(1)+":0")
	c.Must(err)
	c.Wait(grace+c.patience(), "a new client to be served", func() bool {
		a, err := client.AskWithin("who?", 100*time.Millisecond)
		f = keptFlow{client, a}
		return err == nil
	})
	return f
}

// youngFlows fills a service with flows whose replies come late but in time. New
// clients must not take their places meanwhile.
func youngFlows(c *C) {
	const limit = 6
	b, mute := mutable(c)
	p := through(c, Config{MaxFlows: limit, Workers: 1}, b)
	start := time.Now()
	var waiting [limit]*Client
	var from [limit]Datagram
	for i := range waiting {
		text := fmt.Sprint("mute ", i)
		waiting[i] = c.Client(p)
		c.Must(waiting[i].Say(text))
		from[i] = takeMute(c, mute, text)
	}
	for range 3 * limit {
		c.Must(c.Client(p).Say(letMeIn))
	}
	c.Sleep(200 * time.Millisecond)
	for i, d := range from {
		c.Must(b.Send(d.From, []byte("at last")))
		if late := time.Since(start); late > grace*9/10 {
			c.Skipf("this machine is too slow: the replies were sent after %v", late)
		}
		c.Must(waiting[i].Hear("at last"))
		a, err := waiting[i].Ask("who?")
		c.Must(err)
		if a.Port != d.From.Port() {
			c.Fatalf("flow %d was evicted before its time of grace was over", i)
		}
	}
	if strangers := b.over.Load(); strangers > 0 {
		c.Fatalf("%d datagrams of clients over the limit got through", strangers)
	}
}

// crowdIsServed has many more clients than allowed flows, and a slow backend. All
// clients ask until they are answered.
func crowdIsServed(c *C) {
	const limit, clients = 8, 4 * 8
	type request struct {
		Datagram
		due time.Time
	}
	b := c.UDPBackend()
	go func() {
		var held []request
		for c.ctx.Err() == nil {
			d, err := b.Next(5 * time.Millisecond)
			if err == nil {
				held = append(held, request{d, time.Now().Add(200 * time.Millisecond)})
			}
			for len(held) > 0 && time.Now().After(held[0].due) {
				b.Send(held[0].From, held[0].Data)
				held = held[1:]
			}
		}
	}()
	p := through(c, Config{MaxFlows: limit, IdleTimeout: 500 * time.Millisecond}, b)
	c.Each(clients, func(id int) error {
		client, err := c.TryClient(p, c.host(1)+":0")
		if err != nil {
			return err
		}
		text := fmt.Sprint("client ", id)
		for start := time.Now(); time.Since(start) < 6*time.Second+c.patience(); {
			if err := client.Say(text); err != nil {
				return err
			}
			got, err := client.Reply(50 * time.Millisecond)
			if err == nil && string(got) == text {
				return nil // a late reply to another client's port does not count
			}
		}
		return client.errorf("client %d of %d was never answered", id, clients)
	})
}

// allWorkersFindRoom fills a service with flows that get no reply. The clients that
// ask for their places are spread over all workers.
func allWorkersFindRoom(c *C) {
	const limit = 8
	b, mute := mutable(c)
	p := through(c, Config{MaxFlows: limit, Workers: 2, Replies: 1}, b)
	for range limit {
		c.Must(c.Client(p).Say("mute"))
		takeMute(c, mute, "mute")
	}
	for range 3 * limit {
		askAgain(c, p)
	}
}

// leavesTheDown has a client begin while all backends are down, so that it is sent to
// one of them anyway. It goes on asking. When a backend is back, it must serve the
// client, even if the client was at another one.
func leavesTheDown(c *C) {
	const clients = 8
	a, streamsA := streamChecked(c, "a")
	b, streamsB := streamChecked(c, "b")
	p, _, _ := watched(c, Config{AccessLog: true}, a, b)
	streamsA.Vanish()
	streamsB.Vanish()
	c.Wait(c.within(5*time.Second), "the checks to take both down", func() bool {
		return strings.Contains(p.Tail(1<<14), "are down")
	})
	var all []*Client
	at := make(map[string]int)
	for range clients {
		client := c.Client(p)
		x, err := client.Ask("who?")
		c.Must(err)
		at[x.Backend]++
		all = append(all, client)
	}
	if len(at) != 2 {
		c.Fatalf("with both down, clients are given to %v", at)
	}
	c.serveOn("tcp", b.Addr, func(*Conn) {})
	c.Wait(c.within(5*time.Second), "all flows to go to the backend that is back", func() bool {
		for _, client := range all {
			if x, err := client.Ask("who?"); err != nil || x.Backend != "b" {
				return false
			}
		}
		return true
	})
}
