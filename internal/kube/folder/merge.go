package folder

import (
	"fmt"
	"maps"
	"net/netip"
	"slices"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"

	"usher/internal/kube/assign"
	"usher/internal/kube/objects"
	"usher/internal/kube/planner"
)

// contents are the objects of all files together. They are made anew by each merge, from objects that stay.
type contents struct {
	services map[planner.Key]*corev1.Service
	slices   map[planner.Key]*discoveryv1.EndpointSlice
	nodes    map[string]*corev1.Node

	given    map[planner.Key]given
	mirrored map[*oldEndpoints][]*discoveryv1.EndpointSlice
}

// given is a Service that has ClusterIPs which its manifest does not give.
type given struct {
	from, service *corev1.Service
	ips           []netip.Addr
}

// The ClusterIPs that Services get are of these prefixes: those of kubeadm.
var (
	clusterIPv4 = netip.MustParsePrefix("10.96.0.0/12")
	clusterIPv6 = netip.MustParsePrefix("fd00:10:96::/112")
)

// merge returns the contents of files, and notes about what is odd in them. The receiver is what they were before.
func (c contents) merge(files map[string]*file) (contents, []string) {
	next := contents{
		services: make(map[planner.Key]*corev1.Service),
		slices:   make(map[planner.Key]*discoveryv1.EndpointSlice),
		nodes:    make(map[string]*corev1.Node),
		given:    make(map[planner.Key]given),
		mirrored: make(map[*oldEndpoints][]*discoveryv1.EndpointSlice),
	}
	var notes []string
	var endpoints []*oldEndpoints
	hasSlices := make(map[planner.Key]bool)
	firsts := make(map[id]string)
	for _, name := range slices.Sorted(maps.Keys(files)) {
		for _, o := range files[name].objects {
			if first, is := firsts[o.id()]; is {
				notes = append(notes, fmt.Sprintf("%s: %s: %s is passed over: that of %s counts", name, o.at, o, first))
				continue
			}
			firsts[o.id()] = fmt.Sprintf("%s, %s", name, o.at)
			switch o := o.Object.(type) {
			case *corev1.Service:
				next.services[objects.KeyOf(o)] = o
			case *corev1.Node:
				next.nodes[o.Name] = o
			case *discoveryv1.EndpointSlice:
				next.slices[objects.KeyOf(o)] = o
				hasSlices[planner.Key{Namespace: o.Namespace, Name: o.Labels[discoveryv1.LabelServiceName]}] = true
			case *oldEndpoints:
				endpoints = append(endpoints, o)
			}
		}
	}
	for _, e := range endpoints {
		if !hasSlices[objects.KeyOf(e)] { // an export has both
			next.mirror(e, c.mirrored[e])
		}
	}
	return next, append(notes, next.giveClusterIPs(c.given)...)
}

// mirror adds the slices of Endpoints: those of before, if there are.
func (c *contents) mirror(e *oldEndpoints, before []*discoveryv1.EndpointSlice) {
	if before == nil {
		before = mirror(e)
	}
	c.mirrored[e] = before
	for _, s := range before {
		c.slices[objects.KeyOf(s)] = s
	}
}

// giveClusterIPs gives ClusterIPs to the Services that have none: those that they had before, as far as no manifest gives
// them to another one, else by a hash of their names.
func (c *contents) giveClusterIPs(before map[planner.Key]given) (notes []string) {
	pools := make(map[corev1.IPFamily]*assign.Pool)
	for _, prefix := range []netip.Prefix{clusterIPv4, clusterIPv6} {
		pool, err := assign.NewPool(prefix)
		if err != nil {
			return []string{err.Error()}
		}
		pools[familyOf(prefix.Addr())] = pool
	}
	var without []planner.Key
	keys := slices.SortedFunc(maps.Keys(c.services), planner.Key.Compare)
	for _, key := range keys {
		spec := &c.services[key].Spec
		if len(spec.ClusterIPs) == 0 && spec.Type != corev1.ServiceTypeExternalName {
			without = append(without, key)
		}
		for _, text := range spec.ClusterIPs {
			if ip, err := netip.ParseAddr(text); err == nil {
				pools[familyOf(ip)].Claim(key, ip) // one that another Service has is refused when it is listened on
			}
		}
	}
	for _, key := range without {
		for _, ip := range before[key].ips {
			pools[familyOf(ip)].Claim(key, ip)
		}
	}
	for _, key := range without {
		var ips []netip.Addr
		for _, family := range c.services[key].Spec.IPFamilies {
			pool := pools[family]
			if pool == nil {
				continue
			}
			ip, err := pool.Choose(key)
			if err != nil {
				notes = append(notes, fmt.Sprintf("Service %s has no ClusterIP: %v", key, err))
				continue
			}
			ips = append(ips, ip)
		}
		c.give(key, ips, before[key])
	}
	return notes
}

// give replaces a Service by one that has ClusterIPs.
func (c *contents) give(key planner.Key, ips []netip.Addr, before given) {
	from := c.services[key]
	if before.from != from || !slices.Equal(before.ips, ips) {
		before = given{from: from, service: from.DeepCopy(), ips: ips}
		for _, ip := range ips {
			before.service.Spec.ClusterIPs = append(before.service.Spec.ClusterIPs, ip.String())
		}
		if len(ips) > 0 {
			before.service.Spec.ClusterIP = ips[0].String()
		}
	}
	c.given[key] = before
	c.services[key] = before.service
}

// apply writes to the store what differs from the contents of before.
func (c *contents) apply(before *contents, store *objects.Store) {
	store.Batch(func() {
		set(c.nodes, before.nodes, store.SetNode, store.DeleteNode)
		set(c.slices, before.slices, store.SetSlice, store.DeleteSlice)
		set(c.services, before.services, store.SetService, store.DeleteService)
	})
}

// set calls put for each object that is new or another one, and remove for each that is gone.
func set[K comparable, O comparable](now, before map[K]O, put func(O), remove func(K)) {
	for key, o := range now {
		if old, is := before[key]; !is || old != o {
			put(o)
		}
	}
	for key := range before {
		if _, is := now[key]; !is {
			remove(key)
		}
	}
}
