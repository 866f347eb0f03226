package admin

import (
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"usher/internal/config"
)

// request asks a handler. Header lines are "Name: value"; that of Host is the request's host, "-" for none.
func ask(h http.Handler, method, target, body string, header ...string) *httptest.ResponseRecorder {
	r := httptest.NewRequest(method, target, strings.NewReader(body))
	r.Host = "127.0.0.1:9090"
	for _, line := range header {
		name, value, _ := strings.Cut(line, ": ")
		if name == "Host" {
			r.Host = strings.TrimPrefix(value, "-")
			continue
		}
		r.Header.Add(name, value)
	}
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	return w
}

func tokenFile(t *testing.T, mode os.FileMode, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "token")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(path, mode); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestGuard(t *testing.T) {
	t.Parallel()
	token := tokenFile(t, 0o600, "s3cret\n")
	const bearer = "Authorization: Bearer s3cret"
	for _, tt := range []struct {
		name   string
		at     string // the admin address
		token  string // its file
		method string
		header []string
		status int
	}{
		{name: "read", status: 200},
		{name: "read with a token file", token: token, status: 200},
		{name: "localhost", header: []string{"Host: LOCALHOST:9090"}, status: 200},
		{name: "IPv6 loopback", header: []string{"Host: [::1]:9090"}, status: 200},
		{name: "IPv6 loopback without a port", header: []string{"Host: [::1]"}, status: 200},
		{name: "a health check without a host", header: []string{"Host: -"}, status: 200},
		{name: "foreign host", header: []string{"Host: evil.example:9090"}, status: 403},
		{name: "foreign host that begins as ours", header: []string{"Host: localhost.evil.example"}, status: 403},
		{name: "foreign host that looks like an address", header: []string{"Host: 127.0.0.1.evil.example:9090"}, status: 403},
		{name: "foreign address on loopback", header: []string{"Host: 192.0.2.1:9090"}, status: 403},
		{name: "its own address", at: "192.0.2.1:9090", header: []string{"Host: 192.0.2.1:9090"}, status: 200},
		{name: "another address of a wildcard", at: ":9090", header: []string{"Host: [2001:db8::1]:9090"}, status: 200},
		{name: "a name on a wildcard", at: ":9090", header: []string{"Host: evil.example"}, status: 403},
		{name: "its name", at: "lb.example:9090", header: []string{"Host: LB.example:9090"}, status: 200},
		{name: "another name", at: "lb.example:9090", header: []string{"Host: evil.example:9090"}, status: 403},
		{name: "own page", header: []string{"Origin: http://127.0.0.1:9090"}, status: 200},
		{name: "foreign page", header: []string{"Origin: http://evil.example"}, status: 403},
		{name: "page of another port", header: []string{"Origin: http://127.0.0.1:8080"}, status: 403},
		{name: "page of another scheme", header: []string{"Origin: https://127.0.0.1:9090"}, status: 403},
		{name: "sandboxed page", header: []string{"Origin: null"}, status: 403},
		{name: "empty origin", header: []string{"Origin: "}, status: 403},
		{name: "own script", header: []string{"Sec-Fetch-Site: same-origin", "Sec-Fetch-Mode: no-cors", "Sec-Fetch-Dest: script"}, status: 200},
		{name: "typed by hand", header: []string{"Sec-Fetch-Site: none", "Sec-Fetch-Mode: navigate", "Sec-Fetch-Dest: document"}, status: 200},
		{name: "a link of a foreign page", header: []string{"Sec-Fetch-Site: cross-site", "Sec-Fetch-Mode: navigate", "Sec-Fetch-Dest: document"}, status: 200},
		{name: "an image of a foreign page", header: []string{"Sec-Fetch-Site: cross-site", "Sec-Fetch-Mode: no-cors", "Sec-Fetch-Dest: image"}, status: 403},
		{name: "a script on another port", header: []string{"Sec-Fetch-Site: same-site", "Sec-Fetch-Mode: no-cors", "Sec-Fetch-Dest: script"}, status: 403},
		{name: "a frame of a foreign page", header: []string{"Sec-Fetch-Site: cross-site", "Sec-Fetch-Mode: navigate", "Sec-Fetch-Dest: iframe"}, status: 403},
		{name: "two origins", header: []string{"Origin: http://127.0.0.1:9090", "Origin: http://evil.example"}, status: 403},

		{name: "change without a token file", method: "POST", header: []string{bearer}, status: 403},
		{name: "change without a token", token: token, method: "POST", status: 401},
		{name: "change with a wrong token", token: token, method: "POST", header: []string{"Authorization: Bearer s3cre"}, status: 401},
		{name: "change with an empty token", token: token, method: "POST", header: []string{"Authorization: Bearer "}, status: 401},
		{name: "change with another scheme", token: token, method: "POST", header: []string{"Authorization: Basic s3cret"}, status: 401},
		{name: "change with the token", token: token, method: "POST", header: []string{bearer}, status: 204},
		{name: "change with the token on a foreign page", token: token, method: "POST", header: []string{bearer, "Origin: http://evil.example"}, status: 403},
		{name: "change with the token to a foreign host", token: token, method: "POST", header: []string{bearer, "Host: evil.example"}, status: 403},
		{name: "token that all can read", token: tokenFile(t, 0o644, "s3cret"), method: "POST", header: []string{bearer}, status: 403},
		{name: "token that a group can read", token: tokenFile(t, 0o640, "s3cret"), method: "POST", header: []string{bearer}, status: 204},
		{name: "empty token file", token: tokenFile(t, 0o600, "\n"), method: "POST", header: []string{"Authorization: Bearer "}, status: 403},
		{name: "no token file", token: filepath.Join(t.TempDir(), "none"), method: "POST", header: []string{bearer}, status: 403},
		{name: "folder for a token file", token: t.TempDir(), method: "POST", header: []string{bearer}, status: 403},
		{name: "large token file", token: tokenFile(t, 0o600, strings.Repeat("s", maxToken+1)), method: "POST", header: []string{bearer}, status: 403},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			if tt.at == "" {
				tt.at = "9090"
			}
			at, err := config.ParseListener(tt.at)
			if err != nil {
				t.Fatal(err)
			}
			target := "/v1/services"
			if tt.method == "" {
				tt.method = "GET"
			} else {
				target = "/v1/reload"
			}
			w := ask(NewGuard(newFake().handler(), at, tt.token), tt.method, target, "", tt.header...)
			if w.Code != tt.status {
				t.Errorf("status %d, want %d: %s", w.Code, tt.status, w.Body)
			}
			if (w.Code == 401) != (w.Header().Get("WWW-Authenticate") != "") {
				t.Errorf("status %d with WWW-Authenticate %q", w.Code, w.Header().Get("WWW-Authenticate"))
			}
			if w.Code >= 400 && !strings.HasPrefix(w.Body.String(), `{"error":"`) {
				t.Errorf("the answer is %q", w.Body)
			}
			if err := CheckToken(tt.token); tt.token != "" && tt.method == "POST" && w.Code == 204 && err != nil {
				t.Errorf("CheckToken: %v", err)
			}
		})
	}
}

// A token that is written anew holds from then on.
func TestTokenIsReadAnew(t *testing.T) {
	t.Parallel()
	path := tokenFile(t, 0o600, "old")
	at, err := config.ParseListener("9090")
	if err != nil {
		t.Fatal(err)
	}
	g := NewGuard(newFake().handler(), at, path)
	for _, token := range []string{"old", "new"} {
		if err := os.WriteFile(path, []byte(token), 0o600); err != nil {
			t.Fatal(err)
		}
		if w := ask(g, "POST", "/v1/reload", "", "Authorization: bearer "+token); w.Code != 204 {
			t.Errorf("token %s: status %d", token, w.Code)
		}
	}
}
