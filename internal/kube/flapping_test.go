package kube

import (
	"context"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"go.uber.org/zap/zaptest/observer"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"usher/internal/app"
	"usher/internal/command"
	"usher/internal/config"
	"usher/internal/control"
	"usher/internal/metrics"
)

// apiServer has one Service and one slice. It flaps: it cuts all watches, and answers nothing, until it is up again. Of
// changes it knows nothing, so that a client has to list.
type apiServer struct {
	mu      sync.Mutex
	isDown  bool
	version int
	service *corev1.Service
	slice   *discoveryv1.EndpointSlice
	cut     chan struct{} // closed: all watches end
}

// flap goes down, or up with another slice.
func (a *apiServer) flap(isDown bool, next *discoveryv1.EndpointSlice) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.isDown = isDown
	if next != nil {
		a.slice = next
		a.version++
		next.ResourceVersion = strconv.Itoa(a.version)
	}
	close(a.cut)
	a.cut = make(chan struct{})
}

func (a *apiServer) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	a.mu.Lock()
	isDown, cut, version := a.isDown, a.cut, a.version
	body := any(&corev1.NodeList{TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: "NodeList"}, ListMeta: listMeta(version)})
	switch {
	case strings.HasSuffix(r.URL.Path, "/services"):
		body = &corev1.ServiceList{TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: "ServiceList"}, ListMeta: listMeta(version), Items: []corev1.Service{*a.service}}
	case strings.HasSuffix(r.URL.Path, "/endpointslices"):
		body = &discoveryv1.EndpointSliceList{TypeMeta: metav1.TypeMeta{APIVersion: "discovery.k8s.io/v1", Kind: "EndpointSliceList"}, ListMeta: listMeta(version), Items: []discoveryv1.EndpointSlice{*a.slice}}
	}
	a.mu.Unlock()
	w.Header().Set("Content-Type", "application/json")
	query := r.URL.Query()
	switch {
	case isDown:
		panic(http.ErrAbortHandler)
	case !query.Has("watch"):
		_ = json.NewEncoder(w).Encode(body)
	case query.Get("resourceVersion") != strconv.Itoa(version):
		gone := apierrors.NewResourceExpired("too old").Status()
		gone.TypeMeta = metav1.TypeMeta{APIVersion: "v1", Kind: "Status"}
		_ = json.NewEncoder(w).Encode(map[string]any{"type": "ERROR", "object": gone})
	default:
		_ = http.NewResponseController(w).Flush()
		select {
		case <-cut:
			panic(http.ErrAbortHandler)
		case <-r.Context().Done():
		}
	}
}

func listMeta(version int) metav1.ListMeta {
	return metav1.ListMeta{ResourceVersion: strconv.Itoa(version)}
}

// kubeconfig returns a file that names an API server without credentials.
func kubeconfig(t *testing.T, server string) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "kubeconfig")
	text := "apiVersion: v1\nkind: Config\ncurrent-context: c\ncontexts: [{name: c, context: {cluster: c}}]\nclusters: [{name: c, cluster: {server: \"" + server + "\"}}]\n"
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

// runKube runs usher kube over a controller until the test ends, and waits until it is synced.
func runKube(t testing.TB, log *zap.Logger, words map[string]string) *control.Controller {
	t.Helper()
	s, err := readSettings(command.SourceWords{Values: words})
	if err != nil {
		t.Fatal(err)
	}
	process := config.DefaultProcess()
	process.Workers = 1
	c, err := control.New(control.Options{Log: zap.NewNop(), Process: process})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	synced, ended := make(chan struct{}), make(chan error, 1)
	var running sync.WaitGroup
	running.Go(func() {
		ended <- (&source{settings: s}).Run(ctx, app.SourceHost{
			Control: c, Log: log, Process: func() metrics.Process { return metrics.Process{} },
		}, func() { close(synced) })
	})
	t.Cleanup(func() { cancel(); running.Wait(); c.Close() })
	select {
	case <-synced:
	case err := <-ended:
		t.Fatal(err)
	case <-time.After(patience):
		t.Fatal("not synced")
	}
	if err := c.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	return c
}

// An API server that flaps fails no client. What has changed meanwhile is there once it is back.
func TestFlappingServer(t *testing.T) {
	t.Parallel()
	ip := anyClusterIP()
	host := liveHost(t)
	a, b := slice("web", corev1.ProtocolTCP, backendAt(t, host, "tcp", "a")), slice("web", corev1.ProtocolTCP, backendAt(t, host, "tcp", "b"))
	api := &apiServer{service: service("web", ip, 18080, corev1.ProtocolTCP), slice: a, version: 1, cut: make(chan struct{})}
	server := httptest.NewServer(api)
	t.Cleanup(server.Close) // once usher kube has ended: it waits for watches
	core, logs := observer.New(zapcore.InfoLevel)
	c := runKube(t, zap.New(core), map[string]string{"kubeconfig": kubeconfig(t, server.URL), "cluster-ips": "loopback"})
	at := listenOf(t, c, ip, 18080)
	await(t, "tcp", at, is("a"))
	ctx, cancel := context.WithCancel(t.Context())
	var asking sync.WaitGroup
	defer asking.Wait()
	defer cancel()
	var asked atomic.Int64
	for range 10 {
		asking.Go(func() {
			for ctx.Err() == nil {
				if name, err := ask("tcp", at); err != nil {
					t.Errorf("%q, %v", name, err)
					return
				}
				asked.Add(1)
			}
		})
	}
	api.flap(false, nil) // watches end, and go on
	api.flap(true, nil)
	for deadline := time.Now().Add(patience); logs.FilterMessageSnippet("API server is lost").Len() == 0; time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("the loss of the API server is not said")
		}
	}
	for until := asked.Load() + 20; asked.Load() < until && !t.Failed(); time.Sleep(time.Millisecond) { // the last state stands
	}
	api.flap(false, b)
	await(t, "tcp", at, is("b"))
	if lost := logs.FilterMessageSnippet("API server is lost").Len(); lost != 1 {
		t.Errorf("said %d times: %v", lost, logs.All())
	}
}
