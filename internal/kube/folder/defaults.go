package folder

import (
	"net/netip"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/intstr"
)

// setDefaults sets what an API server would set (pkg/apis/core/v1/defaults.go, pkg/apis/discovery/v1/defaults.go), except
// for addresses and ports that it allocates. It returns what is missing and has no default.
func setDefaults(o runtime.Object) string {
	switch o := o.(type) {
	case *corev1.Service:
		setServiceDefaults(o)
	case *discoveryv1.EndpointSlice:
		return setSliceDefaults(o)
	}
	return ""
}

func setServiceDefaults(s *corev1.Service) {
	spec := &s.Spec
	setDefault(&spec.Type, corev1.ServiceTypeClusterIP)
	setDefault(&spec.SessionAffinity, corev1.ServiceAffinityNone)
	if spec.SessionAffinity == corev1.ServiceAffinityClientIP {
		setPointer(&spec.SessionAffinityConfig, corev1.SessionAffinityConfig{})
		setPointer(&spec.SessionAffinityConfig.ClientIP, corev1.ClientIPConfig{})
		setPointer(&spec.SessionAffinityConfig.ClientIP.TimeoutSeconds, corev1.DefaultClientIPServiceAffinitySeconds)
	} else {
		spec.SessionAffinityConfig = nil
	}
	for i := range spec.Ports {
		p := &spec.Ports[i]
		setDefault(&p.Protocol, corev1.ProtocolTCP)
		if p.TargetPort == intstr.FromInt32(0) || p.TargetPort == intstr.FromString("") {
			p.TargetPort = intstr.FromInt32(p.Port)
		}
	}
	if spec.Type == corev1.ServiceTypeNodePort || spec.Type == corev1.ServiceTypeLoadBalancer || len(spec.ExternalIPs) > 0 {
		setDefault(&spec.ExternalTrafficPolicy, corev1.ServiceExternalTrafficPolicyCluster)
	}
	if spec.Type != corev1.ServiceTypeExternalName {
		setPointer(&spec.InternalTrafficPolicy, corev1.ServiceInternalTrafficPolicyCluster)
	}
	if spec.Type == corev1.ServiceTypeLoadBalancer {
		setPointer(&spec.AllocateLoadBalancerNodePorts, true)
		for i := range s.Status.LoadBalancer.Ingress {
			if in := &s.Status.LoadBalancer.Ingress[i]; in.IP != "" {
				setPointer(&in.IPMode, corev1.LoadBalancerIPModeVIP)
			}
		}
	}
	switch {
	case len(spec.ClusterIPs) == 0 && spec.ClusterIP != "":
		spec.ClusterIPs = []string{spec.ClusterIP}
	case len(spec.ClusterIPs) > 0 && spec.ClusterIP == "":
		spec.ClusterIP = spec.ClusterIPs[0]
	}
	setFamilies(spec)
}

// setFamilies sets the families of a Service that gives its ClusterIPs, or says how many it wants.
func setFamilies(spec *corev1.ServiceSpec) {
	if spec.Type == corev1.ServiceTypeExternalName {
		return
	}
	wantsBoth := spec.IPFamilyPolicy != nil && *spec.IPFamilyPolicy != corev1.IPFamilyPolicySingleStack
	if len(spec.IPFamilies) == 0 {
		for _, text := range spec.ClusterIPs {
			if ip, err := netip.ParseAddr(text); err == nil {
				spec.IPFamilies = append(spec.IPFamilies, familyOf(ip))
			}
		}
	}
	isGiven := len(spec.ClusterIPs) > 0
	switch {
	case len(spec.IPFamilies) == 0 && isGiven && !wantsBoth: // headless: its endpoints tell
		return
	case len(spec.IPFamilies) == 0:
		spec.IPFamilies = []corev1.IPFamily{corev1.IPv4Protocol}
	}
	if wantsBoth && len(spec.IPFamilies) == 1 && (!isGiven || spec.ClusterIP == corev1.ClusterIPNone) {
		other := corev1.IPv6Protocol
		if spec.IPFamilies[0] == other {
			other = corev1.IPv4Protocol
		}
		spec.IPFamilies = append(spec.IPFamilies, other)
	}
	policy := corev1.IPFamilyPolicySingleStack
	if len(spec.IPFamilies) > 1 {
		policy = corev1.IPFamilyPolicyRequireDualStack
	}
	setPointer(&spec.IPFamilyPolicy, policy)
}

func setSliceDefaults(s *discoveryv1.EndpointSlice) string {
	for i := range s.Ports {
		setPointer(&s.Ports[i].Name, "")
		setPointer(&s.Ports[i].Protocol, corev1.ProtocolTCP)
	}
	if s.AddressType == "" { // an API server asks for it
		s.AddressType = discoveryv1.AddressTypeIPv4
		if len(s.Endpoints) > 0 && len(s.Endpoints[0].Addresses) > 0 {
			if ip, err := netip.ParseAddr(s.Endpoints[0].Addresses[0]); err == nil {
				s.AddressType = discoveryv1.AddressType(familyOf(ip))
			}
		}
	}
	if s.Labels[discoveryv1.LabelServiceName] != "" {
		return ""
	}
	owner := metav1.GetControllerOf(s)
	if owner == nil || owner.Kind != "Service" {
		return "it belongs to no Service: give it the label " + discoveryv1.LabelServiceName
	}
	if s.Labels == nil {
		s.Labels = make(map[string]string)
	}
	s.Labels[discoveryv1.LabelServiceName] = owner.Name
	return ""
}

func familyOf(ip netip.Addr) corev1.IPFamily {
	if ip.Is4() {
		return corev1.IPv4Protocol
	}
	return corev1.IPv6Protocol
}

// setDefault sets a field that is empty.
func setDefault[T comparable](field *T, value T) {
	if *field == *new(T) {
		*field = value
	}
}

// setPointer sets a field that is not given.
func setPointer[T any](field **T, value T) {
	if *field == nil {
		*field = &value
	}
}
