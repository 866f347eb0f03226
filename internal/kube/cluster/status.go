package cluster

import (
	"context"
	"encoding/json"
	"fmt"
	"net/netip"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"

	"usher/internal/kube/planner"
)

// SetLoadBalancer writes the addresses of a Service of type LoadBalancer into its status, unless they are there. No
// addresses clear the status. The Store of Run must have the Service.
func (c *Cluster) SetLoadBalancer(ctx context.Context, key planner.Key, ips []netip.Addr) error {
	var service *corev1.Service
	if store := c.store.Load(); store != nil {
		service = store.Service(key)
	}
	if service == nil {
		return fmt.Errorf("status of service %s: there is no such service", key)
	}
	if hasIngress(service, ips) {
		return nil
	}
	vip := corev1.LoadBalancerIPModeVIP
	ingress := make([]corev1.LoadBalancerIngress, len(ips))
	for i, ip := range ips {
		ingress[i] = corev1.LoadBalancerIngress{IP: ip.String(), IPMode: &vip}
	}
	patch, err := json.Marshal(map[string]any{"status": map[string]any{"loadBalancer": map[string]any{"ingress": ingress}}})
	if err != nil {
		return fmt.Errorf("status of service %s: %w", key, err)
	}
	err = c.core.Patch(types.MergePatchType).Namespace(key.Namespace).Resource("services").Name(key.Name).SubResource("status").
		Body(patch).Do(quiet(ctx)).Error()
	if err != nil {
		return fmt.Errorf("status of service %s: %w", key, err)
	}
	return nil
}

// hasIngress reports whether the status of a Service has these addresses, and no others.
func hasIngress(o *corev1.Service, ips []netip.Addr) bool {
	have := o.Status.LoadBalancer.Ingress
	if len(have) != len(ips) {
		return false
	}
	for i, h := range have {
		if h.IP != ips[i].String() || h.Hostname != "" || h.IPMode != nil && *h.IPMode != corev1.LoadBalancerIPModeVIP {
			return false
		}
	}
	return true
}
