package proxy_test

import (
	"context"
	"fmt"
	"io"
	"log"
	"net"
	"net/netip"
	"time"

	"usher/balancer"
	"usher/proxy"
)

// A server carries a service. While it runs its backend is replaced by another, and a
// second service is added. Clients of the first one notice nothing: its listener stays.
func Example() {
	server, err := proxy.New(proxy.Options{})
	if err != nil {
		log.Fatal(err)
	}
	defer server.Close()
	pool, err := balancer.NewPool(balancer.Options{Scheduler: "rr"})
	if err != nil {
		log.Fatal(err)
	}
	one, two := greeter("one"), greeter("two")
	defer one.Close()
	defer two.Close()
	pool.Update(backend(one), server.Now())

	web := &proxy.ServiceConfig{Name: "web", Listeners: []proxy.Listener{loopback}, Pool: pool, ConnectTimeout: time.Second}
	if err := server.Apply([]*proxy.ServiceConfig{web}); err != nil {
		log.Fatal(err)
	}
	server.Start()
	ask(server, "web")

	pool.Update(backend(two), server.Now())
	ask(server, "web")

	admin := *web
	admin.Name = "admin"
	if err := server.Apply([]*proxy.ServiceConfig{web, &admin}); err != nil {
		log.Fatal(err)
	}
	ask(server, "admin")

	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	if err := server.Shutdown(ctx); err != nil {
		log.Fatal(err)
	}
	// Output:
	// web: one
	// web: two
	// admin: two
}

// loopback is a listener on a port that the kernel chooses.
var loopback = proxy.Listener{Network: "tcp", Addr: netip.MustParseAddrPort("127.0.0.1:0")}

// ask connects to a service and prints what its backend says.
func ask(server *proxy.Server, name string) {
	for _, s := range server.Services() {
		if s.Name != name {
			continue
		}
		c, err := net.Dial("tcp", s.Config().Listeners[0].Addr.String())
		if err != nil {
			log.Fatal(err)
		}
		defer c.Close()
		said, err := io.ReadAll(c)
		if err != nil {
			log.Fatal(err)
		}
		fmt.Printf("%s: %s\n", name, said)
	}
}

// greeter starts a backend that says its name to each client.
func greeter(name string) net.Listener {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		log.Fatal(err)
	}
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			_, _ = io.WriteString(c, name)
			c.Close()
		}
	}()
	return l
}

// backend is a pool of one backend that is up.
func backend(l net.Listener) []balancer.Spec {
	at := balancer.Endpoint{Addr: l.Addr().(*net.TCPAddr).AddrPort()}
	return []balancer.Spec{{Endpoint: at, Weight: 1, Check: balancer.Up}}
}
