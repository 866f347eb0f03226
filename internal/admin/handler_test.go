package admin

import (
	"errors"
	"fmt"
	"net"
	"net/http"
	"strings"
	"testing"

	"usher/internal/config"
	"usher/internal/configfile"
	"usher/internal/control"
	"usher/internal/reconcile"
	"usher/proxy"
	"usher/proxy/rules"
)

// TestAnswers: what is asked wrongly is refused with its status and the nearest word.
func TestAnswers(t *testing.T) {
	t.Parallel()
	f := newFake()
	h := f.handler()
	if w := ask(h, "POST", "/v1/services", "{name: web, listen: 8080, backends: 9001}"); w.Code != 201 || w.Header().Get("Location") != "/v1/services/web" {
		t.Fatalf("status %d: %s", w.Code, w.Body)
	}
	const kube = "/v1/services/default%2Fweb:http%2Fexternal"
	if w := ask(h, "POST", "/v1/services", "{name: 'default/web:http/external', listen: 8081, backends: 9001}"); w.Code != 201 || w.Header().Get("Location") != kube {
		t.Fatalf("status %d, %s: %s", w.Code, w.Header(), w.Body)
	}
	for _, tt := range []struct {
		method, target, body string
		status               int
		text                 string // in the answer
	}{
		{"GET", kube, "", 200, `{"services":[{"name":"default/web:http/external"`},
		{"GET", "/v1/services/default/web:http/external", "", 404, "no path"},
		{"GET", "/readyz?service=default/web:http/external", "", 200, "ok"},
		{"PATCH", kube, "{scheduler: lc}", 204, ""},
		{"POST", kube + "/backends", "9002", 204, ""},
		{"PUT", kube + "/backends/127.0.0.1:9002/override", `{"admin": "drain"}`, 204, ""},
		{"DELETE", kube + "/backends/127.0.0.1:9002", "", 204, ""},
		{"DELETE", kube, "", 204, ""},
		{"GET", "/v1/services", "", 200, `"name":"web"`},
		{"GET", "/v1/services/web", "", 200, `{"services":[{"name":"web"`},
		{"GET", "/v1/services/wep", "", 404, `did you mean \"web\"?`},
		{"GET", "/v1/service", "", 404, `did you mean \"/v1/services\"?`},
		{"GET", "/", "", 200, "<!doctype html>"},
		{"HEAD", "/", "", 200, ""},
		{"POST", "/", "", 405, "only GET"},
		{"GET", "/page/page.js", "", 200, "use strict"},
		{"GET", "/page/page.go", "", 404, `no file \"page.go\"`},
		{"GET", "/favicon.ico", "", 404, "no path"},
		{"PUT", "/v1/services", "", 405, "only GET, POST"},
		{"HEAD", "/v1/services", "", 200, ""},
		{"HEAD", "/v1/events", "", 405, ""},
		{"GET", "/v1/services?nam=x", "", 400, `unknown parameter \"nam\"`},
		{"GET", "/v1/services/web?nam=x", "", 400, "takes no parameters"},
		{"GET", "/v1/services?backends=false", "", 200, `"backends":[],`},
		{"GET", "/v1/services?backends=no", "", 400, `"no\" is neither true nor false`},
		{"GET", "/readyz?servise=x", "", 400, `did you mean \"service\"?`},
		{"GET", "/readyz?service=a&service=b", "", 400, "2 times"},
		{"GET", "/v1/flows?clinet=x", "", 400, `did you mean \"client\"?`},
		{"GET", "/v1/flows?top=x", "", 400, "top: "},
		{"DELETE", "/v1/flows", "", 400, "all=true"},
		{"DELETE", "/v1/flows?service=web&top=3", "", 400, "sort, top, rtt and sockets"},
		{"DELETE", "/v1/flows?all=true&service=%zz", "", 400, "the parameters"},
		{"DELETE", "/v1/flows?all=true;service=web", "", 400, "the parameters"},
		{"DELETE", "/v1/flows?service=web", "", 200, `{"killed":0}`},
		{"DELETE", "/v1/flows?all=true", "", 200, `{"killed":0}`},
		{"POST", "/v1/services/web/rebalance", "", 200, `{"ended":2,"surplus":2}` + "\n"},
		{"POST", "/v1/services/web/rebalance", `{"rate": 0.5}`, 200, `{"ended":0,"surplus":2}` + "\n"},
		{"POST", "/v1/services/web/rebalance", `{"rate": -1}`, 400, "at least 0"},
		{"POST", "/v1/services/web/rebalance", `{"rate": 13}`, 409, "service web cannot be rebalanced: unlucky"},
		{"POST", "/v1/services/web/rebalance", `{"rat": 1}`, 400, `did you mean \"rate\"?`},
		{"POST", "/v1/services/wep/rebalance", "", 404, `did you mean \"web\"?`},
		{"POST", "/v1/services", "", 400, "the body is empty"},
		{"POST", "/v1/services", "{name: db, listen: 1, backends: 2, schedulr: rr}", 400, `did you mean \"scheduler\"?`},
		{"POST", "/v1/services", "{name: web, listen: 1, backends: 2}", 409, "there is a service web already"},
		{"POST", "/v1/services", "{name: full, listen: 1, backends: 2}", 409, "no room for service full"},
		{"POST", "/v1/services", strings.Repeat(" ", maxBody+1), 413, "longer than 1048576 bytes"},
		{"PATCH", "/v1/services/web", "scheduler: mhh", 400, "scheduler"},
		{"PATCH", "/v1/services/wep", "scheduler: mh", 404, "web"},
		{"POST", "/v1/services/web/backends", "udp:9002", 400, "udp"},
		{"POST", "/v1/services/web/backends", "9001@3", 409, "service web has backend 127.0.0.1:9001 already"},
		{"POST", "/v1/services/web/backends", "{address: 9002, wieght: 3}", 400, `did you mean \"weight\"?`},
		{"PATCH", "/v1/services/web/backends/9001", "weight: 3", 204, ""}, // short for 127.0.0.1:9001
		{"PATCH", "/v1/services/web/backends/9003", "weight: 3", 404, "127.0.0.1:9001"},
		{"DELETE", "/v1/services/web/backends/unix:%2F%2F%2Frun%2Fx", "", 404, "unix:///run/x"},
		{"PUT", "/v1/services/web/backends/127.0.0.1:9001/override", "", 400, "admin state, a weight"},
		{"PUT", "/v1/services/web/backends/127.0.0.1:9001/override", `{"admin": "drian"}`, 400, `did you mean \"drain\"?`},
		{"PUT", "/v1/services/web/backends/127.0.0.1:9001/override", `{"wieght": 3}`, 400, `did you mean \"weight\"?`},
		{"PUT", "/v1/services/web/backends/127.0.0.1:9001/override", `{"weight": "3"}`, 400, "weight"},
		{"PUT", "/v1/services/web/backends/127.0.0.1:9001/override", `{"weight": 3, "timeout": "-1s"}`, 400, "timeout"},
		{"PUT", "/v1/services/web/backends/127.0.0.1:9001/override", `{"weight": 3, "timeout": "2562047h"}`, 400, "out of range (at most 8760h)"},
		{"PUT", "/v1/services/web/backends/127.0.0.1:9001/override", `{"weight": -1}`, 400, "weight -1 is out of range (0 to 2147483647)"},
		{"PUT", "/v1/services/web/backends/127.0.0.1:9001/override", `{"weight": 3} 4`, 400, "body"},
		{"PUT", "/v1/services/web/backends/127.0.0.1:9001/override", `[]`, 400, "no JSON object"},
		{"DELETE", "/v1/services/web/backends/127.0.0.1:9001/override", "", 404, "no such backend"},
		{"GET", "/v1/rules", "", 200, `{"chains":[{"name":"INPUT","policy":"ACCEPT","flows":0,"datagrams":0,"bytes":0,"rules":[]}]}`},
		{"PUT", "/v1/rules", "", 400, "a change of rules has rules"},
		{"PUT", "/v1/rules", `{"rule": []}`, 400, `did you mean \"rules\"?`},
		{"PUT", "/v1/rules", `{"rules": ["-s 10.0.0.0/8 -j DROP", "--dport 80 -j DROP"]}`, 400, `rule 2, --dport 80 -j DROP: unknown option \"--dport\"`},
		{"PUT", "/v1/rules", `{"rules": ["-j DROP"], "policy": "MAYBE"}`, 400, `unknown value \"MAYBE\"`},
		{"PUT", "/v1/rules", strings.Repeat(" ", maxRules+1), 413, "longer than 16777216 bytes"},
		{"PUT", "/v1/rules", `{"rules": ["-s 10.0.0.0/8 -j DROP"], "policy": "DROP"}`, 204, ""},
		{"POST", "/v1/rules", `{"rules": ["-j DROP", "-j web"]}`, 400, "rule 2, -j web: Chain 'web' does not exist"},
		{"POST", "/v1/rules", `{"rules": ["-N web", "-p udp -j web"]}`, 204, ""},
		{"GET", "/v1/rules", "", 200, `"rule":"-A INPUT -s 10.0.0.0/8 -j DROP"`},
		{"GET", "/v1/rules", "", 200, `"rule":"-A INPUT -p udp -j web"`},
		{"DELETE", "/v1/rules", "", 204, ""},
		{"GET", "/v1/rules", "", 200, `"rules":[]`},
		{"POST", "/v1/stop", `{"now": 1}`, 400, "now"},
		{"POST", "/v1/stop", "", 202, ""},
		{"POST", "/v1/upgrade", "", 409, "the binary is older"},
		{"GET", "/v1/openapi.yaml", "", 200, "openapi: 3.1.0"},
		{"GET", "/metrics", "", 200, "usher_up 1"},
		{"GET", "/healthz", "", 200, "ok\n"},
		{"GET", "/readyz", "", 200, "ok\n"},
		{"GET", "/readyz?service=web", "", 200, "ok\n"},
		{"GET", "/readyz?service=wep", "", 404, "web"},
		{"DELETE", "/v1/services/web/backends/127.0.0.1:9001", "", 204, ""},
		{"GET", "/readyz?service=web", "", 503, "service web is down"},
	} {
		w := ask(h, tt.method, tt.target, tt.body)
		if w.Code != tt.status || !strings.Contains(w.Body.String(), tt.text) {
			t.Errorf("%s %s %.80s: status %d, want %d with %q: %s", tt.method, tt.target, tt.body, w.Code, tt.status, tt.text, w.Body)
		}
	}
	f.unready = errors.New("usher drains")
	if w := ask(h, "GET", "/readyz", ""); w.Code != 503 || !strings.Contains(w.Body.String(), "usher drains") {
		t.Errorf("while it drains: status %d: %s", w.Code, w.Body)
	}
	if len(f.stopped) != 1 || len(f.killed) != 2 {
		t.Errorf("stopped %v, killed %v", f.stopped, f.killed)
	}
}

// TestStatuses: each error of the controller and the process has its HTTP status, also when another wraps it.
func TestStatuses(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		err    error
		status int
	}{
		{&control.NotFoundError{}, http.StatusNotFound},
		{reconcile.ErrNoBackend, http.StatusNotFound},
		{&control.OwnerError{}, http.StatusConflict},
		{&control.ConflictError{Err: &config.Error{}}, http.StatusConflict},
		{&control.FixedError{}, http.StatusConflict},
		{&control.RuleError{Err: rules.ErrLoop}, http.StatusBadRequest},
		{&control.RuleConflictError{Err: &config.Error{}}, http.StatusConflict},
		{&proxy.ListenError{Err: errors.New("in use")}, http.StatusConflict},
		{&net.DNSError{}, http.StatusConflict},
		{&config.Error{Other: "db"}, http.StatusConflict},
		{&config.Error{}, http.StatusBadRequest},
		{&configfile.Error{}, http.StatusBadRequest},
		{refused(&configfile.Error{}), http.StatusBadRequest},
		{refused(errors.New("no file")), http.StatusConflict},
		{control.ErrShutDown, http.StatusServiceUnavailable},
		{refused(control.ErrShutDown), http.StatusServiceUnavailable},
		{errors.New("a fault"), http.StatusInternalServerError},
	} {
		for _, err := range []error{tt.err, fmt.Errorf("wrapped: %w", tt.err)} {
			if got := statusOf(err); got != tt.status {
				t.Errorf("%T: status %d, want %d", tt.err, got, tt.status)
			}
		}
	}
}
