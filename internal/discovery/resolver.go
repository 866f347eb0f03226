package discovery

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"sync"
)

// Lookup is what a Resolver needs of a *net.Resolver.
type Lookup interface {
	LookupNetIP(ctx context.Context, network, host string) ([]netip.Addr, error)
	LookupSRV(ctx context.Context, service, proto, name string) (cname string, records []*net.SRV, err error)
}

// maxTargetLookups bounds concurrent lookups for the targets of SRV record sets.
const maxTargetLookups = 2

// Resolver resolves names. It waits as long as the system allows its name servers: on
// Linux as resolv.conf says, by default 5 s each, twice.
type Resolver struct {
	// Lookup, if set, replaces the system's resolver.
	Lookup Lookup
	// OnServer, if set, is called when a name server stops answering, with an error, and
	// when it answers again. Calls come from any goroutine, without a lock held.
	OnServer func(server string, err error)

	servers *servers      // nil: forgets the state of servers after each lookup
	slots   chan struct{} // one element per lookup of a target; nil: unlimited
	dial    dialFunc      // nil: that of a net.Dialer
}

// shared returns a Resolver for many lookups. It skips servers that do not answer, and
// bounds lookups of targets.
func (r Resolver) shared() Resolver {
	r.servers, r.slots = newServers(r.OnServer), make(chan struct{}, maxTargetLookups)
	return r
}

// Resolve looks up the addresses of a host, of both families, or an SRV record set. It
// returns at least one record, or an error that names what failed.
func (r Resolver) Resolve(ctx context.Context, name string) (Answer, error) {
	var a Answer
	var err error
	if records, ok := strings.CutPrefix(name, SRV); ok {
		a, err = r.lookupSRV(ctx, records)
	} else {
		a, err = r.lookupHost(ctx, name)
	}
	if err != nil {
		return Answer{}, err
	}
	a.sort()
	return a, nil
}

// Addrs returns the addresses of a host.
func (r Resolver) Addrs(ctx context.Context, host string) ([]netip.Addr, error) {
	a, err := r.Resolve(ctx, host)
	addrs := make([]netip.Addr, len(a.Records))
	for i, record := range a.Records {
		addrs[i] = record.Addr
	}
	return addrs, err
}

func (r Resolver) lookupHost(ctx context.Context, host string) (Answer, error) {
	lookup, trace := r.newLookup(ctx)
	defer trace.end()
	found, err := lookup.LookupNetIP(ctx, "ip", host)
	if err != nil {
		return Answer{}, trace.explain(host, err)
	}
	if len(found) == 0 {
		return Answer{}, fmt.Errorf("lookup %s: no address", host)
	}
	a := Answer{TTL: trace.foundTTL()}
	for _, ip := range found {
		a.Records = append(a.Records, Record{Host: host, Addr: ip.Unmap()})
	}
	for _, isIP6 := range []bool{false, true} {
		if err := trace.unanswered(isIP6); err != nil {
			a.missing, a.Missing = append(a.missing, scope{host, isIP6}), err
		}
	}
	return a, nil
}

// lookupSRV looks up an SRV record set, and then each host in it. A host without an
// answer does not affect the others.
func (r Resolver) lookupSRV(ctx context.Context, name string) (Answer, error) {
	lookup, trace := r.newLookup(ctx)
	defer trace.end()
	_, records, err := lookup.LookupSRV(ctx, "", "", name)
	if len(records) == 0 { // an error beside records is about omitted ones
		if err == nil {
			err = fmt.Errorf("lookup %s: no SRV record", name)
		}
		return Answer{}, trace.explain(name, err)
	}
	var mu sync.Mutex
	found := make(map[string]Answer)
	var lookups sync.WaitGroup
	for _, host := range hostsOf(records) {
		if !r.acquireSlot(ctx) {
			break
		}
		lookups.Go(func() {
			defer r.releaseSlot()
			a, err := r.lookupHost(ctx, host)
			if err != nil {
				a = Answer{Missing: err, missing: []scope{{host, false}, {host, true}}}
			}
			mu.Lock()
			defer mu.Unlock()
			found[host] = a
		})
	}
	lookups.Wait()
	if ctx.Err() != nil {
		return Answer{}, context.Cause(ctx)
	}
	return merge(name, records, found, Answer{TTL: trace.foundTTL()})
}

// acquireSlot waits for a slot. It returns false if ctx ends before.
func (r Resolver) acquireSlot(ctx context.Context) bool {
	if r.slots == nil {
		return ctx.Err() == nil
	}
	select {
	case r.slots <- struct{}{}:
		return true
	case <-ctx.Done():
		return false
	}
}

func (r Resolver) releaseSlot() {
	if r.slots != nil {
		<-r.slots
	}
}

// hostsOf returns the targets without duplicates. The root as a target means that the
// service is not available (RFC 2782).
func hostsOf(records []*net.SRV) []string {
	var hosts []string
	seen := make(map[string]bool)
	for _, s := range records {
		host := targetOf(s)
		if host != "" && !seen[host] {
			seen[host] = true
			hosts = append(hosts, host)
		}
	}
	return hosts
}

func targetOf(s *net.SRV) string { return strings.ToLower(strings.TrimSuffix(s.Target, ".")) }

// merge combines the records of a set and the addresses of their hosts in one answer.
func merge(name string, records []*net.SRV, found map[string]Answer, a Answer) (Answer, error) {
	var failed []error
	for host, of := range found {
		if of.TTL > 0 && (a.TTL == 0 || of.TTL < a.TTL) {
			a.TTL = of.TTL
		}
		if of.Missing != nil {
			failed = append(failed, fmt.Errorf("%s: %w", host, of.Missing))
			a.missing = append(a.missing, of.missing...)
		}
	}
	for _, s := range records {
		for _, r := range found[targetOf(s)].Records {
			r.SRV = SRVRecord{Port: s.Port, Priority: s.Priority, Weight: s.Weight}
			a.Records = append(a.Records, r)
		}
	}
	switch {
	case len(a.Records) > 0 && len(failed) > 0:
		a.Missing = failed[0] // one line; the others most likely have the same cause
	case len(a.Records) == 0 && len(failed) > 0:
		return Answer{}, failed[0]
	case len(a.Records) == 0:
		return Answer{}, fmt.Errorf("lookup %s: the service is not available there", name)
	}
	return a, nil
}

// newLookup returns the resolver for one lookup, and its trace if it has one.
func (r Resolver) newLookup(ctx context.Context) (Lookup, *trace) {
	if r.Lookup != nil {
		return r.Lookup, nil
	}
	t := newTrace(ctx, r.servers, r.dial)
	return &net.Resolver{PreferGo: isTracing, Dial: t.connect}, t
}

// isNotFound reports whether the answer is that the name has no records.
func isNotFound(err error) bool {
	var failed *net.DNSError
	return errors.As(err, &failed) && failed.IsNotFound
}
