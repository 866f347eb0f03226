package planner

import (
	"fmt"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
)

// TestSizeIsBounded: objects that are small ask for more than a machine has room for. What fits is served, in the order of
// ports, and the rest is said.
func TestSizeIsBounded(t *testing.T) {
	t.Parallel()
	const number = 300 // of ports
	s := service(t, "{type: LoadBalancer, clusterIP: 10.96.0.1}")
	s.Status.LoadBalancer.Ingress = ingress("203.0.113.1")
	endpoints := &discoveryv1.EndpointSlice{AddressType: discoveryv1.AddressTypeIPv4}
	for i := range number {
		name, port := fmt.Sprint("p", i), int32(1+i)
		s.Spec.Ports = append(s.Spec.Ports, corev1.ServicePort{Name: name, Port: port})
		endpoints.Ports = append(endpoints.Ports, discoveryv1.EndpointPort{Name: &name, Port: &port})
	}
	for i := range 1000 {
		endpoints.Endpoints = append(endpoints.Endpoints, discoveryv1.Endpoint{Addresses: []string{fmt.Sprintf("10.0.%d.%d", i/250, 1+i%250)}})
	}
	var ranges []string
	for i := range 1000 {
		ranges = append(ranges, fmt.Sprintf("10.%d.%d.0/24", i/250, i%250))
	}
	for name, c := range map[string]struct {
		change func(*corev1.Service, *discoveryv1.EndpointSlice)
		isAll  bool
	}{
		"endpoints":          {change: func(*corev1.Service, *discoveryv1.EndpointSlice) {}},
		"none that is ready": {change: func(_ *corev1.Service, e *discoveryv1.EndpointSlice) { notReady(e) }},
		"few endpoints":      {change: func(_ *corev1.Service, e *discoveryv1.EndpointSlice) { e.Endpoints = e.Endpoints[:10] }, isAll: true},
		"source ranges": {change: func(s *corev1.Service, e *discoveryv1.EndpointSlice) {
			s.Spec.LoadBalancerSourceRanges, e.Endpoints = ranges, nil
		}},
		"an option":           {change: func(s *corev1.Service, e *discoveryv1.EndpointSlice) { s.Annotations, e.Endpoints = longOption(), nil }},
		"ports of a headless": {change: func(s *corev1.Service, _ *discoveryv1.EndpointSlice) { s.Spec.ClusterIP = corev1.ClusterIPNone }},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s, e := s.DeepCopy(), endpoints.DeepCopy()
			c.change(s, e)
			r := Plan(Input{Service: s, Slices: []*discoveryv1.EndpointSlice{e}}, environment())
			parts := 0
			for _, s := range r.Services {
				parts += len(s.Backends) + len(s.Access.Allow)
			}
			for _, e := range r.Record.Headless {
				parts += len(e.Ports)
			}
			if isAll := len(r.Problems) == 0; isAll != c.isAll || !isAll && r.Problems[0].Reason != tooLarge {
				t.Errorf("problems %v", r.Problems)
			}
			if parts > maxSize || len(r.Services)+len(r.Record.Headless) == 0 {
				t.Errorf("%d services, %d endpoints with names, %d parts of them", len(r.Services), len(r.Record.Headless), parts)
			}
		})
	}
}

func notReady(s *discoveryv1.EndpointSlice) {
	for i := range s.Endpoints {
		s.Endpoints[i].Conditions.Ready = new(bool)
	}
}

func longOption() map[string]string {
	return map[string]string{AnnotationPrefix + "health": "tcp:send=" + strings.Repeat("x", 60_000) + ",expect=y"}
}

// TestManyAnnotations: those that are read have an end.
func TestManyAnnotations(t *testing.T) {
	t.Parallel()
	s := service(t, clusterIP)
	s.Annotations = map[string]string{AnnotationPrefix + "scheduler": "lc"}
	for i := range maxAnnotations {
		s.Annotations[fmt.Sprintf("%saaa%04d", AnnotationPrefix, i)] = "x"
	}
	problems := Plan(Input{Service: s}, environment()).Problems
	if last := problems[len(problems)-1]; len(problems) != maxProblems+1 || last.Message != fmt.Sprintf("%d more problems of this Service", maxAnnotations+1-maxProblems) {
		t.Errorf("%d problems, the last is %v", len(problems), last)
	}
}
