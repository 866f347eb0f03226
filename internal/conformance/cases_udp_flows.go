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
		{Name: "udp-ipv6-alone-beside-ipv4", Group: group, Run: func(c *C) { ipv6Alone(c, "udp") }},
		{Name: "udp-strangers-cannot-answer", Group: group, Run: strangers},
		{Name: "udp-flows-stick-and-new-ones-spread", Group: group, Run: stickAndSpread},
		{Name: "udp-hash-agrees-with-tcp", Group: group, Run: hashAgrees},
		{Name: "udp-port-range", Group: group, Run: udpPortRange},
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

// strangers sends to the port of a flow from an address that is not its backend's. An
// attacker that guesses a port must not be able to answer for a DNS server.
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

// hashAgrees runs a proxy for each protocol before the same addresses. A hash of the
// client's address must choose the same one for both protocols. Otherwise a service on
// both (DNS, SIP, QUIC and HTTP/2) loses its affinity.
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
