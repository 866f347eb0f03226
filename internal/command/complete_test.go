package command

import (
	"bytes"
	"encoding/json"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"usher/internal/api"
)

// fakeUsher serves what handler answers on a control socket, and returns the socket's path.
func fakeUsher(t *testing.T, handler http.Handler) string {
	t.Helper()
	folder, err := os.MkdirTemp("", "usher-test") // shorter than a test's own, whose path may be too long for a socket
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(folder) })
	path := filepath.Join(folder, "s")
	l, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	server := &http.Server{Handler: handler}
	served := make(chan struct{})
	go func() {
		defer close(served)
		_ = server.Serve(l)
	}()
	t.Cleanup(func() {
		_ = server.Close()
		<-served
	})
	return path
}

// answer is a handler that answers everything with v.
func answer(v any) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _ = json.NewEncoder(w).Encode(v) })
}

func TestComplete(t *testing.T) {
	t.Parallel()
	path := fakeUsher(t, answer(api.Services{Services: []api.Service{web, dns}}))
	for line, want := range map[string]string{
		"":                                 strings.Join(names(newRoot(io.Discard, io.Discard)), " "),
		"a":                                "add",
		"8080=9001 --eng":                  "--engine",
		"--engine ":                        "auto epoll portable",
		"--engine=p":                       "--engine=portable",
		"-s l":                             "lc lblc lblcr",
		"--scheduler web=l":                "web=lc web=lblc web=lblcr",
		"--fail ":                          "open closed",
		"--policy ":                        "ACCEPT DROP",
		"set rules --policy=D":             "--policy=DROP",
		"--admin-token-file ":              ":files",
		"add ":                             "service backend rule",
		"add service --log-":               "--log-access",
		"ls --o":                           "--output",
		"ls -o w":                          "wide",
		"ls --output=":                     "--output=table --output=wide --output=json --output=yaml",
		"ls --control ":                    ":files",
		"ls --bogus=":                      "",
		"ls --control PATH ":               "web dns",
		"--control PATH ls ":               "web dns",
		"ls --control PATH web ":           "",
		"ls --control=PATH d":              "dns",
		"drain --control PATH web ":        "10.0.0.1:80 10.0.0.2:80",
		"drain --control PATH dns ":        "",
		"drain --control PATH --t":         "--timeout",
		"drain --control PATH --timeout":   "--timeout",
		"flows --control PATH --service w": "web",
		"flows --control PATH --backend ":  "10.0.0.1:80 10.0.0.2:80",
		"flows --network ":                 "tcp unix udp",
		"flows --sort by":                  "bytes bytes-down bytes-up",
		"ls --control /nowhere/s ":         "",
		"completion ":                      "bash zsh fish",
		"help sch":                         "schedulers",
		"set backend --control PATH web 10.0.0.2": "10.0.0.2:80",
		"add backend --control PATH web ":         "",
		"serve-nothing ":                          "",
	} {
		var got bytes.Buffer
		words := strings.Split(strings.ReplaceAll(line, "PATH", path), " ")
		if err := complete(t.Context(), newRoot(io.Discard, io.Discard), words, &got); err != nil {
			t.Errorf("%q: %v", line, err)
		}
		var found []string
		for l := range strings.Lines(got.String()) {
			word, _, _ := strings.Cut(strings.TrimSuffix(l, "\n"), "\t")
			found = append(found, word)
		}
		if strings.Join(found, " ") != want {
			t.Errorf("%q: got %q, want %q", line, found, want)
		}
	}
}
