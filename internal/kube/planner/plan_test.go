package planner

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/yaml"
)

// service reads a Service default/web whose spec is YAML.
func service(t testing.TB, spec string) *corev1.Service {
	t.Helper()
	s := &corev1.Service{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "web"}}
	if err := yaml.UnmarshalStrict([]byte(spec), &s.Spec); err != nil {
		t.Fatalf("%s: %v", spec, err)
	}
	return s
}

// slice reads an EndpointSlice: its ports are NAME=PORT[/PROTOCOL], separated by blanks, and each endpoint is an address and
// words: on=NODE, notready, unserving, terminating, hostname=NAME, zones=Z+Z, nodes=N+N.
func slice(name string, ports string, endpoints ...string) *discoveryv1.EndpointSlice {
	s := &discoveryv1.EndpointSlice{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: name}, AddressType: discoveryv1.AddressTypeIPv4}
	for word := range strings.FieldsSeq(ports) {
		word, protocol, _ := strings.Cut(word, "/")
		name, number, _ := strings.Cut(word, "=")
		p := discoveryv1.EndpointPort{Name: &name}
		if protocol != "" {
			p.Protocol = (*corev1.Protocol)(&protocol)
		}
		if number != "" {
			p.Port = new(int32)
			fmt.Sscan(number, p.Port)
		}
		s.Ports = append(s.Ports, p)
	}
	for _, e := range endpoints {
		s.Endpoints = append(s.Endpoints, readEndpoint(e))
		if strings.Contains(s.Endpoints[0].Addresses[0], ":") {
			s.AddressType = discoveryv1.AddressTypeIPv6
		}
	}
	return s
}

func readEndpoint(text string) discoveryv1.Endpoint {
	words := strings.Fields(text)
	if len(words) == 0 {
		return discoveryv1.Endpoint{}
	}
	e := discoveryv1.Endpoint{Addresses: strings.Split(words[0], "+")}
	yes, no := true, false
	hints := &discoveryv1.EndpointHints{}
	for _, word := range words[1:] {
		name, value, _ := strings.Cut(word, "=")
		switch name {
		case "on":
			e.NodeName = &value
		case "hostname":
			e.Hostname = &value
		case "notready":
			e.Conditions.Ready = &no
		case "unserving":
			e.Conditions.Serving = &no
		case "terminating":
			e.Conditions.Ready, e.Conditions.Terminating = &no, &yes
		case "zones":
			e.Hints = hints
			for z := range strings.SplitSeq(value, "+") {
				hints.ForZones = append(hints.ForZones, discoveryv1.ForZone{Name: z})
			}
		case "nodes":
			e.Hints = hints
			for n := range strings.SplitSeq(value, "+") {
				hints.ForNodes = append(hints.ForNodes, discoveryv1.ForNode{Name: n})
			}
		default:
			panic("unknown word " + word)
		}
	}
	return e
}

// ingress reads the addresses of a load balancer.
func ingress(words string) (all []corev1.LoadBalancerIngress) {
	for word := range strings.FieldsSeq(words) {
		ip, isProxy := strings.CutPrefix(word, "proxy:")
		in := corev1.LoadBalancerIngress{IP: ip}
		if isProxy {
			in.IPMode = new(corev1.LoadBalancerIPMode)
			*in.IPMode = corev1.LoadBalancerIPModeProxy
		}
		all = append(all, in, corev1.LoadBalancerIngress{Hostname: "example.com"})
	}
	return all
}

// environment is that of node a in zone z1.
func environment() *Env {
	return &Env{
		Node: Node{Name: "a", Zone: "z1", Local: []netip.Prefix{
			netip.MustParsePrefix("192.168.0.1/32"), netip.MustParsePrefix("10.244.1.0/24"), netip.MustParsePrefix("fd00::1/128"),
			netip.MustParsePrefix("fe80::1/128"),
		}},
		NodePorts: []netip.Addr{netip.MustParseAddr("192.168.0.1"), netip.MustParseAddr("fd00::1")},
	}
}

// own are the clients of node a, and own6 its IPv6 ones, as far as they connect to its own address.
const (
	own  = ",from=10.244.1.0/24+127.0.0.0/8+192.168.0.1/32"
	own6 = ",from=::1/128+fd00::1/128"
)

// show writes the services of a result, a line each: NAME: LISTENER... > BACKEND... OPTION=VALUE... Listeners for the
// clients of this node end in ,own.
func show(r Result) []string {
	var lines []string
	for _, s := range r.Services {
		words := []string{s.Name + ":"}
		for _, l := range s.Listeners {
			words = append(words, strings.TrimPrefix(l.String(), "udp://"))
		}
		words = append(words, ">")
		for _, b := range s.Backends {
			words = append(words, strings.TrimPrefix(b.String(), "udp://"))
		}
		usual := newService(s.Name, s.Network())
		usual.Scheduler.Name = "rr"
		for _, f := range s.Diff(usual) {
			if f != "listen" && f != "backend" && f != "virtual" {
				words = append(words, string(f)+"="+s.Text(f))
			}
		}
		line := strings.Join(words, " ")
		line = strings.NewReplacer(own, ",own", own6, ",own").Replace(line)
		lines = append(lines, line)
	}
	return lines
}
