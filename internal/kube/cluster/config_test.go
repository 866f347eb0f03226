package cluster

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

const kubeconfig = `apiVersion: v1
kind: Config
current-context: home
clusters: [{name: one, cluster: {server: "https://192.0.2.1:6443"}}]
users: [{name: me, user: {token: secret}}]
contexts:
- {name: home, context: {cluster: one, user: me}}
- {name: lost, context: {cluster: two, user: me}}
`

func TestOpen(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	for name, text := range map[string]string{"good": kubeconfig, "bad": "contexts: 7\n", "manifest": "apiVersion: v1\nkind: Service\n", "empty": "", "open": strings.Replace(kubeconfig, "current-context: home\n", "", 1)} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for _, c := range []struct{ file, context, server, err string }{
		{"good", "", "https://192.0.2.1:6443", ""},
		{"good", "home", "https://192.0.2.1:6443", ""},
		{"good", "hoem", "", `unknown context "hoem" (did you mean "home"? have home, lost)`},
		{"good", "lost", "", `context "lost": there is no cluster "two"`},
		{"bad", "", "", "kubeconfig"},
		{"manifest", "", "", "it has another object than a configuration of clients"},
		{"empty", "", "", "there is no context"},
		{"open", "", "", "no current context: choose one with --context (have home, lost)"},
		{"none", "", "", "no such file"},
	} {
		k, err := Open(Options{Kubeconfig: filepath.Join(dir, c.file), Context: c.context})
		switch {
		case c.err == "" && (err != nil || k.Server() != c.server):
			t.Errorf("%s, %s: %v, %v", c.file, c.context, k, err)
		case c.err != "" && (err == nil || !strings.Contains(err.Error(), c.err)):
			t.Errorf("%s, %s: error is %v, want %s", c.file, c.context, err, c.err)
		case err != nil:
			t.Log(err)
		}
	}
}

func TestOpenOutsideOfACluster(t *testing.T) {
	t.Setenv("KUBERNETES_SERVICE_HOST", "")
	if _, err := Open(Options{}); err == nil || !strings.Contains(err.Error(), "kubeconfig") {
		t.Errorf("error is %v", err)
	}
}
