package main

import (
	"fmt"
	"net/netip"
	"strings"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/yaml"
)

// Ports of the study. Clients connect to kubePort of a ClusterIP; endpointPort is that of all endpoints.
const (
	kubePort     = 9000
	endpointPort = 8080
)

// clusterIPOf returns the ClusterIP of a Service, in 10.96.0.0/12.
func clusterIPOf(service int) netip.Addr { return addrAt(10<<24 + 96<<16 + 1 + service) }

// endpointAt returns an address of 10.128.0.0/9. No two have the same number.
func endpointAt(n int) netip.Addr { return addrAt(10<<24 + 128<<16 + 1 + n) }

func addrAt(n int) netip.Addr {
	return netip.AddrFrom4([4]byte{byte(n >> 24), byte(n >> 16), byte(n >> 8), byte(n)})
}

func kubeName(service int) string { return fmt.Sprintf("service-%05d", service) }

// endpointsOf returns the endpoints that a Service has at first.
func (c kubeConfig) endpointsOf(service int) []netip.Addr {
	all := make([]netip.Addr, c.endpoints)
	for i := range all {
		all[i] = endpointAt(service*c.endpoints + i)
	}
	return all
}

// kubeService returns a Service as a cluster has it.
func kubeService(i int) *corev1.Service {
	ip := clusterIPOf(i).String()
	family, policy := corev1.IPFamilyPolicySingleStack, corev1.ServiceInternalTrafficPolicyCluster
	return &corev1.Service{
		ObjectMeta: kubeMeta(kubeName(i), map[string]string{"app": kubeName(i), "app.kubernetes.io/managed-by": "Helm"}),
		Spec: corev1.ServiceSpec{
			Type: corev1.ServiceTypeClusterIP, ClusterIP: ip, ClusterIPs: []string{ip}, Selector: map[string]string{"app": kubeName(i)},
			IPFamilies: []corev1.IPFamily{corev1.IPv4Protocol}, IPFamilyPolicy: &family, InternalTrafficPolicy: &policy, SessionAffinity: corev1.ServiceAffinityNone,
			Ports: []corev1.ServicePort{{Name: "http", Protocol: corev1.ProtocolTCP, Port: kubePort}},
		},
	}
}

// kubeSlice returns the EndpointSlice of a Service, with all that a cluster writes into one.
func kubeSlice(service int, endpoints []netip.Addr) *discoveryv1.EndpointSlice {
	yes, no, name, port, tcp := true, false, "http", int32(endpointPort), corev1.ProtocolTCP
	s := &discoveryv1.EndpointSlice{
		ObjectMeta: kubeMeta(kubeName(service)+"-abcde", map[string]string{
			discoveryv1.LabelServiceName: kubeName(service), discoveryv1.LabelManagedBy: "endpointslice-controller.k8s.io", "app": kubeName(service),
		}),
		AddressType: discoveryv1.AddressTypeIPv4,
		Ports:       []discoveryv1.EndpointPort{{Name: &name, Port: &port, Protocol: &tcp}},
	}
	s.OwnerReferences = []metav1.OwnerReference{{APIVersion: "v1", Kind: "Service", Name: kubeName(service), UID: uidOf(kubeName(service)), Controller: &yes, BlockOwnerDeletion: &yes}}
	for i, e := range endpoints {
		node, pod := fmt.Sprintf("node-%03d", i), fmt.Sprintf("%s-%s", kubeName(service), strings.ReplaceAll(e.String(), ".", "-"))
		s.Endpoints = append(s.Endpoints, discoveryv1.Endpoint{
			Addresses: []string{e.String()}, Conditions: discoveryv1.EndpointConditions{Ready: &yes, Serving: &yes, Terminating: &no},
			NodeName: &node, TargetRef: &corev1.ObjectReference{Kind: "Pod", Namespace: "default", Name: pod, UID: uidOf(pod)},
		})
	}
	return s
}

func kubeMeta(name string, labels map[string]string) metav1.ObjectMeta {
	return metav1.ObjectMeta{
		Namespace: "default", Name: name, UID: uidOf(name), Labels: labels,
		ManagedFields: []metav1.ManagedFieldsEntry{{
			Manager: "kube-controller-manager", Operation: metav1.ManagedFieldsOperationUpdate, FieldsType: "FieldsV1",
			FieldsV1: metav1.NewFieldsV1(`{"f:metadata":{"f:labels":{".":{},"f:app":{}}},"f:spec":{"f:ports":{},"f:selector":{}}}`),
		}},
	}
}

func uidOf(name string) types.UID { return types.UID(fmt.Sprintf("uid-of-%s", name)) }

// kubeManifest returns a Service and its EndpointSlice as somebody writes them down.
func kubeManifest(service int, endpoints []netip.Addr) ([]byte, error) {
	s, e := kubeService(service), kubeSlice(service, endpoints)
	s.TypeMeta = metav1.TypeMeta{APIVersion: "v1", Kind: "Service"}
	e.TypeMeta = metav1.TypeMeta{APIVersion: "discovery.k8s.io/v1", Kind: "EndpointSlice"}
	s.ManagedFields, e.ManagedFields, e.OwnerReferences = nil, nil, nil
	for i := range e.Endpoints {
		e.Endpoints[i].TargetRef = nil
	}
	first, err := yaml.Marshal(s)
	if err != nil {
		return nil, err
	}
	second, err := yaml.Marshal(e)
	return append(append(first, "---\n"...), second...), err
}
