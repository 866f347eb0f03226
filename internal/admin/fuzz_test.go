package admin

import (
	"bytes"
	"context"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"slices"
	"strconv"
	"strings"
	"testing"

	"usher/internal/api"
)

// FuzzAPI: whatever is asked, the answer is one that openapi.yaml describes, and what is shown afterwards is whole.
func FuzzAPI(f *testing.F) {
	bodies := []string{
		"", "{}", "null", "[]", "a: b", "{", "weight: 3", `{"weight": 1e99}`, `{"admin": "drain", "weight": 3, "timeout": "10m"}`, `{"now": true}`,
		`{"binary": "/bin/true"}`, "{name: db, listen: [8081, 'udp:5353'], backends: ['10.0.0.1:80@3,max=7']}",
		"{name: x, listen: 9, backends: [{address: 1, check: '2'}], health: 'http:/,interval=1s'}", "name: &a [*a]", "'10.0.0.2:80'",
	}
	for i, r := range routes {
		path := strings.NewReplacer("{name}", "web", "{address}", "127.0.0.1:9001").Replace(r.path)
		f.Add(r.method, path, "", bodies[i%len(bodies)])
		f.Add(r.method, path, "service=web&top=1&all=true", bodies[(i+7)%len(bodies)])
	}
	for _, body := range bodies {
		f.Add("POST", "/v1/services", "", body)
		f.Add("PATCH", "/v1/services/web/backends/unix:%2F%2F%2Fx", "", body)
	}
	f.Add("HEAD", "//v1/../v1/./services/", "%zz&a=1;b=2", "")
	f.Add("CONNECT", "/v1/services/%2e%2e/backends", "\x00", "")
	f.Fuzz(func(t *testing.T, method, path, query, body string) {
		fake := newFake()
		fake.rows = 3
		h := fake.handler()
		ask(h, "POST", "/v1/services", "{name: web, listen: 8080, backends: 9001}")
		target := path
		if query != "" {
			target += "?" + query
		}
		r, err := http.NewRequest(method, "http://usher"+target, bytes.NewReader([]byte(body)))
		if err != nil {
			return // net/http answers it
		}
		ctx, cancel := context.WithCancel(t.Context())
		cancel() // the reader of events has gone
		w := httptest.NewRecorder()
		h.ServeHTTP(w, r.WithContext(ctx))
		checkAnswer(t, h, r, w)
		var all api.Services
		if w := ask(h, "GET", "/v1/services", ""); json.Unmarshal(w.Body.Bytes(), &all) != nil {
			t.Fatalf("services are shown as %q", w.Body)
		}
		if w := ask(h, "GET", "/v1/config", ""); w.Code != 200 {
			t.Fatalf("config: status %d: %s", w.Code, w.Body)
		}
	})
}

// checkAnswer checks that an answer is described, and a refusal has a text in one JSON object.
func checkAnswer(t *testing.T, h *Handler, r *http.Request, w *httptest.ResponseRecorder) {
	t.Helper()
	_, path := h.mux.Handler(r)
	method := r.Method
	if method == http.MethodHead {
		method = http.MethodGet
	}
	isRoute := slices.ContainsFunc(routes, func(r route) bool { return r.method == method && r.pattern() == path })
	switch {
	case w.Code >= 300 && w.Code < 400 && w.Header().Get("Location") != "": // to the path without dots
		return
	case !isRoute && w.Code != http.StatusNotFound && w.Code != http.StatusMethodNotAllowed:
		t.Fatalf("%s %s: status %d: %s", r.Method, r.URL, w.Code, w.Body)
	case isRoute && w.Code != http.StatusMethodNotAllowed && !slices.Contains(describedStatuses(t, method, strings.TrimSuffix(path, "{$}")), strconv.Itoa(w.Code)):
		t.Fatalf("%s %s: status %d is not in openapi.yaml: %s", r.Method, r.URL, w.Code, w.Body)
	}
	if w.Code < 400 {
		return
	}
	var refusal api.Error
	if err := json.Unmarshal(w.Body.Bytes(), &refusal); err != nil || refusal.Error == "" || w.Header().Get("Content-Type") != "application/json" {
		t.Fatalf("%s %s: status %d with %q", r.Method, r.URL, w.Code, w.Body)
	}
}
