package cluster

import (
	"net/netip"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/watch"

	"usher/internal/kube/planner"
)

func TestSetLoadBalancer(t *testing.T) {
	t.Parallel()
	vip, proxy := corev1.LoadBalancerIPModeVIP, corev1.LoadBalancerIPModeProxy
	ip := netip.MustParseAddr
	for _, c := range []struct {
		name string
		have []corev1.LoadBalancerIngress
		set  []netip.Addr
		want string // the patch
	}{
		{"first", nil, []netip.Addr{ip("127.10.0.1"), ip("fd00::1")},
			`{"status":{"loadBalancer":{"ingress":[{"ip":"127.10.0.1","ipMode":"VIP"},{"ip":"fd00::1","ipMode":"VIP"}]}}}`},
		{"the same", []corev1.LoadBalancerIngress{{IP: "127.10.0.1", IPMode: &vip}}, []netip.Addr{ip("127.10.0.1")}, ""},
		{"the default mode", []corev1.LoadBalancerIngress{{IP: "127.10.0.1"}}, []netip.Addr{ip("127.10.0.1")}, ""},
		{"another mode", []corev1.LoadBalancerIngress{{IP: "127.10.0.1", IPMode: &proxy}}, []netip.Addr{ip("127.10.0.1")},
			`{"status":{"loadBalancer":{"ingress":[{"ip":"127.10.0.1","ipMode":"VIP"}]}}}`},
		{"none", []corev1.LoadBalancerIngress{{Hostname: "lb"}}, nil, `{"status":{"loadBalancer":{"ingress":[]}}}`},
		{"still none", nil, nil, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				a := service("a:1")
				a.Status.LoadBalancer.Ingress = c.have
				s := newServer(t, runtime.ContentTypeProtobuf, answer(&corev1.ServiceList{Items: []corev1.Service{*a}}))
				r := follow(t, s, "")
				time.Sleep(time.Minute)
				s.take(&s.other)
				if err := r.cluster.SetLoadBalancer(t.Context(), planner.Key{Namespace: "ns", Name: "a"}, c.set); err != nil {
					t.Error(err)
				}
				var want []string
				if c.want != "" {
					want = []string{"PATCH /api/v1/namespaces/ns/services/a/status " + c.want}
				}
				check(t, "requests", want, s.take(&s.other))
				if err := r.cluster.SetLoadBalancer(t.Context(), planner.Key{Namespace: "ns", Name: "b"}, nil); err == nil {
					t.Error("a Service that is not there: no error")
				}
				r.end()
			})
		})
	}
}

// A client that may not read Nodes serves without them.
func TestNodes(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := newServer(t, runtime.ContentTypeJSON, list("1"))
		s.node = status(403, metav1.StatusReasonForbidden)
		r := follow(t, s, "n1")
		time.Sleep(time.Minute)
		r.end()
		check(t, "log", []string{"warn API server does not let usher read nodes: apply the ClusterRole of usher kube --print-manifests; usher waits"}, lines(r.log))
		if all, want := s.take(&s.other), "GET /api/v1/nodes metadata.name=n1"; !slices.Contains(all, want) {
			t.Errorf("no %s in %q", want, all)
		}
	})
	synctest.Test(t, func(t *testing.T) {
		n := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "n1", ResourceVersion: "1", Labels: map[string]string{corev1.LabelTopologyZone: "z", "pool": "p"}}}
		n.Status.Images = make([]corev1.ContainerImage, 3)
		n.Status.Addresses = []corev1.NodeAddress{{Type: corev1.NodeInternalIP, Address: "192.0.2.1"}}
		s := newServer(t, runtime.ContentTypeProtobuf, list("1"))
		s.node = answer(&corev1.NodeList{Items: []corev1.Node{*n}})
		later := n.DeepCopy()
		later.ResourceVersion = "2"
		later.Status.Images = nil
		s.nodeWatch = events(event{kind: watch.Modified, object: later})
		r := follow(t, s, "")
		time.Sleep(time.Minute)
		r.end()
		held := r.store.Node("n1")
		if held == nil || held.Status.Images != nil || len(held.Labels) != 1 || len(held.Status.Addresses) != 1 || held.ResourceVersion != "1" {
			t.Errorf("Node is %+v; the status of the kubelet is not stored, and makes no change", held)
		}
	})
}
