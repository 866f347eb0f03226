//go:build linux

package conformance

import (
	"fmt"
	"net"
	"net/netip"
	"strconv"
	"time"

	"golang.org/x/sys/unix"
)

func addressCases() []Case {
	const group = "addresses"
	return []Case{
		{Name: "ipv6", Group: group, Run: ipv6},
		{Name: "ipv6-to-ipv4", Group: group, Run: ipv6ToIPv4},
		{Name: "all-addresses-of-both-families", Group: group, Run: bothFamilies},
		{Name: "ipv6-alone-beside-ipv4", Group: group, Run: func(c *C) { ipv6Alone(c, "tcp") }},
		{Name: "unix-listener", Group: group, Run: func(c *C) {
			b := c.Backend()
			exchange(c, Config{Listen: []Listener{{Network: "unix"}}, Backends: []string{b.Addr}}, b)
		}},
		{Name: "unix-backend", Group: group, Run: func(c *C) {
			b := c.unixBackend()
			exchange(c, Config{Backends: []string{b.Addr}}, b)
		}},
		{Name: "unix-to-unix", Group: group, Run: func(c *C) {
			b := c.unixBackend()
			exchange(c, Config{Listen: []Listener{{Network: "unix"}}, Backends: []string{b.Addr}}, b)
		}},
		{Name: "many-listeners", Group: group, Run: manyListeners},
		{Name: "port-range", Group: group, Alone: true, Run: portRange},
	}
}

// exchange sends bulk both ways and ends both ways through the first listener.
func exchange(c *C, cfg Config, b *Backend) {
	p := c.Start(cfg)
	client, server := c.Pair(p, b)
	c.Must(Ping(client, server))
	bothWays(c, client, server, 2*mib)
	c.Must(client.Finish())
	c.Must(server.Finished())
	c.Must(server.Say("late"))
	c.Must(server.Close())
	c.Must(client.Hear("late"))
	c.Must(client.Finished())
}

func needIPv6(c *C) {
	ln, err := net.Listen("tcp", "[::1]:0")
	if err != nil {
		c.Skipf("this machine has no IPv6 loopback")
	}
	ln.Close()
}

func ipv6(c *C) {
	needIPv6(c)
	b := c.serveOn("tcp", "[::1]:0", nil)
	exchange(c, Config{Listen: []Listener{{Host: "::1"}}, Backends: []string{b.Addr}}, b)
}

func ipv6ToIPv4(c *C) {
	needIPv6(c)
	b := c.Backend()
	exchange(c, Config{Listen: []Listener{{Host: "::1"}}, Backends: []string{b.Addr}}, b)
}

func bothFamilies(c *C) {
	needIPv6(c)
	b := c.Greet("hello")
	p := c.Start(Config{Listen: []Listener{{Host: "*"}}, Backends: []string{b.Addr}})
	for _, addr := range p.Addrs() {
		client, err := c.TryDial(addr)
		c.Must(err)
		c.Must(client.Hear("hello"))
	}
}

// ipv6Alone has a listener on all addresses of each family, with the same port. [::]
// must not keep other sockets out of IPv4.
func ipv6Alone(c *C, network string) {
	needIPv6(c)
	cfg := Config{Listen: []Listener{{Network: network, Host: "*"}}}
	port := c.listenerPort(cfg.Listen[0])
	cfg.Listen = []Listener{{Network: network, Host: "::", Port: port}, {Network: network, Host: "0.0.0.0", Port: port}}
	if network == "udp" {
		through(c, cfg, c.Names("b"))
		for i, local := range []string{"[::1]:0", c.host(1) + ":0"} {
			socket, err := c.openUDP("client", local)
			c.Must(err)
			to := netip.MustParseAddrPort(net.JoinHostPort([]string{"::1", "127.0.0.1"}[i], strconv.Itoa(port)))
			_, err = (&Client{UDP: socket, proxy: to}).Ask("who?")
			c.Must(err)
		}
		return
	}
	cfg.Backends = []string{c.Greet("hello").Addr}
	c.Start(cfg)
	for _, host := range []string{"::1", "127.0.0.1"} {
		client, err := c.TryDial(net.JoinHostPort(host, strconv.Itoa(port)))
		c.Must(err)
		c.Must(client.Hear("hello"))
	}
}

func manyListeners(c *C) {
	b := c.Greet("hello")
	p := c.Start(Config{Listen: make([]Listener, 50), Backends: []string{b.Addr}})
	c.Each(len(p.Addrs()), func(i int) error {
		client, err := c.TryDial(p.Addrs()[i])
		if err != nil {
			return fmt.Errorf("listener %d of %d: %w", i+1, len(p.Addrs()), err)
		}
		return client.Hear("hello")
	})
}

// portRange maps a range of ports to the same ports of another address, a form that
// every target can express. Each backend greets with its own port.
func portRange(c *C) {
	const ports = 2000
	var limit unix.Rlimit
	if unix.Getrlimit(unix.RLIMIT_NOFILE, &limit); limit.Cur < 4*ports {
		c.Skipf("needs a descriptor limit of %d", 4*ports)
	}
	base := c.freeRange("127.0.0.1", "127.0.0.2", ports)
	for i := range ports {
		name := fmt.Sprintf("port %d\n", base+i)
		c.serveOn("tcp", net.JoinHostPort("127.0.0.2", strconv.Itoa(base+i)), func(e *Conn) { e.Say(name) })
	}
	start := c.stopwatch()
	p := c.Start(Config{
		Listen:   []Listener{{Port: base, Ports: ports}},
		Backends: []string{fmt.Sprintf("127.0.0.2:%d-%d", base, base+ports-1)},
	})
	if took := start.fair(); took > 2*time.Second && !c.o.Instrumented {
		c.Fatalf("%d ports took %v to start", ports, took.Round(time.Millisecond))
	}
	r := c.Rand(0)
	sample := []int{0, ports - 1}
	for range c.Size(200, 50) {
		sample = append(sample, r.IntN(ports))
	}
	for _, i := range sample {
		client, err := c.TryDial(p.Addrs()[i])
		if err != nil {
			c.Fatalf("port %d of the range: %v", i, err)
		}
		c.Must(client.Hear(fmt.Sprintf("port %d\n", base+i)))
		c.Must(client.Finished())
		client.Close()
	}
}

// freeRange finds n consecutive ports below the ephemeral ones that are free on both
// hosts. It reserves them for the rest of the case.
func (c *C) freeRange(host1, host2 string, n int) (base int) {
	r := c.Rand(1)
	for range 50 {
		base := firstRange + r.IntN(lastPort-firstRange-n)
		free := 0
		for free < n && c.reserve(host1, base+free) != 0 && c.reserve(host2, base+free) != 0 {
			free++
		}
		if free == n {
			return base
		}
	}
	c.Skipf("no %d consecutive ports are free", n)
	return 0
}
