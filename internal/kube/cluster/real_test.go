//go:build kube

package cluster

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/rest"

	"usher/internal/kube/objects"
	"usher/internal/kube/planner"
)

// real is a client of the API server that KUBECONFIG names, over a network that a test may take away. Its objects are in
// the namespace default and have a prefix of their own.
type real struct {
	*Cluster
	store  *objects.Store
	log    *observer.ObservedLogs
	prefix string

	mu    sync.Mutex
	conns []net.Conn
	down  bool
}

func openReal(t *testing.T, edit func(*rest.Config)) *real {
	t.Helper()
	config, err := configOf(Options{Kubeconfig: os.Getenv("KUBECONFIG")})
	if err != nil {
		t.Skip("KUBECONFIG: ", err)
	}
	core, log := observer.New(zap.InfoLevel)
	r := &real{store: objects.New(), log: log, prefix: fmt.Sprintf("usher-test-%d-", time.Now().UnixNano())}
	config.Dial = r.dial
	if edit != nil {
		edit(config)
	}
	if r.Cluster, err = open(config, Options{UserAgent: "usher/test", Log: zap.New(core)}); err != nil {
		t.Fatal(err)
	}
	r.backoff.Duration, r.backoff.Cap = 10*time.Millisecond, 100*time.Millisecond
	return r
}

// follow runs the client until the test ends, and waits for the first lists.
func (r *real) follow(t *testing.T) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	synced, ended := make(chan struct{}), make(chan struct{})
	go func() { defer close(ended); _ = r.Run(ctx, r.store, func() { close(synced) }) }()
	t.Cleanup(func() { cancel(); <-ended })
	select {
	case <-synced:
	case <-time.After(time.Minute):
		t.Fatal("not synced: ", lines(r.log))
	}
}

func (r *real) dial(ctx context.Context, network, addr string) (net.Conn, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.down {
		return nil, errors.New("the test has taken the network away")
	}
	c, err := new(net.Dialer).DialContext(ctx, network, addr)
	if err == nil {
		r.conns = append(r.conns, c)
	}
	return c, err
}

// setDown takes the network away, or gives it back.
func (r *real) setDown(down bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.down = down
	for _, c := range r.conns {
		_ = c.Close()
	}
	r.conns = nil
}

// await waits until the Store is as it shall be.
func (r *real) await(t *testing.T, what string, is func() bool) {
	t.Helper()
	late := time.After(time.Minute)
	for !is() {
		select {
		case <-r.store.Changed():
		case <-late:
			t.Fatalf("%s: not in a minute; log: %q", what, lines(r.log))
		}
	}
}

func (r *real) key(name string) planner.Key {
	return planner.Key{Namespace: "default", Name: r.prefix + name}
}

func (r *real) create(t *testing.T, name string, kind corev1.ServiceType) {
	t.Helper()
	s := &corev1.Service{ObjectMeta: metav1.ObjectMeta{Name: r.prefix + name, Labels: map[string]string{"app": "web"}}}
	s.Spec.Type = kind
	s.Spec.Ports = []corev1.ServicePort{{Port: 80}}
	if err := r.core.Post().Namespace("default").Resource("services").Body(s).Do(t.Context()).Error(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = r.core.Delete().Namespace("default").Resource("services").Name(s.Name).Do(context.Background()).Error()
	})
}

func (r *real) delete(t *testing.T, name string) {
	t.Helper()
	if err := r.core.Delete().Namespace("default").Resource("services").Name(r.prefix + name).Do(t.Context()).Error(); err != nil {
		t.Fatal(err)
	}
}

func (r *real) slice(t *testing.T, name string, addrs ...string) {
	t.Helper()
	s := &discoveryv1.EndpointSlice{AddressType: discoveryv1.AddressTypeIPv4}
	s.Name = r.prefix + name
	s.Labels = map[string]string{discoveryv1.LabelServiceName: s.Name}
	for _, a := range addrs {
		s.Endpoints = append(s.Endpoints, discoveryv1.Endpoint{Addresses: []string{a}, TargetRef: &corev1.ObjectReference{Kind: "Pod", Name: "p"}})
	}
	discovery := r.kinds[1].client
	if err := discovery.Post().Namespace("default").Resource("endpointslices").Body(s).Do(t.Context()).Error(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = discovery.Delete().Namespace("default").Resource("endpointslices").Name(s.Name).Do(context.Background()).Error()
	})
}

func TestRealChanges(t *testing.T) {
	r, w := openReal(t, nil), openReal(t, nil)
	w.prefix = r.prefix
	w.create(t, "a", corev1.ServiceTypeClusterIP)
	w.slice(t, "a", "10.1.2.3", "10.1.2.4")
	r.follow(t)
	in, is := r.store.Input(r.key("a"))
	if !is || len(in.Slices) != 1 || len(in.Slices[0].Endpoints) != 2 || in.Service.Spec.ClusterIP == "" {
		t.Fatalf("listed: %+v", in)
	}
	if in.Service.ManagedFields != nil || in.Service.Labels != nil || in.Slices[0].Endpoints[0].TargetRef != nil {
		t.Errorf("not trimmed: %+v", in)
	}
	w.create(t, "b", corev1.ServiceTypeClusterIP)
	w.delete(t, "a")
	r.await(t, "a Service is added, and one is deleted", func() bool {
		return r.store.Service(r.key("b")) != nil && r.store.Service(r.key("a")) == nil
	})
	check(t, "log", nil, lines(r.log))
}

// What changes while the server is lost is there when it is back.
func TestRealLost(t *testing.T) {
	r, w := openReal(t, nil), openReal(t, nil)
	w.prefix = r.prefix
	w.create(t, "a", corev1.ServiceTypeClusterIP)
	r.follow(t)
	for i := range 2 {
		r.setDown(true)
		for len(r.log.FilterMessage(strings.TrimPrefix(lost, "warn ")).All()) <= i {
			time.Sleep(time.Millisecond)
		}
		w.create(t, fmt.Sprint("b", i), corev1.ServiceTypeClusterIP)
		if i == 1 {
			w.delete(t, "a")
		}
		if r.store.Service(r.key("a")) == nil {
			t.Error("the last state does not stand")
		}
		r.setDown(false)
		r.await(t, "changes", func() bool {
			return r.store.Service(r.key(fmt.Sprint("b", i))) != nil && (r.store.Service(r.key("a")) == nil) == (i == 1)
		})
		for len(r.log.FilterMessage(strings.TrimPrefix(back, "info ")).All()) <= i {
			time.Sleep(time.Millisecond)
		}
	}
	check(t, "log", []string{lost, back, lost, back}, lines(r.log))
}

func TestRealStatus(t *testing.T) {
	r := openReal(t, nil)
	r.create(t, "lb", corev1.ServiceTypeLoadBalancer)
	r.follow(t)
	for _, ips := range [][]netip.Addr{{netip.MustParseAddr("127.10.0.1")}, {netip.MustParseAddr("127.10.0.2")}, nil} {
		if err := r.SetLoadBalancer(t.Context(), r.key("lb"), ips); err != nil {
			t.Fatal(err)
		}
		r.await(t, "status", func() bool { return hasIngress(r.store.Service(r.key("lb")), ips) })
	}
}

func TestRealForbidden(t *testing.T) {
	r := openReal(t, func(c *rest.Config) { c.Impersonate.UserName = "nobody-that-usher-knows" })
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan struct{})
	go func() { defer close(ended); _ = r.Run(ctx, r.store, func() { t.Error("synced") }) }()
	deadline := time.Now().Add(20 * time.Second)
	for r.log.Len() < 3 && time.Now().Before(deadline) {
		time.Sleep(time.Millisecond)
	}
	cancel()
	<-ended
	if r.log.Len() != 3 || !strings.Contains(r.log.All()[0].Message, "apply the ClusterRole") {
		t.Errorf("log: %q", lines(r.log))
	}
}

// The time from a Service's creation until the Store has it.
func TestRealLatency(t *testing.T) {
	r := openReal(t, nil)
	r.follow(t)
	var sum, most time.Duration
	const n = 200
	for i := range n {
		began := time.Now()
		r.create(t, fmt.Sprint("s", i), corev1.ServiceTypeClusterIP)
		r.await(t, "Service", func() bool { return r.store.Service(r.key(fmt.Sprint("s", i))) != nil })
		took := time.Since(began)
		sum, most = sum+took, max(most, took)
	}
	t.Logf("create and watch: %v on average, %v at most", sum/n, most)
}
