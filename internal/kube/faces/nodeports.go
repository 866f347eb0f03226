package faces

import (
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"sort"
	"strconv"
	"sync"
	"sync/atomic"
	"syscall"

	"usher/internal/kube/planner"
)

// nodePorts serves the healthCheckNodePorts.
type nodePorts struct {
	isProxyHealthy func() bool

	mu       sync.Mutex
	isClosed bool
	byPort   map[uint16]*portServer
	owned    sync.WaitGroup
}

// portServer answers for one Service, on one port of several addresses.
type portServer struct {
	server    *http.Server
	health    atomic.Pointer[planner.Health]
	listeners map[netip.Addr]net.Listener
}

func newNodePorts(isProxyHealthy func() bool) *nodePorts {
	return &nodePorts{isProxyHealthy: isProxyHealthy, byPort: make(map[uint16]*portServer)}
}

// set closes what is not in health any more, then opens what is new. A port that two Services ask for is that of the
// first by name.
func (n *nodePorts) set(addrs []netip.Addr, health []planner.Health) map[planner.Key]error {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.isClosed {
		return nil
	}
	failed := make(map[planner.Key]error)
	wanted := make(map[uint16]planner.Health, len(health))
	sorted := slices.Clone(health)
	sort.Slice(sorted, func(i, j int) bool { return sorted[i].Service.Compare(sorted[j].Service) < 0 })
	for _, h := range sorted {
		if other, isTaken := wanted[h.Port]; isTaken {
			failed[h.Service] = fmt.Errorf("healthCheckNodePort %d is that of %s too: choose another", h.Port, other.Service)
			continue
		}
		wanted[h.Port] = h
	}
	for port, s := range n.byPort {
		if _, is := wanted[port]; !is {
			s.close()
			delete(n.byPort, port)
		}
	}
	for port, h := range wanted {
		s := n.byPort[port]
		if s == nil {
			s = n.newPortServer()
			n.byPort[port] = s
		}
		s.health.Store(&h)
		if err := n.listen(s, addrs, port); err != nil {
			failed[h.Service] = err
		}
	}
	return failed
}

func (n *nodePorts) newPortServer() *portServer {
	s := &portServer{listeners: make(map[netip.Addr]net.Listener)}
	s.server = newServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		writeServiceHealth(w, *s.health.Load(), n.isProxyHealthy())
	}))
	s.server.SetKeepAlivesEnabled(false) // a port that moves to another Service takes no connection along
	return s
}

// close frees the addresses before it returns. A load balancer asks again elsewhere.
func (s *portServer) close() {
	for _, l := range s.listeners {
		l.Close()
	}
	s.server.Close()
}

// listen has a server listen on these addresses and no others. It goes on when one of them cannot be had.
func (n *nodePorts) listen(s *portServer, addrs []netip.Addr, port uint16) error {
	for addr, l := range s.listeners {
		if !slices.Contains(addrs, addr) {
			l.Close()
			delete(s.listeners, addr)
		}
	}
	var failed []error
	for _, addr := range addrs {
		if s.listeners[addr] != nil {
			continue
		}
		l, err := listenOn(netip.AddrPortFrom(addr, port))
		if err != nil {
			failed = append(failed, err)
			continue
		}
		s.listeners[addr] = l
		n.owned.Go(func() { _ = s.server.Serve(l) }) // until one of both is closed
	}
	return errors.Join(failed...)
}

func listenOn(address netip.AddrPort) (net.Listener, error) {
	network := "tcp4"
	if address.Addr().Is6() {
		network = "tcp6" // without IPv4: the unspecified address stands for its family alone
	}
	l, err := net.Listen(network, address.String())
	switch {
	case errors.Is(err, syscall.EADDRINUSE):
		return nil, fmt.Errorf("healthCheckNodePort: %s is in use by another process", address)
	case errors.Is(err, syscall.EACCES):
		return nil, fmt.Errorf("healthCheckNodePort: %s needs privilege: choose a port from 1024 on", address)
	case err != nil:
		return nil, fmt.Errorf("healthCheckNodePort: %w", err)
	}
	return &boundedListener{Listener: l, max: maxConns}, nil
}

func (n *nodePorts) close() {
	n.mu.Lock()
	n.isClosed = true
	for _, s := range n.byPort {
		s.close()
	}
	n.mu.Unlock()
	n.owned.Wait()
}

// serviceHealth is the body of an answer.
type serviceHealth struct {
	Service struct {
		Namespace string `json:"namespace"`
		Name      string `json:"name"`
	} `json:"service"`
	LocalEndpoints      int  `json:"localEndpoints"`
	ServiceProxyHealthy bool `json:"serviceProxyHealthy"`
}

func writeServiceHealth(w http.ResponseWriter, h planner.Health, isProxyHealthy bool) {
	body := serviceHealth{LocalEndpoints: h.LocalEndpoints, ServiceProxyHealthy: isProxyHealthy}
	body.Service.Namespace, body.Service.Name = h.Service.Namespace, h.Service.Name
	w.Header().Set("X-Load-Balancing-Endpoint-Weight", strconv.Itoa(h.LocalEndpoints))
	status := http.StatusServiceUnavailable
	if h.LocalEndpoints > 0 && isProxyHealthy {
		status = http.StatusOK
	}
	writeJSON(w, status, body)
}
