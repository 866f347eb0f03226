package kube

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/netip"
	"strings"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"go.uber.org/zap/zaptest/observer"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"usher/internal/app"
	"usher/internal/command"
	"usher/internal/config"
	"usher/internal/control"
	"usher/internal/kube/objects"
	"usher/internal/metrics"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// patience is how long a test waits for what must happen.
const patience = 30 * time.Second

// world is an engine over a Store that the test writes to, and a Controller that serves.
type world struct {
	*engine
	logs *observer.ObservedLogs
}

// scripted is an origin whose objects are those that a test has put into its store.
type scripted struct{}

func (scripted) Run(ctx context.Context, _ *objects.Store, synced func()) error {
	synced()
	<-ctx.Done()
	return nil
}

// newWorld makes an engine. Its words are flags of usher kube, each before its value.
func newWorld(t testing.TB, words ...string) *world {
	t.Helper()
	values := map[string]string{"manifests": t.TempDir(), "cluster-ips": "loopback"}
	for i := 0; i < len(words); i += 2 {
		values[words[i]] = words[i+1]
	}
	s, err := readSettings(command.SourceWords{Values: values})
	if err != nil {
		t.Fatal(err)
	}
	core, logs := observer.New(zapcore.InfoLevel)
	log := zap.New(core)
	process := config.DefaultProcess()
	process.Workers = 1
	c, err := control.New(control.Options{Log: zap.NewNop(), Process: process})
	if err != nil {
		t.Fatal(err)
	}
	e, err := newEngine(s, scripted{}, app.SourceHost{
		Control: c, Log: log, Process: func() metrics.Process { return metrics.Process{} },
	}, log)
	if err != nil {
		c.Close()
		t.Fatal(err)
	}
	t.Cleanup(func() {
		e.retry.stop()
		e.close()
		c.Close()
	})
	return &world{e, logs}
}

// start applies what the store has, and serves clients.
func (w *world) start(t testing.TB) {
	t.Helper()
	if err := w.first(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := w.control.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
}

// sync applies what has changed.
func (w *world) sync(t testing.TB) {
	t.Helper()
	if err := w.step(t.Context()); err != nil {
		t.Fatal(err)
	}
}

// service returns a Service with one port.
func service(name, clusterIP string, port int32, protocol corev1.Protocol) *corev1.Service {
	return &corev1.Service{
		ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: name},
		Spec: corev1.ServiceSpec{
			Type: corev1.ServiceTypeClusterIP, ClusterIP: clusterIP, ClusterIPs: []string{clusterIP},
			Ports: []corev1.ServicePort{{Port: port, Protocol: protocol}},
		},
	}
}

// slice returns an EndpointSlice of a Service, with ready endpoints that have one port.
func slice(service string, protocol corev1.Protocol, endpoints ...netip.AddrPort) *discoveryv1.EndpointSlice {
	s := &discoveryv1.EndpointSlice{
		ObjectMeta: metav1.ObjectMeta{
			Namespace: "default", Name: service + "-1", Labels: map[string]string{discoveryv1.LabelServiceName: service},
		},
		AddressType: discoveryv1.AddressTypeIPv4,
	}
	for _, e := range endpoints {
		port := int32(e.Port())
		s.Ports = []discoveryv1.EndpointPort{{Port: &port, Protocol: &protocol}}
		s.Endpoints = append(s.Endpoints, discoveryv1.Endpoint{Addresses: []string{e.Addr().String()}})
	}
	return s
}

// address is where a port of a ClusterIP is listened on.
func (w *world) address(clusterIP string, port uint16) string {
	return netip.AddrPortFrom(w.places.Listen(netip.MustParseAddr(clusterIP)), port).String()
}

// anyClusterIP returns a ClusterIP that no other test has.
func anyClusterIP() string {
	return fmt.Sprintf("10.%d.%d.%d", 1+rand.IntN(250), rand.IntN(256), 1+rand.IntN(250))
}

// backend is backendAt on this machine.
func backend(t testing.TB, network, name string) netip.AddrPort {
	t.Helper()
	return backendAt(t, "127.0.0.1", network, name)
}

// ask returns the name of the backend that a new client gets.
func ask(network, address string) (string, error) {
	c, err := net.DialTimeout(network, address, patience)
	if err != nil {
		return "", err
	}
	defer c.Close()
	wait := patience
	if network == "udp" {
		wait = 3 * time.Second // a datagram is lost when its endpoint or its socket goes right then
	}
	_ = c.SetDeadline(time.Now().Add(wait))
	if _, err := io.WriteString(c, "hello\n"); err != nil {
		return "", err
	}
	buffer := make([]byte, 100)
	n, err := c.Read(buffer)
	name, _, _ := strings.Cut(string(buffer[:n]), "\n")
	return name, err
}

// await asks until the answer is good.
func await(t testing.TB, network, address string, isGood func(name string, err error) bool) {
	t.Helper()
	for deadline := time.Now().Add(patience); ; time.Sleep(5 * time.Millisecond) {
		name, err := ask(network, address)
		if isGood(name, err) {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("%s %s: %q, %v", network, address, name, err)
		}
	}
}

func is(want string) func(string, error) bool {
	return func(name string, err error) bool { return err == nil && name == want }
}

func isRefused(_ string, err error) bool { return errors.Is(err, syscall.ECONNREFUSED) }
