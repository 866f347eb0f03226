//go:build linux

package conformance

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"sync"
	"time"
)

func udpByteCases() []Case {
	const group = "datagrams"
	return []Case{
		{Name: "udp-every-size", Group: group, Run: func(c *C) { everySize(c, "127.0.0.1", udpSizes[:]) }},
		{Name: "udp-every-size-ipv6", Group: group, Run: func(c *C) { everySize(c, "::1", udpSizes[:]) }},
		{Name: "udp-empty-datagrams", Group: group, Run: func(c *C) { everySize(c, "127.0.0.1", []int{0, 0, 1, 0}) }},
		{Name: "udp-bursts-keep-their-boundaries", Group: group, Heavy: true, Run: burstBoundaries},
		{Name: "udp-bursts-of-many-flows", Group: group, Heavy: true, Run: burstsOfManyFlows},
		{Name: "udp-many-replies-to-one-request", Group: group, Run: manyReplies},
		{Name: "udp-burst-of-replies-waits-for-a-busy-proxy", Group: group, Run: burstOfReplies},
		{Name: "udp-too-big-for-the-backend", Group: group, Run: tooBigForBackend},
		{Name: "udp-too-big-for-the-client", Group: group, Run: tooBigForClient},
	}
}

// udpSizes are the edges: the smallest, DNS without EDNS, an Ethernet frame, two
// pages, and the largest over IPv4. Empty ones have a case of their own.
var udpSizes = [...]int{1, 511, 512, 1471, 1472, 1473, 8 << 10, maxDatagramV4 - 1, maxDatagramV4}

// through starts a proxy for datagrams.
func through(c *C, cfg Config, backends ...*UDP) *Proxy {
	if len(cfg.Listen) == 0 {
		cfg.Listen = []Listener{{Network: "udp"}}
	}
	for _, b := range backends {
		cfg.Backends = append(cfg.Backends, b.Addr)
	}
	return c.Start(cfg)
}

// A udpEnd is one end of a flow on which sizes and contents are checked.
type udpEnd struct {
	*UDP
	to netip.AddrPort
}

// flow opens a client and sends the datagram that makes the flow, and its
// reply.
func flow(c *C, p *Proxy, b *UDP, client *Client) (up, down udpEnd) {
	c.Must(client.Say("hello"))
	d, err := b.Receive()
	c.Must(err)
	c.Must(b.Send(d.From, []byte("welcome")))
	c.Must(client.Hear("welcome"))
	return udpEnd{client.UDP, client.proxy}, udpEnd{b, d.From}
}

// arrives receives a datagram and compares it.
func arrives(to, from udpEnd, want []byte) error {
	d, err := to.Receive()
	if err != nil {
		return fmt.Errorf("a datagram of %d bytes: %w", len(want), err)
	}
	if d.From != to.to {
		return to.errorf("a datagram came from %v, not %v", d.From, to.to)
	}
	if len(d.Data) != len(want) {
		return to.errorf("a datagram of %d bytes came where one of %d was due", len(d.Data), len(want))
	}
	if !bytes.Equal(d.Data, want) {
		return to.errorf("a datagram of %d bytes has the wrong contents", len(d.Data))
	}
	return nil
}

// everySize sends each size three times each way through one flow.
func everySize(c *C, host string, sizes []int) {
	b, from := c.UDPBackend(), c.host(1)+":0"
	if host == "::1" {
		needIPv6(c)
		b, from = c.udpBackendOn("[::1]:0"), "[::1]:0"
	}
	p := through(c, Config{Listen: []Listener{{Network: "udp", Host: host}}}, b)
	client, err := c.TryClient(p, from)
	c.Must(err)
	up, down := flow(c, p, b, client)
	s := [2]Stream{c.Stream(1), c.Stream(2)}
	for range 3 {
		for _, n := range sizes {
			c.Step("%d bytes", n)
			for i, way := range []struct{ from, to udpEnd }{{up, down}, {down, up}} {
				data := s[i].at(0, n)
				s[i] = s[i].From(n)
				c.Must(way.from.Send(way.from.to, data))
				c.Must(arrives(way.to, way.from, data))
			}
		}
	}
	c.Must(client.Silent(50 * time.Millisecond))
}

// room is how much of a receive buffer of the default size one burst may use. It
// leaves enough space that no datagram is lost even without a reader. The kernel
// charges a datagram's memory, not its bytes.
const room = 160 << 10

func charge(size int) int { return 2*size + 1024 }

// burst plans datagrams as a sender of segments makes them, with sizes that could be
// merged by mistake. It has runs of equal size, a shorter datagram behind, and runs
// again.
func burst(r *rand.Rand, room int) (runs [][]int) {
	sizes := []int{0, 1, 100, 512, 1200, 1471, 1472, 1473, 4096, 8 << 10}
	for used := 0; used < room; {
		size := sizes[r.IntN(len(sizes))]
		var run []int
		for range 1 + r.IntN(24) {
			run = append(run, size)
		}
		if size > 1 && r.IntN(3) > 0 {
			run = append(run, 1+r.IntN(size-1))
		}
		for i, n := range run {
			if used += charge(n); used > room {
				run = run[:i]
				break
			}
		}
		if len(run) > 0 {
			runs = append(runs, run)
		}
	}
	return runs
}

// send sends the next datagrams of s and returns them. It sends them one by one, or as
// a run that the kernel segments.
func (u udpEnd) send(s *Stream, run []int, whole bool) (sent [][]byte, err error) {
	total := 0
	for _, n := range run {
		total += n
	}
	data := s.at(0, total)
	*s = s.From(total)
	// The kernel cuts only what fits a packet of the way; longer ones would
	// have to be fragmented.
	if whole = whole && len(run) > 1 && run[0] > 0 && total <= maxDatagramV4; whole {
		err = u.SendRun(u.to, data, run[0])
	}
	for _, n := range run {
		if !whole && err == nil {
			err = u.Send(u.to, data[:n])
		}
		sent = append(sent, data[:n])
		data = data[n:]
	}
	return sent, err
}

// burstBoundaries sends bursts both ways through one flow. Each datagram must
// arrive alone, whole and in its place.
func burstBoundaries(c *C) {
	b := c.UDPBackend()
	p := through(c, Config{}, b)
	up, down := flow(c, p, b, c.Client(p))
	r := c.Rand(0)
	for i := range c.Size(300, 100) {
		from, to, s := up, down, c.Stream(uint64(i))
		if i%2 == 1 {
			from, to = down, up
		}
		var due [][]byte
		for _, run := range burst(r, room) {
			sent, err := from.send(&s, run, r.IntN(2) == 0)
			c.Must(err)
			due = append(due, sent...)
		}
		for k, want := range due {
			if err := arrives(to, from, want); err != nil {
				c.Fatalf("datagram %d of %d of burst %d: %v", k, len(due), i, err)
			}
		}
	}
	c.Must(up.Silent(50 * time.Millisecond))
	c.Must(down.Silent(50 * time.Millisecond))
}

// burstsOfManyFlows lets several clients send bursts at once to a backend that
// sends everything back. Both ends compare: the backend takes the first
// datagram of a flow for its number and knows what must follow.
func burstsOfManyFlows(c *C) {
	const flows = 16
	bursts := c.Size(60, 20)
	plan := func(id int) (all [][][]int) { // by burst
		r := c.Rand(100 + id)
		for range bursts {
			all = append(all, burst(r, room/flows))
		}
		return all
	}
	type progress struct {
		s     Stream
		sizes []int
	}
	var mu sync.Mutex // the handler's own; a case that is given up may still read wrong
	at := make(map[netip.AddrPort]*progress)
	b := c.ServeUDP(func(b *UDP, d Datagram) {
		mu.Lock()
		defer mu.Unlock()
		f := at[d.From]
		if f == nil {
			id := 0
			if _, err := fmt.Sscanf(string(d.Data), "flow %d", &id); err != nil || id >= flows {
				c.Errorf("backend: a flow begins with %.40q", d.Data)
				return
			}
			f = &progress{s: c.Stream(uint64(id))}
			for _, runs := range plan(id) {
				for _, run := range runs {
					f.sizes = append(f.sizes, run...)
				}
			}
			at[d.From] = f
			b.Send(d.From, d.Data)
			return
		}
		if len(f.sizes) == 0 {
			c.Errorf("backend: %d bytes came after the end of a flow", len(d.Data))
			return
		}
		n := f.sizes[0]
		if want := f.s.at(0, n); !bytes.Equal(d.Data, want) {
			c.Errorf("backend: %d bytes came where %d others were due", len(d.Data), n)
			return
		}
		f.sizes, f.s = f.sizes[1:], f.s.From(n)
		b.Send(d.From, d.Data)
	})
	p := through(c, Config{}, b)
	c.Each(flows, func(id int) error {
		client, err := c.TryClient(p, c.host(1)+":0")
		if err != nil {
			return err
		}
		hello := fmt.Sprintf("flow %d", id)
		if err := client.Say(hello); err != nil {
			return err
		}
		if err := client.Hear(hello); err != nil {
			return err
		}
		r, s, e := c.Rand(200+id), c.Stream(uint64(id)), udpEnd{client.UDP, client.proxy}
		for i, runs := range plan(id) {
			var due [][]byte
			for _, run := range runs {
				sent, err := e.send(&s, run, r.IntN(2) == 0)
				if err != nil {
					return err
				}
				due = append(due, sent...)
			}
			for k, want := range due {
				if err := arrives(e, e, want); err != nil {
					return fmt.Errorf("datagram %d of burst %d of flow %d: %w", k, i, id, err)
				}
			}
		}
		return nil
	})
}

func manyReplies(c *C) {
	b := c.UDPBackend()
	p := through(c, Config{}, b)
	client := c.Client(p)
	c.Must(client.Say("all of it"))
	d, err := b.Receive()
	c.Must(err)
	const at = 50 // in flight: a small part of any buffer
	for i := range c.Size(100, 20) {
		for k := range at {
			c.Must(b.Send(d.From, fmt.Appendf(nil, "reply %d", i*at+k)))
		}
		for k := range at {
			c.Must(client.Hear(fmt.Sprintf("reply %d", i*at+k)))
		}
	}
	c.Must(client.Silent(50 * time.Millisecond))
}

// burstOfReplies answers one question with more than a receive buffer of the default
// size holds, while the proxy cannot read. The proxy asks for a larger buffer, as the
// client does. What an ordinary user is granted by default holds 180 of these.
func burstOfReplies(c *C) {
	const replies, size = 150, 1200
	b := c.UDPBackend()
	p := through(c, Config{}, b)
	client := c.Client(p)
	for round := range 3 {
		c.Must(client.Say("all of it"))
		d, err := b.Receive()
		c.Must(err)
		p.Pause()
		s := c.Stream(uint64(round))
		for i := range replies {
			c.Must(b.Send(d.From, s.at(i*size, size)))
		}
		p.Resume()
		for i := range replies {
			if err := client.Hear(string(s.at(i*size, size))); err != nil {
				c.Fatalf("reply %d of %d: %v", i, replies, err)
			}
		}
	}
}

// tooBigForBackend sends an IPv6 datagram that is longer than any of IPv4, by up to 20
// bytes. The proxy cannot pass it on: its send returns EMSGSIZE. It must not be
// truncated. The datagrams around it must arrive, and the flow continues.
func tooBigForBackend(c *C) {
	needIPv6(c)
	b := c.UDPBackend()
	p := through(c, Config{Listen: []Listener{{Network: "udp", Host: "::1"}}}, b)
	client, err := c.TryClient(p, "[::1]:0")
	c.Must(err)
	up, down := flow(c, p, b, client)
	tooBig(c, up, down)
	tooBig(c, down, up)
}

func tooBigForClient(c *C) {
	needIPv6(c)
	b := c.udpBackendOn("[::1]:0")
	p := through(c, Config{}, b)
	up, down := flow(c, p, b, c.Client(p))
	tooBig(c, down, up)
	tooBig(c, up, down)
}

// tooBig sends the longest datagrams of from's family between small ones. Those
// of IPv4 fit the other side.
func tooBig(c *C, from, to udpEnd) {
	s, size := c.Stream(9), maxDatagram
	if from.to.Addr().Is4() {
		size = maxDatagramV4
	}
	for i := range 10 {
		first, second, big, last := fmt.Appendf(nil, "first %d", i), []byte("second"), s.at(i, size), []byte("last")
		for _, data := range [][]byte{first, second, big, last} {
			c.Must(from.Send(from.to, data))
		}
		due := [][]byte{first, second, last}
		if size == maxDatagramV4 {
			due = [][]byte{first, second, big, last}
		}
		for _, want := range due {
			c.Must(arrives(to, from, want))
		}
	}
}
