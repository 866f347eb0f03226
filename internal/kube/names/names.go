// Package names serves the names of Services over DNS: Kubernetes DNS-Based Service Discovery 1.1.0, and what CoreDNS's
// kubernetes plugin answers where that leaves a choice.
//
//	planner.Record ─ Set ─▶ Zone (names.go, records.go)
//	                          ▲ lookup (lookup.go)
//	client ─▶ Server (server.go) ─▶ handler (handler.go) ─┬─▶ Zone: names of the cluster's domain, and addresses known to it
//	                                                      └─▶ forwarder (forward.go): all other names
//
// A query costs what its answer has, never what the cluster has. Listeners, connections, queries in progress and
// forwarded questions are bounded. Nothing is cached: records live for five seconds.
package names

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/miekg/dns"

	"usher/internal/kube/planner"
)

// ttl is the time to live of all records of a zone, in seconds.
const ttl = 5

// maxDomain leaves room for the longest name of a Service below a domain: two labels of 63 letters and "svc".
const maxDomain = 255 - 2*64 - 4 - 1

// Zone is the cluster's domain with the names of its Services. Any goroutine may call its methods.
type Zone struct {
	domain string // lower case, with a dot at its end
	serial atomic.Uint32

	writing sync.Mutex // held for the whole of a change

	mu         sync.RWMutex             // held for one entry at a time: queries wait for no Service of many endpoints
	services   map[planner.Key]*service // keys are in lower case
	namespaces map[string]int           // how many Services each has
	clusterIPs pointers
	endpoints  pointers // of headless Services
}

// pointers are the names of addresses, by the Service that gives them.
type pointers map[netip.Addr]map[planner.Key][]string

// New returns a zone without Services for a domain such as cluster.local.
func New(domain string) (*Zone, error) {
	canonical := dns.CanonicalName(strings.TrimSuffix(domain, "."))
	for label := range strings.SplitSeq(strings.TrimSuffix(canonical, "."), ".") {
		if !isLabel(label) || len(canonical) > maxDomain {
			return nil, fmt.Errorf("cluster domain %q: it must be a domain name of at most %d letters, such as cluster.local", domain, maxDomain)
		}
	}
	z := &Zone{
		domain:     canonical,
		services:   make(map[planner.Key]*service),
		namespaces: make(map[string]int),
		clusterIPs: make(pointers),
		endpoints:  make(pointers),
	}
	z.serial.Store(uint32(time.Now().Unix()))
	return z, nil
}

// Set adds the names of a Service, or replaces them.
func (z *Zone) Set(record planner.Record) {
	key := lowerKey(record.Key)
	if !isLabel(key.Name) || !isLabel(key.Namespace) {
		z.Delete(key)
		return
	}
	z.replace(key, newService(record, key.Name+"."+key.Namespace+".svc."+z.domain))
}

// Delete removes the names of a Service. There need not be any.
func (z *Zone) Delete(key planner.Key) { z.replace(lowerKey(key), nil) }

// replace puts records in the place of those of a Service; nil: it has none any more.
func (z *Zone) replace(key planner.Key, now *service) {
	z.writing.Lock()
	defer z.writing.Unlock()
	before := z.swap(key, now)
	if before == nil && now == nil {
		return
	}
	none := new(service)
	z.point(z.clusterIPs, key, cmp.Or(before, none).clusterIPs, cmp.Or(now, none).clusterIPs)
	z.point(z.endpoints, key, cmp.Or(before, none).endpoints, cmp.Or(now, none).endpoints)
	z.serial.Add(1)
}

func (z *Zone) swap(key planner.Key, now *service) (before *service) {
	z.mu.Lock()
	defer z.mu.Unlock()
	if before = z.services[key]; before != nil {
		delete(z.services, key)
		if z.namespaces[key.Namespace]--; z.namespaces[key.Namespace] == 0 {
			delete(z.namespaces, key.Namespace)
		}
	}
	if now != nil {
		z.services[key] = now
		z.namespaces[key.Namespace]++
	}
	return before
}

// point changes the names of addresses that a Service gives. What stays as it is costs no lock.
func (z *Zone) point(p pointers, key planner.Key, before, now map[netip.Addr][]string) {
	for addr := range before {
		if _, stays := now[addr]; !stays {
			z.mu.Lock()
			p.remove(addr, key)
			z.mu.Unlock()
		}
	}
	for addr, names := range now {
		if !slices.Equal(before[addr], names) {
			z.mu.Lock()
			p.add(addr, key, names)
			z.mu.Unlock()
		}
	}
}

// service returns the records of a Service; nil: there is none of that name.
func (z *Zone) service(key planner.Key) *service {
	z.mu.RLock()
	defer z.mu.RUnlock()
	return z.services[key]
}

func (z *Zone) hasNamespace(name string) bool {
	z.mu.RLock()
	defer z.mu.RUnlock()
	return z.namespaces[name] > 0
}

// maxPointers bounds the names that one address is answered with, by Services.
const maxPointers = 32

// pointers returns the names of an address. A ClusterIP has those of Services alone, even if it is an endpoint too.
func (z *Zone) pointers(addr netip.Addr) []string {
	z.mu.RLock()
	defer z.mu.RUnlock()
	owners := z.clusterIPs[addr]
	if len(owners) == 0 {
		owners = z.endpoints[addr]
	}
	var names []string
	for _, of := range owners {
		names = append(names, of[:min(len(of), maxPointers-len(names))]...)
		if len(names) == maxPointers {
			break
		}
	}
	return names
}

func (p pointers) add(addr netip.Addr, key planner.Key, names []string) {
	if p[addr] == nil {
		p[addr] = make(map[planner.Key][]string, 1)
	}
	p[addr][key] = names
}

func (p pointers) remove(addr netip.Addr, key planner.Key) {
	if delete(p[addr], key); len(p[addr]) == 0 {
		delete(p, addr)
	}
}

func lowerKey(key planner.Key) planner.Key {
	return planner.Key{Namespace: strings.ToLower(key.Namespace), Name: strings.ToLower(key.Name)}
}

// isLabel reports whether a name can be one label of a host name. Underscores are let through: domains have them.
func isLabel(name string) bool {
	for i := range len(name) {
		c := name[i]
		isLetter := 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9'
		if !isLetter && c != '-' && c != '_' {
			return false
		}
	}
	return 0 < len(name) && len(name) <= 63
}
