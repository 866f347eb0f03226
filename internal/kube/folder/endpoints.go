package folder

import (
	"fmt"
	"maps"
	"net/netip"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

const (
	managedBy = "endpointslicemirroring-controller.k8s.io"
	// leaderAnnotation marks Endpoints that elect a leader, and have no addresses.
	leaderAnnotation = "control-plane.alpha.kubernetes.io/leader"
)

// oldEndpoints are endpoints as manifests had them before there were slices.
//
//lint:ignore SA1019 old manifests have them
type oldEndpoints = corev1.Endpoints

// mirror turns Endpoints into EndpointSlices: one for each subset and family, as the mirroring controller of Kubernetes
// does (pkg/controller/endpointslicemirroring). The names of the slices are ones that no manifest can have.
func mirror(e *oldEndpoints) []*discoveryv1.EndpointSlice {
	if _, isLeader := e.Annotations[leaderAnnotation]; isLeader || e.Labels[discoveryv1.LabelSkipMirror] == "true" {
		return nil
	}
	var slices []*discoveryv1.EndpointSlice
	for i, subset := range e.Subsets {
		ports := mirrorPorts(subset.Ports)
		for _, family := range []corev1.IPFamily{corev1.IPv4Protocol, corev1.IPv6Protocol} {
			var endpoints []discoveryv1.Endpoint
			endpoints = appendEndpoints(endpoints, subset.Addresses, family, true)
			endpoints = appendEndpoints(endpoints, subset.NotReadyAddresses, family, false)
			if len(endpoints) == 0 {
				continue
			}
			labels := maps.Clone(e.Labels)
			if labels == nil {
				labels = make(map[string]string)
			}
			labels[discoveryv1.LabelServiceName], labels[discoveryv1.LabelManagedBy] = e.Name, managedBy
			slices = append(slices, &discoveryv1.EndpointSlice{
				ObjectMeta: metav1.ObjectMeta{
					Namespace: e.Namespace, Name: fmt.Sprintf("%s/%d/%s", e.Name, i, family),
					Labels: labels, Annotations: e.Annotations,
				},
				AddressType: discoveryv1.AddressType(family),
				Endpoints:   endpoints,
				Ports:       ports,
			})
		}
	}
	return slices
}

func mirrorPorts(from []corev1.EndpointPort) []discoveryv1.EndpointPort {
	ports := make([]discoveryv1.EndpointPort, len(from))
	for i, p := range from {
		setDefault(&p.Protocol, corev1.ProtocolTCP)
		ports[i] = discoveryv1.EndpointPort{Name: &p.Name, Port: &p.Port, Protocol: &p.Protocol, AppProtocol: p.AppProtocol}
	}
	return ports
}

// appendEndpoints adds the addresses of a family. What is no address is of the first family, so that the planner tells it.
func appendEndpoints(endpoints []discoveryv1.Endpoint, from []corev1.EndpointAddress, family corev1.IPFamily, isReady bool) []discoveryv1.Endpoint {
	for _, a := range from {
		ip, err := netip.ParseAddr(a.IP)
		if err != nil && family != corev1.IPv4Protocol || err == nil && familyOf(ip) != family {
			continue
		}
		e := discoveryv1.Endpoint{
			Addresses:  []string{a.IP},
			Conditions: discoveryv1.EndpointConditions{Ready: &isReady},
			NodeName:   a.NodeName,
			TargetRef:  a.TargetRef,
		}
		if a.Hostname != "" {
			e.Hostname = &a.Hostname
		}
		endpoints = append(endpoints, e)
	}
	return endpoints
}
