package discovery_test

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"usher/internal/discovery"
)

// lookupFunc is a Lookup made of a function.
type lookupFunc func(ctx context.Context, host string) ([]netip.Addr, error)

func (f lookupFunc) LookupNetIP(ctx context.Context, network, host string) ([]netip.Addr, error) {
	if network != "ip" {
		return nil, errors.New("asked for one family only")
	}
	return f(ctx, host)
}

func (f lookupFunc) LookupSRV(context.Context, string, string, string) (string, []*net.SRV, error) {
	return "", nil, errors.New("no SRV records here")
}

func addrs(words string) []netip.Addr {
	var all []netip.Addr
	for _, w := range strings.Fields(words) {
		all = append(all, netip.MustParseAddr(w))
	}
	return all
}

func TestResolverAddrs(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct{ name, found, want string }{
		{"one", "10.0.0.1", "10.0.0.1"},
		{"both families, sorted", "2001:db8::1 10.0.0.2 ::1 10.0.0.1", "10.0.0.1 10.0.0.2 ::1 2001:db8::1"},
		{"IPv4 in IPv6 form", "::ffff:10.0.0.2 ::ffff:10.0.0.1", "10.0.0.1 10.0.0.2"},
		{"each once", "10.0.0.1 ::ffff:10.0.0.1 10.0.0.1 ::1 ::1", "10.0.0.1 ::1"},
		{"zones kept apart", "fe80::1%b fe80::1%a", "fe80::1%a fe80::1%b"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			found := addrs(tt.found)
			r := discovery.Resolver{Lookup: lookupFunc(func(context.Context, string) ([]netip.Addr, error) { return found, nil })}
			got, err := r.Addrs(t.Context(), "db.local")
			if err != nil || !slices.Equal(got, addrs(tt.want)) {
				t.Errorf("got %v, %v, want %s", got, err, tt.want)
			}
			if !slices.Equal(found, addrs(tt.found)) {
				t.Errorf("the lookup's own slice was changed to %v", found)
			}
		})
	}
}

func TestResolverErrors(t *testing.T) {
	t.Parallel()
	r := discovery.Resolver{Lookup: lookupFunc(func(context.Context, string) ([]netip.Addr, error) { return nil, nil })}
	if got, err := r.Addrs(t.Context(), "db.local"); err == nil || !strings.Contains(err.Error(), "db.local") {
		t.Errorf("an empty answer gave %v, %v, want an error that names the host", got, err)
	}
}

// The zero Resolver asks the system, which knows this name by RFC 6761
// (section 6.3), whatever else it knows.
func TestResolverZeroValue(t *testing.T) {
	t.Parallel()
	got, err := discovery.Resolver{}.Addrs(t.Context(), "localhost")
	if err != nil {
		t.Skipf("this system does not resolve localhost: %v", err)
	}
	for _, a := range got {
		if !a.IsLoopback() {
			t.Errorf("localhost resolves to %v", a)
		}
	}
}
