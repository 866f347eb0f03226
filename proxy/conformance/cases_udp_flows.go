//go:build linux

package conformance

import (
	"fmt"
	"net"
	"net/netip"
	"strconv"
	"time"
)

func udpFlowCases() []Case {
	const group = "UDP flows"
	return []Case{
		{Name: "udp-reply-comes-from-the-address-asked", Group: group, Run: addressAsked},
		{Name: "udp-strangers-cannot-answer", Group: group, Run: strangers},
		{Name: "udp-flows-stick-and-new-ones-spread", Group: group, Run: stickAndSpread},
		{Name: "udp-hash-agrees-with-tcp", Group: group, Run: hashAgrees},
		{Name: "udp-port-range", Group: group, Run: udpPortRange},
		{Name: "udp-one-packet-scheduling", Group: group, Run: onePacket},
		{Name: "udp-one-packet-late-replies", Group: group, Run: onePacketLate},
	}
}

// addressAsked talks from one socket to several addresses of a listener on all
// of them. Each is a flow of its own, and each answers as itself.
func addressAsked(c *C) {
	b := c.Names("b")
	for _, host := range []string{"0.0.0.0", "*"} {
		if host == "*" {
			needIPv6(c)
		}
		p := through(c, Config{Listen: []Listener{{Network: "udp", Host: host}}}, b)
		_, port, err := net.SplitHostPort(p.Addr())
		c.Must(err)
		v4, err := c.openUDP("client", c.host(1)+":0")
		c.Must(err)
		asked := []*Client{}
		for _, ip := range []string{"127.0.0.1", "127.0.0.2", "127.0.0.3"} {
			asked = append(asked, &Client{UDP: v4, proxy: netip.MustParseAddrPort(net.JoinHostPort(ip, port))})
		}
		if host == "*" {
			v6, err := c.openUDP("client", "[::1]:0")
			c.Must(err)
			asked = append(asked, &Client{UDP: v6, proxy: netip.MustParseAddrPort(net.JoinHostPort("::1", port))})
		}
		flows := make(map[uint16]netip.AddrPort)
		for range 5 {
			for _, client := range asked {
				a, err := client.Ask("which?")
				c.Must(err)
				if other, ok := flows[a.Port]; ok && other != client.proxy {
					c.Fatalf("what was sent to %v and to %v is one flow", other, client.proxy)
				}
				flows[a.Port] = client.proxy
			}
		}
		if len(flows) != len(asked) {
			c.Fatalf("%d addresses asked from one port are %d flows", len(asked), len(flows))
		}
	}
}

// strangers sends to the port of a flow from an address that is not its
// backend's. Who guesses a port must not be able to answer for a DNS server.
func strangers(c *C) {
	b := c.UDPBackend()
	p := through(c, Config{}, b)
	client := c.Client(p)
	_, server := flow(c, p, b, client)
	stranger, err := c.openUDP("stranger", c.host(2)+":0")
	c.Must(err)
	for range 3 {
		c.Must(client.Say("question"))
		c.Must(arrives(server, server, []byte("question")))
		for range 3 {
			c.Must(stranger.Send(server.to, []byte("forged answer")))
		}
		c.Must(client.Silent(50 * time.Millisecond))
		c.Must(server.Send(server.to, []byte("answer")))
		c.Must(client.Hear("answer"))
	}
}

func stickAndSpread(c *C) {
	p := through(c, Config{Scheduler: "rr"}, c.Names("a"), c.Names("b"), c.Names("c"))
	order, ports := "", make(map[uint16]bool)
	var clients []*Client
	var first []Answer
	for range 30 {
		client := c.Client(p)
		a, err := client.Ask("who?")
		c.Must(err)
		clients, first = append(clients, client), append(first, a)
		order += a.Backend
		ports[a.Port] = true
	}
	for i := range order {
		if i >= 3 && order[i] != order[i-3] || i > 0 && order[i] == order[i-1] {
			c.Fatalf("not in turn: %s", order)
		}
	}
	if len(ports) != len(clients) {
		c.Fatalf("%d clients come from %d ports", len(clients), len(ports))
	}
	for range 5 {
		for i := range clients {
			c.Must(clients[i].Stays(first[i]))
		}
	}
}

// hashAgrees runs a proxy for each protocol before the same addresses. A hash
// of the client's address must send a client of both to the same one, or a
// service on both (DNS, SIP, QUIC and HTTP/2) loses its affinity.
func hashAgrees(c *C) {
	var names []*UDP
	var addrs []string
	for i := range 5 {
		name := fmt.Sprintf("backend%d", i)
		b := c.Names(name)
		names, addrs = append(names, b), append(addrs, b.Addr)
		c.serveOn("tcp", b.Addr, func(e *Conn) { e.Say(name) })
	}
	datagrams := through(c, Config{Scheduler: "mh"}, names...)
	streams := c.Start(Config{Scheduler: "mh", Backends: addrs})
	used := make(map[string]bool)
	for i := range 40 {
		local := c.host(10 + i)
		client, err := c.TryClient(datagrams, local+":0")
		c.Must(err)
		a, err := client.Ask("who?")
		c.Must(err)
		used[a.Backend] = true
		dialer := net.Dialer{Timeout: c.patience(), LocalAddr: &net.TCPAddr{IP: net.ParseIP(local)}}
		conn, err := dialer.Dial("tcp", streams.Addr())
		c.Must(err)
		e := &Conn{Conn: conn, who: "TCP client of " + local, patience: c.patience()}
		c.own(e)
		c.Must(e.Hear(a.Backend))
	}
	if len(used) < 3 {
		c.Fatalf("40 client addresses are spread over %d of 5 backends", len(used))
	}
}

// udpPortRange maps a range to the same ports of another address.
func udpPortRange(c *C) {
	ports := c.Size(200, 50)
	base := c.udpPorts(ports)
	for i := range ports {
		c.udpBackendOn(net.JoinHostPort("127.0.0.2", strconv.Itoa(base+i))).answer(fmt.Sprintf("port-%d", base+i))
	}
	p := c.Start(Config{
		Listen:   []Listener{{Network: "udp", Port: base, Ports: ports}},
		Backends: []string{fmt.Sprintf("127.0.0.2:%d-%d", base, base+ports-1)},
	})
	u, err := c.openUDP("client", c.host(1)+":0") // a flow to each port from one socket
	c.Must(err)
	for i := range ports {
		client := &Client{UDP: u, proxy: netip.MustParseAddrPort(p.Addrs()[i])}
		a, err := client.Ask("which?")
		c.Must(err)
		if want := fmt.Sprintf("port-%d", base+i); a.Backend != want {
			c.Fatalf("port %d is answered by %s", base+i, a.Backend)
		}
	}
}

func onePacket(c *C) {
	a, b := c.Names("a"), c.Names("b")
	p := through(c, Config{OnePacket: true, IdleTimeout: time.Second}, a, b)
	client := c.Client(p)
	order := ""
	for i := range 20 {
		x, err := client.Ask(fmt.Sprint("question ", i))
		c.Must(err)
		order += x.Backend
	}
	for i := 1; i < len(order); i++ {
		if order[i] == order[i-1] {
			c.Fatalf("not in turn: %s", order)
		}
	}
	c.Wait(c.within(5*time.Second), "the sockets to be returned", func() bool { return NoUpstreams(a.Addr, b.Addr) })
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
