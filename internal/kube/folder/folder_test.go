package folder

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"
	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"

	"usher/internal/kube/objects"
	"usher/internal/kube/planner"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// step writes files, and says what the store has afterwards, which Services are to be planned, and what is told.
type step struct {
	files            map[string]string // an empty text removes the file
	has, dirty, said string
}

// TestLoad changes the files of a folder step by step.
func TestLoad(t *testing.T) {
	t.Parallel()
	named := func(name, more string) string {
		return fmt.Sprintf("---\napiVersion: v1\nkind: Service\nmetadata: {name: %s}\nspec: {clusterIP: 10.0.0.1, ports: [{port: 80}]%s}\n", name, more)
	}
	const endpoints = "---\napiVersion: v1\nkind: Endpoints\nmetadata: {name: web}\nsubsets: [{addresses: [{ip: 10.1.0.1}], ports: [{port: 80}]}]\n"
	for name, steps := range map[string][]step{
		"come and go": {
			{map[string]string{"a.yaml": named("a", "") + named("b", "")}, "a b", "a b", ""},
			{nil, "a b", "", ""},
			{map[string]string{"a.yaml": named("b", "") + "# moved\n" + named("a", "")}, "a b", "", ""},
			{map[string]string{"a.yaml": named("b", "") + named("c", "")}, "b c", "a c", ""},
			{map[string]string{"b.json": `{"apiVersion":"v1","kind":"Service","metadata":{"name":"j"}}`, "c.txt": "x", ".d.yaml": "["}, "b c j", "j", ""},
			{map[string]string{"a.yaml": ""}, "j", "b c", ""},
		},
		"a bad file keeps its objects": {
			{map[string]string{"a.yaml": named("a", ""), "b.yaml": named("b", "")}, "a b", "a b", ""},
			{map[string]string{"a.yaml": named("c", "") + "---\n[", "b.yaml": named("b", ", sessionAffinity: ClientIP")}, "a b", "b",
				"this manifest is not used, and what it was before stays: fix it: document 2: line 7: did not find expected node content"},
			{map[string]string{"b.yaml": named("b", "")}, "a b", "b", ""},
			{map[string]string{"a.yaml": named("c", "")}, "b c", "a c", ""},
		},
		"the first file counts": {
			{map[string]string{"b.yaml": named("a", "")}, "a", "a", ""},
			{map[string]string{"c.yaml": named("a", ", sessionAffinity: ClientIP")}, "a", "", "c.yaml: document 1: Service default/a is passed over: that of b.yaml, document 1 counts"},
			{map[string]string{"d.yaml": named("d", "")}, "a d", "d", ""},
			{map[string]string{"b.yaml": ""}, "a d", "a", ""},
		},
		"Endpoints, and then slices": {
			{map[string]string{"a.yaml": named("web", "") + endpoints}, "web web/0/IPv4", "web", ""},
			{map[string]string{"b.yaml": slice}, "web web-1", "web", ""},
			{map[string]string{"b.yaml": ""}, "web web/0/IPv4", "web", ""},
		},
		"nodes": {
			{map[string]string{"n.yml": "apiVersion: v1\nkind: Node\nmetadata: {name: n1, namespace: x}"}, "node:n1", "nodes", ""},
			{map[string]string{"n.yml": "apiVersion: v1\nkind: Node\nmetadata: {name: n2}"}, "node:n2", "nodes", ""},
		},
		"unknown field": {
			{map[string]string{"a.yaml": named("a", ", port: 1")}, "a", "a", `document 1: Service default/a: unknown field "spec.port" (did you mean "ports"?)`},
			{nil, "a", "", ""},
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			core, logs := observer.New(zap.InfoLevel)
			dir, store := t.TempDir(), objects.New()
			f, err := Open(dir, zap.New(core))
			if err != nil {
				t.Fatal(err)
			}
			for i, step := range steps {
				write(t, dir, step.files)
				if err := f.load(store); err != nil {
					t.Fatal(err)
				}
				if got := namesOf(store); got != step.has {
					t.Errorf("step %d: the store has %q, not %q", i, got, step.has)
				}
				if got := changesOf(store); got != step.dirty {
					t.Errorf("step %d: changed are %q, not %q", i, got, step.dirty)
				}
				if got := saidBy(logs); got != step.said {
					t.Errorf("step %d: told is %q, not %q", i, got, step.said)
				}
			}
		})
	}
}

// TestClusterIPs: a Service without a ClusterIP has one by its name, which it keeps unless a manifest gives that to another.
func TestClusterIPs(t *testing.T) {
	t.Parallel()
	dir, store := t.TempDir(), objects.New()
	f, err := Open(dir, zap.NewNop())
	if err != nil {
		t.Fatal(err)
	}
	load := func(name, text string) []string {
		write(t, dir, map[string]string{name: text})
		if err := f.load(store); err != nil {
			t.Fatal(err)
		}
		in, is := store.Input(planner.Key{Namespace: "default", Name: "web"})
		if !is || len(in.Service.Spec.ClusterIPs) == 0 || in.Service.Spec.ClusterIP != in.Service.Spec.ClusterIPs[0] {
			t.Fatalf("the Service is %v", in.Service)
		}
		return in.Service.Spec.ClusterIPs
	}
	first := load("a.yaml", service)
	if len(first) != 1 || first[0] != "10.99.87.214" {
		t.Errorf("it is %s, and was 10.99.87.214 in all versions", first)
	}
	both := load("a.yaml", service+"spec: {ipFamilyPolicy: PreferDualStack}")
	if len(both) != 2 || both[0] != first[0] || !strings.HasPrefix(both[1], "fd00:10:96::") {
		t.Errorf("then %s after %s", both, first)
	}
	store.Take()
	taken := "apiVersion: v1\nkind: Service\nmetadata: {name: other}\nspec: {clusterIP: " + first[0] + "}"
	moved := load("b.yaml", taken)
	if moved[0] == first[0] || moved[1] != both[1] {
		t.Errorf("%s beside a Service that asks for %s", moved, first)
	}
	if got := changesOf(store); got != "other web" {
		t.Errorf("changed are %q", got)
	}
	if kept := load("b.yaml", service); !slices.Equal(kept, moved) {
		t.Errorf("%s after %s, though nobody else asks for that", kept, moved)
	}
}

// TestRun follows a folder that is mounted like a ConfigMap.
func TestRun(t *testing.T) {
	t.Parallel()
	dir, store := t.TempDir(), objects.New()
	must(t, os.Mkdir(filepath.Join(dir, "..1"), 0o700))
	write(t, filepath.Join(dir, "..1"), map[string]string{"a.yaml": service})
	must(t, os.Symlink("..1", filepath.Join(dir, "..data")))
	must(t, os.Symlink("..data/a.yaml", filepath.Join(dir, "a.yaml")))
	f, err := Open(dir, zap.NewNop())
	must(t, err)
	ctx, stop := context.WithCancel(t.Context())
	synced, done := make(chan struct{}), make(chan error, 1)
	go func() { done <- f.Run(ctx, store, func() { close(synced) }) }()
	t.Cleanup(func() {
		stop()
		must(t, <-done)
	})
	<-synced
	if got := namesOf(store); got != "web" {
		t.Fatalf("the store has %q when it is synced", got)
	}
	must(t, os.Mkdir(filepath.Join(dir, "..2"), 0o700))
	write(t, filepath.Join(dir, "..2"), map[string]string{"a.yaml": service + "---\n" + slice})
	must(t, os.Symlink("..2", filepath.Join(dir, "..data_tmp")))
	must(t, os.Rename(filepath.Join(dir, "..data_tmp"), filepath.Join(dir, "..data")))
	waitFor(t, store, "web web-1")
	write(t, dir, map[string]string{"b.yaml": "apiVersion: v1\nkind: Node\nmetadata: {name: n1}"})
	waitFor(t, store, "web web-1 node:n1")
	must(t, os.Remove(filepath.Join(dir, "a.yaml")))
	waitFor(t, store, "node:n1")
}

func TestOpen(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	write(t, dir, map[string]string{"a.yaml": service})
	for _, path := range []string{filepath.Join(dir, "a.yaml"), filepath.Join(dir, "none")} {
		if _, err := Open(path, zap.NewNop()); err == nil || !strings.Contains(err.Error(), path) {
			t.Errorf("%s: %v", path, err)
		}
	}
}

// waitFor waits until the store has these objects.
func waitFor(t *testing.T, store *objects.Store, want string) {
	t.Helper()
	deadline := time.After(30 * time.Second)
	for namesOf(store) != want {
		select {
		case <-store.Changed():
		case <-deadline:
			t.Fatalf("the store has %q, not %q", namesOf(store), want)
		}
	}
}

func namesOf(store *objects.Store) string {
	var names []string
	for _, key := range append(store.ServiceKeys(), store.SliceKeys()...) {
		names = append(names, key.Name)
	}
	for _, node := range store.NodeNames() {
		names = append(names, "node:"+node)
	}
	return strings.Join(names, " ")
}

func changesOf(store *objects.Store) string {
	changes := store.Take()
	var names []string
	for _, key := range changes.Services {
		names = append(names, key.Name)
	}
	if changes.Nodes {
		names = append(names, "nodes")
	}
	return strings.Join(names, " ")
}

func saidBy(logs *observer.ObservedLogs) string {
	var said []string
	for _, entry := range logs.TakeAll() {
		if err, is := entry.ContextMap()["error"]; is {
			entry.Message += fmt.Sprintf(": %s", err)
		}
		said = append(said, entry.Message)
	}
	return strings.Join(said, " | ")
}

func write(t *testing.T, dir string, files map[string]string) {
	t.Helper()
	for name, text := range files {
		path := filepath.Join(dir, name)
		if text == "" {
			must(t, os.Remove(path))
			continue
		}
		must(t, os.WriteFile(path, []byte(text), 0o600))
	}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
