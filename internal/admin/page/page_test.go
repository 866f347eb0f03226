package page_test

import (
	"compress/gzip"
	"io"
	"net/http/httptest"
	"strings"
	"testing"

	"usher/internal/admin/page"
)

// TestServe: each file has its kind, a tag by which a browser keeps it, and a policy that lets no script in but ours.
func TestServe(t *testing.T) {
	t.Parallel()
	p := page.New()
	get := func(name string, header ...string) *httptest.ResponseRecorder {
		r, w := httptest.NewRequest("GET", "/page/"+name, nil), httptest.NewRecorder()
		for i := 0; i < len(header); i += 2 {
			r.Header.Set(header[i], header[i+1])
		}
		if !p.Serve(w, r, name) {
			t.Fatalf("there is no file %q", name)
		}
		return w
	}
	for name, kind := range map[string]string{"": "text/html", "page.js": "text/javascript", "uPlot.iife.min.js": "text/javascript", "uPlot.min.css": "text/css", "uPlot.LICENSE": "text/plain"} {
		w := get(name)
		tag := w.Header().Get("ETag")
		if !strings.HasPrefix(w.Header().Get("Content-Type"), kind+";") || w.Body.Len() == 0 || tag == "" {
			t.Errorf("%q: %v, %d bytes", name, w.Header(), w.Body.Len())
		}
		policy := w.Header().Get("Content-Security-Policy")
		if !strings.Contains(policy, "default-src 'none'; script-src 'self';") || strings.Contains(policy, "unsafe") {
			t.Errorf("%q: %s", name, policy)
		}
		for _, had := range []string{tag, "W/" + tag, `"other", ` + tag} {
			if w := get(name, "If-None-Match", had); w.Code != 304 || w.Body.Len() > 0 {
				t.Errorf("%q, of which the browser has %s: status %d, %d bytes", name, had, w.Code, w.Body.Len())
			}
		}
	}
	packed := get("uPlot.iife.min.js", "Accept-Encoding", "gzip, br")
	z, err := gzip.NewReader(packed.Body)
	if err != nil || packed.Header().Get("Content-Encoding") != "gzip" {
		t.Fatal(packed.Header(), err)
	}
	text, err := io.ReadAll(z)
	if err != nil || string(text) != get("uPlot.iife.min.js").Body.String() || !strings.Contains(string(text), "uPlot (v1.6.32)") {
		t.Errorf("uPlot has %d bytes: %v", len(text), err)
	}
	if p.Serve(httptest.NewRecorder(), httptest.NewRequest("GET", "/page/x", nil), "page.go") {
		t.Error("it serves what is no file of the page")
	}
}
