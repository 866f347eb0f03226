package deploy

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/zap"
	rbacv1 "k8s.io/api/rbac/v1"

	"usher/internal/kube/cluster"
	"usher/internal/kube/objects"
	"usher/internal/kube/planner"
)

// apiServer answers the requests of the client, and records what each needs the right to do.
type apiServer struct {
	mu    sync.Mutex
	asked map[string]bool // GROUP RESOURCE VERB
	watch sync.WaitGroup  // one for each kind that is not watched yet
}

// lists are the answers by path.
var lists = map[string]string{
	"/api/v1/services": `{"kind":"ServiceList","apiVersion":"v1","metadata":{"resourceVersion":"7"},
		"items":[{"metadata":{"namespace":"default","name":"web","resourceVersion":"5"}}]}`,
	"/api/v1/nodes": `{"kind":"NodeList","apiVersion":"v1","metadata":{"resourceVersion":"7"},"items":[]}`,
	"/apis/discovery.k8s.io/v1/endpointslices":       `{"kind":"EndpointSliceList","apiVersion":"discovery.k8s.io/v1","metadata":{"resourceVersion":"7"},"items":[]}`,
	"/api/v1/namespaces/default/services/web/status": `{"kind":"Service","apiVersion":"v1","metadata":{"namespace":"default","name":"web"}}`,
}

// ServeHTTP is that of http.Handler.
func (s *apiServer) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	group, resource := "", ""
	switch path := strings.Split(strings.Trim(r.URL.Path, "/"), "/"); {
	case len(path) == 3:
		resource = path[2] // api/v1/RESOURCE
	case len(path) == 4:
		group, resource = path[1], path[3] // apis/GROUP/v1/RESOURCE
	case len(path) == 7 && path[2] == "namespaces":
		resource = path[4] + "/" + path[6] // api/v1/namespaces/NAMESPACE/RESOURCE/NAME/SUBRESOURCE
	}
	verb := map[string]string{http.MethodGet: "list", http.MethodPatch: "patch"}[r.Method]
	isWatch := r.URL.Query().Get("watch") == "true"
	if isWatch {
		verb = "watch"
	}
	s.mu.Lock()
	what := fmt.Sprintf("%q %s %s", group, resource, verb)
	isNew := !s.asked[what]
	s.asked[what] = true
	s.mu.Unlock()
	w.Header().Set("Content-Type", "application/json")
	if !isWatch {
		io.WriteString(w, lists[r.URL.Path])
		return
	}
	w.(http.Flusher).Flush()
	if isNew {
		s.watch.Done()
	}
	<-r.Context().Done()
}

// TestRoleIsWhatTheClientAsks compares the requests of a client with the role, both ways.
func TestRoleIsWhatTheClientAsks(t *testing.T) {
	t.Parallel()
	for _, assigns := range []bool{false, true} {
		asked := requestsOf(t, assigns)
		if diff := cmp.Diff(rightsOf(parse(t, Options{Image: "x", AssignsLB: assigns}).role.Rules), asked); diff != "" {
			t.Errorf("with --assign-lb %v: -role +client\n%s", assigns, diff)
		}
	}
}

// requestsOf runs a client until it watches all kinds, and has written a status.
func requestsOf(t *testing.T, assigns bool) []string {
	t.Helper()
	s := &apiServer{asked: make(map[string]bool)}
	s.watch.Add(3)
	server := httptest.NewServer(s)
	defer server.Close()
	file := filepath.Join(t.TempDir(), "kubeconfig")
	text := fmt.Sprintf(`{apiVersion: v1, kind: Config, current-context: c, clusters: [{name: c, cluster: {server: %q}}],
		contexts: [{name: c, context: {cluster: c, user: u}}], users: [{name: u, user: {}}]}`, server.URL)
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	c, err := cluster.Open(cluster.Options{Kubeconfig: file, Node: "here", Log: zap.NewNop()})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	var run sync.WaitGroup
	defer run.Wait()
	defer cancel()
	run.Go(func() { _ = c.Run(ctx, objects.New(), func() {}) })
	s.watch.Wait()
	if assigns {
		key := planner.Key{Namespace: "default", Name: "web"}
		if err := c.SetLoadBalancer(ctx, key, []netip.Addr{netip.MustParseAddr("127.10.0.1")}); err != nil {
			t.Fatal(err)
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	var all []string
	for what := range s.asked {
		all = append(all, what)
	}
	slices.Sort(all)
	return all
}

// rightsOf spells out rules, one a resource and verb.
func rightsOf(rules []rbacv1.PolicyRule) (all []string) {
	for _, r := range rules {
		for _, group := range r.APIGroups {
			for _, resource := range r.Resources {
				for _, verb := range r.Verbs {
					all = append(all, fmt.Sprintf("%q %s %s", group, resource, verb))
				}
			}
		}
	}
	slices.Sort(all)
	return all
}
