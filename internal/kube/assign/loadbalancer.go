package assign

import (
	"fmt"
	"maps"
	"net/netip"
	"slices"

	corev1 "k8s.io/api/core/v1"

	"usher/internal/kube/planner"
)

// class is the loadBalancerClass of Services that get their addresses from usher alone.
const class = "usher.dev/lb"

// LoadBalancers gives the Services of type LoadBalancer an address of a pool each. Several instances may write the statuses
// of one cluster: what a status has counts more than what an instance has chosen, so that all come to have the same.
type LoadBalancers struct {
	pool    *Pool
	asked   map[planner.Key]bool // they have the address that their spec asks for
	refused map[planner.Key]bool // they have none, and may have one when another is released
	isFreed bool                 // one was released since Freed
}

// New returns the LoadBalancers of the pool of a prefix.
func New(prefix netip.Prefix) (*LoadBalancers, error) {
	pool, err := NewPool(prefix)
	if err != nil {
		return nil, err
	}
	return &LoadBalancers{pool: pool, asked: make(map[planner.Key]bool), refused: make(map[planner.Key]bool)}, nil
}

// Prefix returns the range of the pool.
func (l *LoadBalancers) Prefix() netip.Prefix { return l.pool.Prefix() }

// Claim gives a Service what its status has, or what its spec asks for. Call it for all Services that there are at first,
// before For, so that none is given what another one has.
func (l *LoadBalancers) Claim(key planner.Key, svc *corev1.Service) {
	if _, has := l.pool.Addr(key); has || !l.isEligible(svc) {
		return
	}
	if wanted, is := requested(svc); is {
		l.pool.Claim(key, wanted)
		return
	}
	for _, addr := range ingress(svc) {
		if l.pool.Claim(key, addr) {
			return
		}
	}
}

// For returns the address of a Service, which keeps it as long as it is of type LoadBalancer and asks for no other. The
// address is not valid if the Service has none of this pool: the error says why, unless it is not for this pool to give.
// A nil Service is one that is gone.
func (l *LoadBalancers) For(key planner.Key, svc *corev1.Service) (netip.Addr, error) {
	before, had := l.pool.Addr(key)
	delete(l.refused, key)
	addr, err := l.choose(key, svc)
	if err != nil {
		l.refused[key] = true
	}
	l.isFreed = l.isFreed || had && addr != before
	return addr, err
}

// Freed returns the Services without an address that may have one now, sorted: For has refused them, and addresses were
// released since the last call, or For has given what they had to another one.
func (l *LoadBalancers) Freed() []planner.Key {
	if !l.isFreed {
		return nil
	}
	l.isFreed = false
	return slices.SortedFunc(maps.Keys(l.refused), planner.Key.Compare)
}

func (l *LoadBalancers) choose(key planner.Key, svc *corev1.Service) (netip.Addr, error) {
	delete(l.asked, key)
	if svc == nil || !l.isEligible(svc) {
		l.pool.Release(key)
		return netip.Addr{}, nil
	}
	if wanted, is := requested(svc); is {
		if !l.pool.Claim(key, wanted) {
			l.pool.Release(key)
			return netip.Addr{}, l.refuse(key, wanted)
		}
		l.asked[key] = true
		return wanted, nil
	}
	for _, addr := range ingress(svc) {
		if l.adopt(key, addr) {
			return addr, nil
		}
	}
	addr, err := l.pool.Choose(key)
	if err != nil {
		return addr, fmt.Errorf("the pool %s has no address for it: %w; give a larger one", l.pool.Prefix(), err)
	}
	return addr, nil
}

// adopt gives a Service the address that its status has, which another instance may have written. Two Services for which
// instances have chosen in different orders may have the same: that of the first one by name counts, and the other one
// gets another.
func (l *LoadBalancers) adopt(key planner.Key, addr netip.Addr) bool {
	owner, isTaken := l.pool.owner[addr]
	if isTaken && key.Compare(owner) < 0 && !l.asked[owner] {
		l.pool.Release(owner)
		l.refused[owner], l.isFreed = true, true // until Freed returns it
	}
	return l.pool.Claim(key, addr)
}

// refuse says why a Service cannot have the address that it asks for.
func (l *LoadBalancers) refuse(key planner.Key, wanted netip.Addr) error {
	if owner, is := l.pool.owner[wanted]; is && owner != key {
		return fmt.Errorf("spec.loadBalancerIP: %s has %s, and addresses are not shared; ask for another one", owner, wanted)
	}
	return fmt.Errorf("spec.loadBalancerIP: %s is not one of those that the pool %s gives", wanted, l.pool.Prefix())
}

// isEligible reports whether a Service gets an address from this pool.
func (l *LoadBalancers) isEligible(svc *corev1.Service) bool {
	if svc.Spec.Type != corev1.ServiceTypeLoadBalancer || !hasFamily(svc, l.pool.Prefix().Addr()) {
		return false
	}
	if name := svc.Spec.LoadBalancerClass; name != nil {
		return *name == class
	}
	return !l.isServedElsewhere(svc)
}

// isServedElsewhere reports whether another controller has given a Service a host name, or an address that is neither of
// this pool nor of loopback, as those of an earlier pool may be. The two would change its status in turns.
func (l *LoadBalancers) isServedElsewhere(svc *corev1.Service) bool {
	return slices.ContainsFunc(svc.Status.LoadBalancer.Ingress, func(in corev1.LoadBalancerIngress) bool {
		addr, err := netip.ParseAddr(in.IP)
		return in.Hostname != "" || err == nil && !l.pool.Prefix().Contains(addr.Unmap()) && !addr.Unmap().IsLoopback()
	})
}

// requested returns the address that a Service asks for.
func requested(svc *corev1.Service) (netip.Addr, bool) {
	addr, err := netip.ParseAddr(svc.Spec.LoadBalancerIP)
	return addr.Unmap(), err == nil
}

// ingress returns the addresses that the status of a Service has.
func ingress(svc *corev1.Service) []netip.Addr {
	var addrs []netip.Addr
	for _, in := range svc.Status.LoadBalancer.Ingress {
		if addr, err := netip.ParseAddr(in.IP); err == nil {
			addrs = append(addrs, addr.Unmap())
		}
	}
	return addrs
}

// hasFamily reports whether a Service is of the family of an address. One that does not say it is of each.
func hasFamily(svc *corev1.Service, addr netip.Addr) bool {
	family := corev1.IPv4Protocol
	if addr.Is6() {
		family = corev1.IPv6Protocol
	}
	return len(svc.Spec.IPFamilies) == 0 || slices.Contains(svc.Spec.IPFamilies, family)
}
