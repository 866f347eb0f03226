//go:build kube

package kube

import (
	"context"
	"fmt"
	"net/netip"
	"os"
	"slices"
	"testing"
	"time"

	"go.uber.org/zap"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/runtime/serializer"
	utilnet "k8s.io/apimachinery/pkg/util/net"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"

	"usher/internal/control"
)

// real is the API server that KUBECONFIG names, a namespace of its own there, and what usher kube serves of it.
type real struct {
	clients   map[string]rest.Interface // by resource
	namespace string
	cidr      netip.Addr // the ClusterIP of the Service kubernetes, whose neighbours are free
	control   *control.Controller
	t         testing.TB
}

// openReal runs usher kube until the test ends. It skips the test where there is no API server.
func openReal(t testing.TB) *real {
	t.Helper()
	file := os.Getenv("KUBECONFIG")
	restConfig, err := clientcmd.BuildConfigFromFlags("", file)
	if file == "" || err != nil {
		t.Skip("KUBECONFIG: ", err)
	}
	r := &real{clients: make(map[string]rest.Interface), namespace: fmt.Sprint("usher-test-", time.Now().UnixNano()), t: t}
	for resource, group := range map[string]schema.GroupVersion{
		"namespaces": corev1.SchemeGroupVersion, "services": corev1.SchemeGroupVersion, "endpointslices": discoveryv1.SchemeGroupVersion,
	} {
		r.clients[resource] = clientOf(t, restConfig, group)
	}
	namespace := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: r.namespace}}
	if err := r.clients["namespaces"].Post().Resource("namespaces").Body(namespace).Do(t.Context()).Error(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = r.clients["namespaces"].Delete().Resource("namespaces").Name(r.namespace).Do(context.Background()).Error()
	})
	var first corev1.Service
	if err := r.clients["services"].Get().Namespace("default").Resource("services").Name("kubernetes").Do(t.Context()).Into(&first); err != nil {
		t.Fatal(err)
	}
	r.cidr = netip.MustParseAddr(first.Spec.ClusterIP)
	r.control = runKube(t, zap.NewNop(), map[string]string{
		"kubeconfig": file, "cluster-ips": "loopback", "healthz-bind-address": off, "metrics-bind-address": off,
	})
	return r
}

func clientOf(t testing.TB, c *rest.Config, group schema.GroupVersion) rest.Interface {
	t.Helper()
	scheme := runtime.NewScheme()
	metav1.AddToGroupVersion(scheme, group)
	for _, add := range []func(*runtime.Scheme) error{corev1.AddToScheme, discoveryv1.AddToScheme} {
		if err := add(scheme); err != nil {
			t.Fatal(err)
		}
	}
	c = rest.CopyConfig(c)
	c.GroupVersion, c.APIPath, c.QPS = &group, "/apis", -1
	if group.Group == "" {
		c.APIPath = "/api"
	}
	c.NegotiatedSerializer = serializer.NewCodecFactory(scheme).WithoutConversion()
	client, err := rest.RESTClientFor(c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { utilnet.CloseIdleConnectionsFor(client.Client.Transport) })
	return client
}

// place returns the client of an object, its resource, and a copy in the namespace of the test.
func (r *real) place(o metav1.Object) (rest.Interface, string, runtime.Object, metav1.Object) {
	switch o := o.(type) {
	case *corev1.Service:
		o = o.DeepCopy()
		o.Namespace = r.namespace
		return r.clients["services"], "services", o, o
	case *discoveryv1.EndpointSlice:
		o = o.DeepCopy()
		o.Namespace = r.namespace
		return r.clients["endpointslices"], "endpointslices", o, o
	}
	panic("of another kind")
}

func (r *real) set(t testing.TB, all ...metav1.Object) {
	t.Helper()
	for _, o := range all {
		client, resource, body, meta := r.place(o)
		err := client.Post().Namespace(r.namespace).Resource(resource).Body(body).Do(t.Context()).Error()
		if apierrors.IsAlreadyExists(err) {
			err = client.Put().Namespace(r.namespace).Resource(resource).Name(meta.GetName()).Body(body).Do(t.Context()).Error()
		} else if err == nil {
			t.Cleanup(func() {
				_ = client.Delete().Namespace(r.namespace).Resource(resource).Name(meta.GetName()).Do(context.Background()).Error()
			})
		}
		if err != nil {
			t.Fatal(err)
		}
	}
}

func (r *real) remove(t testing.TB, all ...metav1.Object) {
	t.Helper()
	for _, o := range all {
		client, resource, _, meta := r.place(o)
		if err := client.Delete().Namespace(r.namespace).Resource(resource).Name(meta.GetName()).Do(t.Context()).Error(); err != nil {
			t.Fatal(err)
		}
	}
}

func (r *real) host() string { return liveHost(r.t) }

func (r *real) clusterIP() string {
	a, b := r.cidr.As4(), netip.MustParseAddr(anyClusterIP()).As4()
	return netip.AddrFrom4([4]byte{a[0], a[1], b[2], b[3]}).String()
}

func (r *real) controller() *control.Controller { return r.control }

// TestReal runs the cases on a real API server.
func TestReal(t *testing.T) {
	all := defects()
	all["a rolling update"] = rollingUpdate
	all["endpoints that come and go"] = comeAndGo
	for name, run := range all {
		t.Run(name, func(t *testing.T) { run(t, openReal(t)) })
	}
}

// TestRealLatency has 1,000 Services, one after the other: how long it takes from the request to create a slice, and from
// its answer, until a client is served.
func TestRealLatency(t *testing.T) {
	const services, limit = 1000, 50 * time.Millisecond
	r := openReal(t)
	at, base := backendAt(t, r.host(), "tcp", "a"), r.cidr.As4()
	var asked, answered []time.Duration
	for i := range services {
		name, ip := fmt.Sprint("s", i), netip.AddrFrom4([4]byte{base[0], base[1], byte(100 + i/200), byte(i%200 + 1)}).String()
		r.set(t, service(name, ip, 18080, corev1.ProtocolTCP))
		listen := listenOf(t, r.control, ip, 18080)
		began := time.Now()
		r.set(t, slice(name, corev1.ProtocolTCP, at))
		created := time.Now()
		awaitOpen(t, listen)
		asked, answered = append(asked, time.Since(began)), append(answered, time.Since(created))
	}
	for since, all := range map[string][]time.Duration{"request": asked, "answer": answered} {
		slices.Sort(all)
		var sum time.Duration
		for _, d := range all {
			sum += d
		}
		t.Logf("since the %s: %v on average, %v median, %v p99, %v at most", since, sum/services, all[services/2], all[services*99/100], all[services-1])
		if sum/services > limit {
			t.Errorf("since the %s: %v on average", since, sum/services)
		}
	}
}
