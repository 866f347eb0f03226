package folder

import (
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	"sigs.k8s.io/yaml"
)

// TestServiceDefaults: the spec of a manifest, and what it lacks, as an API server sets it.
func TestServiceDefaults(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct{ spec, want string }{
		"plain": {"ports: [{port: 80}]", `{type: ClusterIP, sessionAffinity: None, internalTrafficPolicy: Cluster, ipFamilies: [IPv4], ipFamilyPolicy: SingleStack,
			ports: [{port: 80, protocol: TCP, targetPort: 80}]}`},
		"given": {"{type: ClusterIP, clusterIP: 'fd00::1', internalTrafficPolicy: Local, ports: [{port: 53, protocol: UDP, targetPort: dns}]}",
			`{type: ClusterIP, clusterIP: 'fd00::1', clusterIPs: ['fd00::1'], sessionAffinity: None, internalTrafficPolicy: Local, ipFamilies: [IPv6],
			ipFamilyPolicy: SingleStack, ports: [{port: 53, protocol: UDP, targetPort: dns}]}`},
		"two families": {"{clusterIPs: [10.0.0.1, 'fd00::1']}", `{type: ClusterIP, clusterIP: 10.0.0.1, clusterIPs: [10.0.0.1, 'fd00::1'], sessionAffinity: None,
			internalTrafficPolicy: Cluster, ipFamilies: [IPv4, IPv6], ipFamilyPolicy: RequireDualStack}`},
		"wants two families": {"{ipFamilyPolicy: PreferDualStack, ipFamilies: [IPv6]}", `{type: ClusterIP, sessionAffinity: None, internalTrafficPolicy: Cluster,
			ipFamilies: [IPv6, IPv4], ipFamilyPolicy: PreferDualStack}`},
		"affinity": {"sessionAffinity: ClientIP", `{type: ClusterIP, sessionAffinity: ClientIP, sessionAffinityConfig: {clientIP: {timeoutSeconds: 10800}},
			internalTrafficPolicy: Cluster, ipFamilies: [IPv4], ipFamilyPolicy: SingleStack}`},
		"NodePort": {"type: NodePort", `{type: NodePort, sessionAffinity: None, internalTrafficPolicy: Cluster, externalTrafficPolicy: Cluster, ipFamilies: [IPv4],
			ipFamilyPolicy: SingleStack}`},
		"LoadBalancer": {"type: LoadBalancer", `{type: LoadBalancer, sessionAffinity: None, internalTrafficPolicy: Cluster, externalTrafficPolicy: Cluster,
			allocateLoadBalancerNodePorts: true, ipFamilies: [IPv4], ipFamilyPolicy: SingleStack}`},
		"headless":     {"clusterIP: None", `{type: ClusterIP, clusterIP: None, clusterIPs: [None], sessionAffinity: None, internalTrafficPolicy: Cluster}`},
		"ExternalName": {"{type: ExternalName, externalName: example.com}", `{type: ExternalName, externalName: example.com, sessionAffinity: None}`},
	} {
		var got, want corev1.Service
		unmarshal(t, test.spec, &got.Spec)
		unmarshal(t, test.want, &want.Spec)
		setDefaults(&got)
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s:\n%s", name, diff)
		}
		again := got.DeepCopy()
		if setDefaults(again); !cmp.Equal(again, &got) {
			t.Errorf("%s: defaults of defaults differ", name)
		}
	}
}

func TestSliceDefaults(t *testing.T) {
	t.Parallel()
	var got, want discoveryv1.EndpointSlice
	unmarshal(t, "{metadata: {name: a, ownerReferences: [{kind: Service, name: web, controller: true}]}, endpoints: [{addresses: ['fd00::1']}], ports: [{port: 80}]}", &got)
	want = *got.DeepCopy()
	unmarshal(t, "{metadata: {labels: {kubernetes.io/service-name: web}}, addressType: IPv6, ports: [{name: '', port: 80, protocol: TCP}]}", &want)
	if missing := setDefaults(&got); missing != "" || !cmp.Equal(want, got) {
		t.Errorf("%s\n%s", missing, cmp.Diff(want, got))
	}
}

// TestMirror: the slices of Endpoints.
func TestMirror(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct{ endpoints, want string }{
		"no subsets":  {"metadata: {name: web}", "[]"},
		"not wanted":  {"{metadata: {name: web, labels: {endpointslice.kubernetes.io/skip-mirror: 'true'}}, subsets: [{addresses: [{ip: 10.0.0.1}]}]}", "[]"},
		"of a leader": {"{metadata: {name: web, annotations: {control-plane.alpha.kubernetes.io/leader: x}}, subsets: [{addresses: [{ip: 10.0.0.1}]}]}", "[]"},
		"families and subsets": {`{metadata: {name: web, namespace: prod, labels: {app: x}}, subsets: [
			{addresses: [{ip: 10.0.0.1, nodeName: n1, hostname: h}, {ip: 'fd00::1'}], notReadyAddresses: [{ip: 10.0.0.2}], ports: [{name: http, port: 80}, {name: dns, port: 53, protocol: UDP}]},
			{notReadyAddresses: [{ip: nonsense}], ports: [{port: 81}]}]}`, `
			- {metadata: {name: web/0/IPv4, namespace: prod, labels: {app: x, kubernetes.io/service-name: web, endpointslice.kubernetes.io/managed-by: endpointslicemirroring-controller.k8s.io}}, addressType: IPv4,
			   endpoints: [{addresses: [10.0.0.1], conditions: {ready: true}, nodeName: n1, hostname: h}, {addresses: [10.0.0.2], conditions: {ready: false}}],
			   ports: [{name: http, port: 80, protocol: TCP}, {name: dns, port: 53, protocol: UDP}]}
			- {metadata: {name: web/0/IPv6, namespace: prod, labels: {app: x, kubernetes.io/service-name: web, endpointslice.kubernetes.io/managed-by: endpointslicemirroring-controller.k8s.io}}, addressType: IPv6,
			   endpoints: [{addresses: ['fd00::1'], conditions: {ready: true}}], ports: [{name: http, port: 80, protocol: TCP}, {name: dns, port: 53, protocol: UDP}]}
			- {metadata: {name: web/1/IPv4, namespace: prod, labels: {app: x, kubernetes.io/service-name: web, endpointslice.kubernetes.io/managed-by: endpointslicemirroring-controller.k8s.io}}, addressType: IPv4,
			   endpoints: [{addresses: [nonsense], conditions: {ready: false}}], ports: [{name: '', port: 81, protocol: TCP}]}`},
	} {
		var endpoints oldEndpoints
		var want []*discoveryv1.EndpointSlice
		unmarshal(t, test.endpoints, &endpoints)
		unmarshal(t, test.want, &want)
		got := mirror(&endpoints)
		if len(got)+len(want) > 0 && !cmp.Equal(want, got) {
			t.Errorf("%s:\n%s", name, cmp.Diff(want, got))
		}
	}
}

func unmarshal(t *testing.T, text string, into any) {
	t.Helper()
	for i := range len(text) {
		if text[i] == '\t' { // the indentation of a table is none of the YAML's
			text = text[:i] + " " + text[i+1:]
		}
	}
	if err := yaml.Unmarshal([]byte(text), into); err != nil {
		t.Fatal(err)
	}
}
