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

// Backends are small HTTP servers on 127.0.0.1. Each closes a connection after one
// reply, so that the next request is a new flow.
type Backends struct {
	servers []*http.Server
	addrs   []netip.AddrPort
	serving sync.WaitGroup
}

// Start starts a backend on each of the preferred ports, or on one that the kernel
// chooses if the port is 0 or taken. Their names are backend-1, backend-2, and so on.
func Start(preferredPorts []int) (*Backends, error) {
	b := new(Backends)
	for i, port := range preferredPorts {
		ln, err := listen(port)
		if err != nil {
			b.closeNow()
			return nil, fmt.Errorf("start demo backend %d: %w", i+1, err)
		}
		addr := ln.Addr().(*net.TCPAddr).AddrPort()
		server := &http.Server{
			Handler:           &backend{number: i + 1, addr: addr},
			ReadHeaderTimeout: 10 * time.Second,
			WriteTimeout:      10 * time.Second,
			// Errors of clients do not matter to the demo.
			ErrorLog: log.New(io.Discard, "", 0),
		}
		server.SetKeepAlivesEnabled(false) // each reply says Connection: close
		b.servers = append(b.servers, server)
		b.addrs = append(b.addrs, addr)
		b.serving.Go(func() {
			// Serve ends when the server is closed. If accept fails before, the health
			// checks take the backend down.
			_ = server.Serve(ln)
		})
	}
	return b, nil
}

// Addrs returns where the backends listen, in order of their names.
func (b *Backends) Addrs() []netip.AddrPort {
	return slices.Clone(b.addrs)
}

// Close stops accepting and waits for open requests. It closes their connections when
// ctx ends.
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

// closeNow does not wait for requests.
func (b *Backends) closeNow() {
	for _, s := range b.servers {
		_ = s.Close()
	}
	b.serving.Wait()
}

// listen listens on port of 127.0.0.1, or on one that the kernel chooses.
func listen(port int) (net.Listener, error) {
	if port != 0 && !isServed(port) {
		if ln, err := net.Listen("tcp4", local(port)); err == nil {
			return ln, nil
		}
	}
	return net.Listen("tcp4", local(0))
}

// isServed reports whether a process listens on port. A successful bind does not prove
// the opposite: the BSDs, macOS and Windows allow 127.0.0.1:9001 beside another
// program's *:9001, and would give us that program's clients.
func isServed(port int) bool {
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
