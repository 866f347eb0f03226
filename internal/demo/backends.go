package demo

import (
	"context"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"strconv"
	"sync"
	"time"
)

// Backends are small HTTP servers on 127.0.0.1, one for each port asked for.
// Each ends every connection after one reply, so that the next request is a
// new flow and may be given to another backend.
type Backends struct {
	servers []*http.Server
	addrs   []netip.AddrPort
	serving sync.WaitGroup
}

// Start starts a backend on each of the preferred ports of 127.0.0.1, or on
// one of the kernel's choice where the port is 0 or taken. They are named
// backend-1, backend-2 and so on, in this order.
func Start(preferredPorts []int) (*Backends, error) {
	b := new(Backends)
	for i, port := range preferredPorts {
		ln, err := listen(port)
		if err != nil {
			b.close()
			return nil, fmt.Errorf("start demo backend %d: %w", i+1, err)
		}
		addr := ln.Addr().(*net.TCPAddr).AddrPort()
		server := &http.Server{
			Handler:           &backend{number: i + 1, addr: addr},
			ReadHeaderTimeout: 10 * time.Second,
			WriteTimeout:      10 * time.Second,
			// What clients do wrong is none of the demo's business.
			ErrorLog: log.New(io.Discard, "", 0),
		}
		server.SetKeepAlivesEnabled(false) // each reply says Connection: close
		b.servers = append(b.servers, server)
		b.addrs = append(b.addrs, addr)
		b.serving.Go(func() {
			// Serve ends when the server is closed. Should accept fail
			// before that, the health checks have a backend to take down.
			_ = server.Serve(ln)
		})
	}
	return b, nil
}

// Addrs returns where the backends listen, in order of their names.
func (b *Backends) Addrs() []netip.AddrPort {
	return slices.Clone(b.addrs)
}

// Close stops accepting and waits for the requests being served. When ctx
// ends before they do, it cuts their connections.
func (b *Backends) Close(ctx context.Context) {
	var stopping sync.WaitGroup
	for _, s := range b.servers {
		stopping.Go(func() {
			if s.Shutdown(ctx) != nil {
				_ = s.Close()
			}
		})
	}
	stopping.Wait()
	b.serving.Wait()
}

// close ends without waiting for requests.
func (b *Backends) close() {
	for _, s := range b.servers {
		_ = s.Close()
	}
	b.serving.Wait()
}

// listen listens on port of 127.0.0.1, or on one that the kernel chooses.
func listen(port int) (net.Listener, error) {
	if port != 0 && !answers(port) {
		if ln, err := net.Listen("tcp4", local(port)); err == nil {
			return ln, nil
		}
	}
	return net.Listen("tcp4", local(0))
}

// answers reports whether somebody listens on port already. That a bind
// succeeds does not prove the opposite: the BSDs, macOS and Windows let
// 127.0.0.1:9001 be bound beside another program's *:9001, and would turn
// that program's clients over to us.
func answers(port int) bool {
	conn, err := net.DialTimeout("tcp4", local(port), time.Second)
	if err != nil {
		return false
	}
	conn.Close()
	return true
}

func local(port int) string {
	return net.JoinHostPort("127.0.0.1", strconv.Itoa(port))
}
