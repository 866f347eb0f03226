//go:build linux

package conformance

import (
	"fmt"
	"time"
)

func udpOnceCases() []Case {
	const group = "UDP flows"
	return []Case{
		{Name: "udp-one-packet-scheduling", Group: group, Run: onePacket},
		{Name: "udp-one-packet-late-replies", Group: group, Run: onePacketLate},
		{Name: "udp-one-packet-limit", Group: group, Run: onePacketLimit},
		{Name: "udp-one-packet-weights", Group: group, Run: onePacketWeights},
	}
}

func onePacket(c *C) {
	a, b := c.Names("a"), c.Names("b")
	const idle = 2 * time.Second
	p := through(c, Config{OnePacket: true, IdleTimeout: idle}, a, b)
	client := c.Client(p)
	order := ""
	for i := range 20 {
		asked := time.Now()
		x, err := client.AskWithin(fmt.Sprint("question ", i), idle)
		c.mustWithin(idle, asked, err)
		order += x.Backend
	}
	for i := 1; i < len(order); i++ {
		if order[i] == order[i-1] {
			c.Fatalf("not in turn: %s", order)
		}
	}
	c.Wait(c.within(2*idle), "the sockets to be returned", func() bool { return HasNoUpstreams(a.Addr, b.Addr) })
}

// onePacketLate answers the datagrams of several clients all at the end and in
// any order. Each answer must find its client.
func onePacketLate(c *C) {
	b := c.UDPBackend()
	p := through(c, Config{OnePacket: true}, b)
	const clients, each = 10, 10
	var all []*Client
	var held []Datagram
	for i := range clients {
		client := c.Client(p)
		all = append(all, client)
		for k := range each {
			c.Must(client.Say(fmt.Sprintf("client %d, question %d", i, k)))
			d, err := b.Receive()
			c.Must(err)
			held = append(held, d)
		}
	}
	c.Rand(0).Shuffle(len(held), func(i, k int) { held[i], held[k] = held[k], held[i] })
	for _, d := range held {
		c.Must(b.Send(d.From, d.Data))
	}
	for i, client := range all {
		due := make(map[string]bool)
		for k := range each {
			due[fmt.Sprintf("client %d, question %d", i, k)] = true
		}
		for range each {
			data, err := client.Reply(c.patience())
			c.Must(err)
			if !due[string(data)] {
				c.Fatalf("client %d got %.40q, which it has not asked or has got already", i, data)
			}
			delete(due, string(data))
		}
	}
}

// onePacketLimit has two backends that may have one flow each. A client that asks again
// when it has its answer is never turned away.
func onePacketLimit(c *C) {
	a, b := c.Names("a"), c.Names("b")
	p := through(c, Config{OnePacket: true, Backends: []string{a.Addr + "@1,max=1", b.Addr + "@1,max=1"}})
	client := c.Client(p)
	for i := range 50 {
		_, err := client.Ask(fmt.Sprint("question ", i))
		c.Must(err)
	}
}

// onePacketWeights schedules by load and weight what one client asks again and again.
func onePacketWeights(c *C) {
	a, b, d := c.Names("a"), c.Names("b"), c.Names("c")
	p := through(c, Config{OnePacket: true, Scheduler: "wlc", Backends: []string{a.Addr + "@3", b.Addr, d.Addr}})
	client := c.Client(p)
	count := make(map[string]int)
	for i := range 100 {
		x, err := client.Ask(fmt.Sprint("question ", i))
		c.Must(err)
		count[x.Backend]++
	}
	if n := count["a"]; n < 50 || n > 70 || min(count["b"], count["c"]) < 10 {
		c.Fatalf("with weights of 3, 1 and 1, of 100 questions a got %d, b %d and c %d", n, count["b"], count["c"])
	}
}
