package discovery

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"time"
)

// lookupTimeout bounds one lookup, name servers' retries included.
const lookupTimeout = 5 * time.Second

// Lookup is the question that a Resolver asks; *net.Resolver answers it.
type Lookup interface {
	LookupNetIP(ctx context.Context, network, host string) ([]netip.Addr, error)
}

// Resolver resolves host names to sets of addresses that can be compared.
// The zero value asks net.DefaultResolver.
type Resolver struct {
	Lookup Lookup
}

// Addrs returns the addresses of host, of both families, sorted, IPv4 never
// in its IPv6 form, each once. There is at least one, or an error that names
// the host. It takes at most 5 s.
func (r Resolver) Addrs(ctx context.Context, host string) ([]netip.Addr, error) {
	var lookup Lookup = net.DefaultResolver
	if r.Lookup != nil {
		lookup = r.Lookup
	}
	ctx, cancel := context.WithTimeout(ctx, lookupTimeout)
	defer cancel()
	found, err := lookup.LookupNetIP(ctx, "ip", host)
	if err != nil {
		return nil, err // *net.DNSError: names the host
	}
	if len(found) == 0 {
		return nil, fmt.Errorf("lookup %s: no address", host)
	}
	addrs := make([]netip.Addr, len(found))
	for i, a := range found {
		addrs[i] = a.Unmap()
	}
	slices.SortFunc(addrs, netip.Addr.Compare)
	return slices.Compact(addrs), nil
}
