package cluster

import (
	"maps"
	"strings"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// What is never read is dropped before an object is stored. At 50,000 endpoints it is a third of the memory.

// readPrefixes begin the labels and annotations that something reads.
var readPrefixes = [...]string{
	"usher.dev/", "service.kubernetes.io/", "service.beta.kubernetes.io/", "kubernetes.io/", "endpoints.kubernetes.io/",
	"endpointslice.kubernetes.io/", "topology.kubernetes.io/", "node.kubernetes.io/",
}

func trimService(o *corev1.Service) { trimMeta(&o.ObjectMeta) }

func trimSlice(o *discoveryv1.EndpointSlice) {
	trimMeta(&o.ObjectMeta)
	for i := range o.Endpoints {
		o.Endpoints[i].TargetRef = nil
		o.Endpoints[i].DeprecatedTopology = nil
	}
}

func trimNode(o *corev1.Node) {
	trimMeta(&o.ObjectMeta)
	o.Spec = corev1.NodeSpec{PodCIDR: o.Spec.PodCIDR, PodCIDRs: o.Spec.PodCIDRs, Taints: o.Spec.Taints}
	o.Status = corev1.NodeStatus{Addresses: o.Status.Addresses}
}

func trimMeta(m *metav1.ObjectMeta) {
	m.ManagedFields = nil
	m.OwnerReferences = nil
	m.Finalizers = nil
	m.GenerateName = ""
	m.Labels = trimWords(m.Labels)
	m.Annotations = trimWords(m.Annotations)
}

// trimWords drops the labels or annotations that nothing reads.
func trimWords(words map[string]string) map[string]string {
	maps.DeleteFunc(words, func(name, _ string) bool { return !isRead(name) })
	if len(words) == 0 {
		return nil
	}
	return words
}

func isRead(name string) bool {
	for _, p := range readPrefixes {
		if strings.HasPrefix(name, p) {
			return true
		}
	}
	return false
}
