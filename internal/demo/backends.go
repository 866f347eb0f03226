package demo

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"strconv"
	"sync"
	"time"
)

// Backends are small HTTP servers on 127.0.0.1, which can be killed and brought back.
// Each closes a connection after one reply, so that the next request is a new flow.
type Backends []*Backend

// Start starts a backend on each of the preferred ports, or on one that the kernel
// chooses if the port is 0 or taken. Their names are backend-1, backend-2, and so on.
func Start(preferredPorts []int) (Backends, error) {
	var all Backends
	for i, port := range preferredPorts {
		ln, err := listen(port)
		if err != nil {
			all.closeNow()
			return nil, fmt.Errorf("start demo backend %d: %w", i+1, err)
		}
		b := &Backend{number: i + 1, addr: ln.Addr().(*net.TCPAddr).AddrPort()}
		b.serve(ln)
		all = append(all, b)
	}
	return all, nil
}

// Addrs returns where the backends listen, in order of their names.
func (all Backends) Addrs() []netip.AddrPort {
	addrs := make([]netip.AddrPort, len(all))
	for i, b := range all {
		addrs[i] = b.addr
	}
	return addrs
}

// lives reports whether the life of a backend that a reply named still goes on.
func (all Backends) lives(id string) bool {
	for _, b := range all {
		if b.id() == id {
			return true
		}
	}
	return false
}

// Close stops accepting and waits for open requests. It closes their connections when
// ctx ends.
func (all Backends) Close(ctx context.Context) {
	var stopping sync.WaitGroup
	for _, b := range all {
		stopping.Go(func() { b.close(ctx) })
	}
	stopping.Wait()
}

// closeNow does not wait for requests.
func (all Backends) closeNow() {
	for _, b := range all {
		b.Kill()
		b.release()
		b.running.Wait()
	}
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
