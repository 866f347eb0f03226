package planner

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"net/netip"
	"reflect"
	"slices"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
)

// dice makes random objects: it returns a number below n.
type dice func(n int) int

func pick[T any](d dice, from ...T) T { return from[d(len(from))] }

// some returns a pointer to one of several values, or nil.
func some[T any](d dice, from ...T) *T {
	if i := d(len(from) + 1); i < len(from) {
		return &from[i]
	}
	return nil
}

// input returns objects of a Service; hostile ones hold what no API server would accept.
func (d dice) input(isHostile bool) Input {
	s := &corev1.Service{}
	s.Namespace, s.Name = "default", "web"
	s.Spec.Type = pick(d, corev1.ServiceTypeClusterIP, corev1.ServiceTypeNodePort, corev1.ServiceTypeLoadBalancer)
	s.Spec.ClusterIPs = pick(d, []string{"10.96.0.1"}, []string{"fd00:96::1"}, []string{"10.96.0.1", "fd00:96::1"})
	s.Spec.ExternalTrafficPolicy = pick(d, corev1.ServiceExternalTrafficPolicyCluster, corev1.ServiceExternalTrafficPolicyLocal)
	s.Spec.InternalTrafficPolicy = some(d, corev1.ServiceInternalTrafficPolicyCluster, corev1.ServiceInternalTrafficPolicyLocal)
	s.Spec.PublishNotReadyAddresses = d(8) == 0
	s.Spec.LoadBalancerSourceRanges = pick(d, nil, []string{"10.0.0.0/8"}, []string{"fd00::/8", "192.168.0.0/16"})
	s.Spec.ExternalIPs = pick(d, nil, []string{"198.51.100.1", "203.0.113.1"})
	s.Spec.HealthCheckNodePort = pick[int32](d, 0, 32000)
	s.Spec.SessionAffinity = pick(d, corev1.ServiceAffinityNone, corev1.ServiceAffinityClientIP)
	s.Status.LoadBalancer.Ingress = ingress(pick(d, "", "203.0.113.1 2001:db8::1", "proxy:203.0.113.1"))
	for i, name := range []string{"a", "b"}[:1+d(2)] {
		s.Spec.Ports = append(s.Spec.Ports, corev1.ServicePort{Name: name, Port: int32(80 + i), NodePort: int32(30080 + i),
			Protocol: pick(d, corev1.ProtocolTCP, corev1.ProtocolUDP, "")})
	}
	in := Input{Service: s}
	for i := range d(4) {
		in.Slices = append(in.Slices, d.slice(fmt.Sprint("web-", i), isHostile))
	}
	if isHostile {
		d.spoil(s)
	}
	return in
}

// words are what hostile objects have in place of addresses, names, prefixes and values.
var words = []string{"", "x", " ", "0.0.0.0", "::", "10.0.0.1", "127.0.0.1", "fe80::1%1", "10.0.0.0/8", "::/0", "0.0.0.0/0", "None", "\x00", strings.Repeat("n", 300),
	"1", "-1", "lc", "off", "5s", "true", "drop", "close", "10,5s", "http:/x", "10.96.0.1", "192.168.0.1", "203.0.113.1", "10/s", "v2", "v1", "closed", "reset,5s", "5s,quiesced=leave"}

// spoil makes a Service one that no API server would accept.
func (d dice) spoil(s *corev1.Service) {
	word := func() string { return pick(d, words...) }
	list := func() (all []string) {
		for range d(4) {
			all = append(all, word())
		}
		return all
	}
	s.Namespace, s.Name = pick(d, s.Namespace, word()), pick(d, s.Name, word())
	s.Spec.ClusterIP, s.Spec.ClusterIPs = pick(d, "", word()), pick(d, s.Spec.ClusterIPs, list())
	s.Spec.Type = pick(d, s.Spec.Type, corev1.ServiceTypeExternalName, corev1.ServiceType(word()))
	s.Spec.ExternalIPs, s.Spec.LoadBalancerSourceRanges = list(), list()
	s.Spec.HealthCheckNodePort = pick[int32](d, 0, -1, 1, 1<<30)
	s.Labels = pick(d, nil, map[string]string{labelServiceProxyName: word()})
	s.Spec.SessionAffinityConfig = &corev1.SessionAffinityConfig{ClientIP: some(d, corev1.ClientIPConfig{TimeoutSeconds: some[int32](d, -1, 0, 1, 1<<30)})}
	s.Status.LoadBalancer.Ingress = append(s.Status.LoadBalancer.Ingress, corev1.LoadBalancerIngress{IP: word(), IPMode: some(d, corev1.LoadBalancerIPMode(word()))})
	s.Annotations = map[string]string{corev1.AnnotationLoadBalancerSourceRangesKey: strings.Join(list(), ",")}
	for range d(4) {
		names := []string{"scheduler", "allow", "deny", "wait", "queue", "max", "eject", "persist", "health", "fail", "on-empty", "on-deny", "on-down",
			"ops", "slow-start", "idle-timeout", "reclaim-idle", "accept-proxy", "accept-proxy-only", "send-proxy", "rate", "agent", word()}
		s.Annotations[AnnotationPrefix+pick(d, names...)] = word()
	}
	for range d(3) {
		s.Spec.Ports = append(s.Spec.Ports, corev1.ServicePort{Name: word(), Port: pick[int32](d, -1, 0, 80, 81, 30080, 1<<20),
			NodePort: pick[int32](d, -1, 80, 30080, 1<<20), Protocol: pick(d, corev1.ProtocolTCP, corev1.ProtocolSCTP, corev1.Protocol(word()))})
	}
}

// slice returns a slice of endpoints 10.0.0.0-3 or fd00:10::0-3.
func (d dice) slice(name string, isHostile bool) *discoveryv1.EndpointSlice {
	s := &discoveryv1.EndpointSlice{AddressType: pick(d, discoveryv1.AddressTypeIPv4, discoveryv1.AddressTypeIPv6, discoveryv1.AddressTypeFQDN)}
	s.Name = name
	for range d(3) {
		s.Ports = append(s.Ports, discoveryv1.EndpointPort{Name: some(d, "a", "b"), Port: some[int32](d, 0, 8080, 8081),
			Protocol: some(d, corev1.ProtocolTCP, corev1.ProtocolUDP)})
	}
	for range d(6) {
		ip := fmt.Sprint("10.0.0.", 1+d(3))
		if s.AddressType == discoveryv1.AddressTypeIPv6 {
			ip = fmt.Sprint("fd00:10::", 1+d(3))
		}
		e := discoveryv1.Endpoint{Addresses: []string{ip, "10.0.0.9"}, NodeName: some(d, "a", "b")}
		e.Conditions = discoveryv1.EndpointConditions{Ready: some(d, true, false), Serving: some(d, true, false), Terminating: some(d, true, false)}
		e.Hints = some(d, discoveryv1.EndpointHints{ForZones: pick(d, nil, []discoveryv1.ForZone{{Name: "z1"}}, []discoveryv1.ForZone{{Name: "z2"}}),
			ForNodes: pick(d, nil, []discoveryv1.ForNode{{Name: "a"}}, []discoveryv1.ForNode{{Name: "b"}})})
		if isHostile {
			e.Addresses, e.Hostname = []string{pick(d, ip, pick(d, words...))}[:d(2)], some(d, words...)
			s.Ports = append(s.Ports, discoveryv1.EndpointPort{Name: some(d, words...), Port: some[int32](d, -1, 80, 1<<20)})
		}
		s.Endpoints = append(s.Endpoints, e)
	}
	return s
}

// checkResult holds what every result keeps to, whatever the objects are.
func checkResult(t *testing.T, in Input, env *Env) {
	r := Plan(in, env)
	names := make(map[string]bool)
	for _, s := range r.Services {
		if _, err := s.Completed(); err != nil {
			t.Fatal(err)
		}
		if names[s.Name] {
			t.Fatalf("two services %s", s.Name)
		}
		names[s.Name] = true
	}
	if len(r.Problems) > maxProblems+1 {
		t.Fatalf("%d problems", len(r.Problems))
	}
	other := Input{in.Service, slices.Clone(in.Slices)}
	slices.Reverse(other.Slices)
	if again := Plan(other, env); !reflect.DeepEqual(r, again) {
		t.Fatalf("%+v, and in another order of slices %+v", r, again)
	}
}

// FuzzPlan holds that hostile objects lead to problems and to services that are right.
func FuzzPlan(f *testing.F) {
	for i := range 8 {
		seed := make([]byte, 512)
		for j := range seed {
			seed[j] = byte(rand.New(rand.NewPCG(uint64(i), uint64(j))).Uint32())
		}
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		checkHostile(t, func(n int) int {
			if len(data) == 0 {
				return 0
			}
			b := data[0]
			data = data[1:]
			return int(b) % n
		})
	})
}

// TestHostileObjects is FuzzPlan with the same random objects each time.
func TestHostileObjects(t *testing.T) {
	t.Parallel()
	random := rand.New(rand.NewPCG(3, 4))
	for range 500 {
		checkHostile(t, random.IntN)
	}
}

func checkHostile(t *testing.T, roll dice) {
	env := environment()
	env.ExternalIPs, env.LoopbackEndpoints = roll(2) == 0, roll(2) == 0
	env.NodePorts = pick(roll, env.NodePorts, unspecified)
	env.Options = pick(roll, nil, []Option{{"wait", "5s"}, {"ops", "true"}, {"slow-start", "5s"}})
	checkResult(t, roll.input(true), env)
}

// TestAgainstOracle holds that each service has exactly the endpoints that the rules of section 4.3 choose, read one by one.
func TestAgainstOracle(t *testing.T) {
	t.Parallel()
	random := rand.New(rand.NewPCG(1, 2))
	roll := dice(random.IntN)
	for range 500 {
		in, env := roll.input(false), environment()
		env.ExternalIPs = true
		checkResult(t, in, env)
		for _, s := range Plan(in, env).Services {
			got := make(map[netip.AddrPort]int)
			for _, b := range s.Backends {
				got[netip.AddrPortFrom(b.Addr.IP, b.Addr.Port)] = b.Weight
			}
			if want := oracle(in, s.Name, s.Network(), s.Listeners[0].IP.Is6()); !maps.Equal(got, want) {
				t.Fatalf("%s: %v, want %v", s.Name, got, want)
			}
		}
	}
}

// view is what all slices together say about an endpoint.
type view struct{ ready, draining, local, nodeHint, zoneHint, thisNode, thisZone bool }

// oracle returns the endpoints of a service by its name, with their weights, on node a of zone z1.
func oracle(in Input, name, network string, isIPv6 bool) map[netip.AddrPort]int {
	port := strings.Split(name, ":")[1][:1]
	_, suffix, _ := strings.Cut(strings.TrimSuffix(name, "/ipv6"), ":"+port)
	isInternalLocal := valueOr(in.Service.Spec.InternalTrafficPolicy, "Cluster") == "Local"
	isExternalLocal := in.Service.Spec.ExternalTrafficPolicy == "Local"
	isLocal := map[string]bool{"": isInternalLocal, "/external": !isInternalLocal, "/loadbalancer": isExternalLocal, "/loadbalancer/node": false}[suffix]
	views := viewsOf(in, port, network, isIPv6)
	some := func(is func(view) bool) bool { return slices.ContainsFunc(slices.Collect(maps.Values(views)), is) }
	eachReady := func(is func(view) bool) bool { return !some(func(v view) bool { return v.ready && !is(v) }) }
	isHere := func(v view) bool { return !isLocal || v.local }
	isNear := func(v view) bool { return true }
	switch {
	case isLocal:
	case eachReady(func(v view) bool { return v.nodeHint }) && some(func(v view) bool { return v.ready && v.thisNode }):
		isNear = func(v view) bool { return v.thisNode }
	case eachReady(func(v view) bool { return v.zoneHint }) && some(func(v view) bool { return v.ready && v.thisZone }):
		isNear = func(v view) bool { return v.thisZone }
	}
	weights := make(map[netip.AddrPort]int)
	hasReady := some(func(v view) bool { return v.ready && isHere(v) })
	for at, v := range views {
		switch {
		case v.ready && isNear(v) && isHere(v), v.draining && isHere(v) && !hasReady:
			weights[at] = 1
		case v.draining && isHere(v):
			weights[at] = 0
		}
	}
	return weights
}

func viewsOf(in Input, port, network string, isIPv6 bool) map[netip.AddrPort]view {
	views := make(map[netip.AddrPort]view)
	byName := func(a, b *discoveryv1.EndpointSlice) int { return strings.Compare(a.Name, b.Name) }
	for _, s := range slices.SortedFunc(slices.Values(in.Slices), byName) {
		if s.AddressType == "FQDN" || (s.AddressType == "IPv6") != isIPv6 {
			continue
		}
		for _, p := range s.Ports {
			if valueOr(p.Name, "") != port || strings.ToLower(string(valueOr(p.Protocol, "TCP"))) != network || valueOr(p.Port, 0) == 0 {
				continue
			}
			for _, e := range s.Endpoints {
				at := netip.AddrPortFrom(netip.MustParseAddr(e.Addresses[0]), uint16(*p.Port))
				before, isThere := views[at]
				v := viewOf(e, in.Service.Spec.PublishNotReadyAddresses)
				isLocal := before.local || v.local
				if isThere && (before.ready || before.draining && !v.ready || !v.draining && !v.ready) {
					v = before
				}
				v.local = isLocal
				views[at] = v
			}
		}
	}
	return views
}

func viewOf(e discoveryv1.Endpoint, isPublished bool) view {
	v := view{ready: isPublished || e.Conditions.Ready == nil || *e.Conditions.Ready, local: valueOr(e.NodeName, "") == "a"}
	v.draining = !v.ready && (e.Conditions.Serving == nil || *e.Conditions.Serving) && e.Conditions.Terminating != nil && *e.Conditions.Terminating
	if h := e.Hints; h != nil {
		v.nodeHint, v.zoneHint = len(h.ForNodes) > 0, len(h.ForZones) > 0
		v.thisNode, v.thisZone = v.nodeHint && h.ForNodes[0].Name == "a", v.zoneHint && h.ForZones[0].Name == "z1"
	}
	return v
}

// BenchmarkPlan tells the cost of a plan by its endpoints, and that of options.
func BenchmarkPlan(b *testing.B) {
	for _, c := range []struct{ endpoints, options int }{{1, 0}, {10, 0}, {100, 0}, {1000, 0}, {10, 3}} {
		var words []string
		for i := range c.endpoints {
			words = append(words, fmt.Sprintf("10.1.%d.%d on=b zones=z1", i/250, i%250+1))
		}
		in, env := Input{service(b, clusterIP), web(words...)}, environment()
		env.Options = []Option{{"scheduler", "lc"}, {"max", "100"}, {"queue", "10,5s"}}[:c.options]
		b.Run(fmt.Sprintf("endpoints=%d/options=%d", c.endpoints, c.options), func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				Plan(in, env)
			}
		})
	}
}
