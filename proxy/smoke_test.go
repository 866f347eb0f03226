package proxy

import (
	"io"
	"net"
	"net/netip"
	"testing"
	"time"
	"context"

	"usher/balancer"
)

func TestSmoke(t *testing.T) {
	for _, name := range []string{"epoll", "portable"} {
		t.Run(name, func(t *testing.T) {
			ln, err := net.Listen("tcp", "127.0.0.1:0")
			if err != nil {
				t.Fatal(err)
			}
			go func() {
				for {
					c, err := ln.Accept()
					if err != nil {
						return
					}
					go func() { io.Copy(c, c); c.(*net.TCPConn).CloseWrite(); c.Close() }()
				}
			}()
			pool, _ := balancer.NewPool(balancer.Options{Scheduler: "rr", Initial: balancer.Up})
			pool.Update([]balancer.Spec{{Endpoint: balancer.Endpoint{Addr: ln.Addr().(*net.TCPAddr).AddrPort()}, Weight: 1}})
			s, err := New(Options{Engine: name, Workers: 2}, []ServiceConfig{{Name: "x", Pool: pool, ConnectTimeout: 5 * time.Second, HalfCloseTimeout: time.Minute,
				Listeners: []Listener{{Network: "tcp", Addr: netip.MustParseAddrPort("127.0.0.1:0")}}}})
			if err != nil {
				t.Fatal(err)
			}
			s.Start()
			t.Log(s.Notes())
			addr := s.Services()[0].Listeners[0].String()
			c, err := net.Dial("tcp", addr)
			if err != nil {
				t.Fatal(err)
			}
			go func() { c.Write(make([]byte, 100<<20)); c.(*net.TCPConn).CloseWrite() }()
			n, err := io.Copy(io.Discard, c)
			if n != 100<<20 || err != nil {
				t.Fatal(n, err)
			}
			for r := range s.Flows() {
				t.Log(r)
			}
			ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
			defer cancel()
			if err := s.Shutdown(ctx); err != nil {
				t.Fatal(err)
			}
			for o := range outcomes {
				if n := s.services[0].Ended(o); n > 0 {
					t.Log(o, n)
				}
			}
		})
	}
}
