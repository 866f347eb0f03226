// Package admin serves the API of package api over HTTP: on the control socket, and to be read on the admin address.
//
//	control socket ── Listener ─────────── Server ──────────▶ Handler ──▶ control.Controller, Process, metrics
//	                  user of the peer     bounds of time        ▲        a route a row, in routes.go
//	admin address ─── Listener ─────────── and room ──▶ Guard ───┘
//	                                                    Host, Origin, token
//
// At / a browser gets the page of package page, which asks the same API. Every other answer is JSON, or what its route says, and ends: a request, a body and a piece of an answer have bounds of time
// and size. A reader that is slow holds up nobody but itself.
package admin

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"iter"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"usher/internal/admin/page"
	"usher/internal/api"
	"usher/internal/config"
	"usher/internal/control"
	"usher/internal/reconcile"
)

// Controller is what the API shows and changes: a *control.Controller. Flows may be read slowly. A slow reader of
// events gets the count of those that it has missed.
type Controller interface {
	Services() []api.Service
	Overview() []api.Service // without the backends
	Service(name string) (api.Service, error)
	Plan() *config.Config
	Flows(control.FlowQuery) iter.Seq[api.Flow]
	Events(context.Context) iter.Seq[api.Event]
	FlowEvents(context.Context, control.FlowFilter) iter.Seq[[]api.FlowEvent]
	Rules() api.Rules

	Add(context.Context, control.Owner, *config.Service) error
	Update(ctx context.Context, owner control.Owner, service string, edit func(*config.Service) error) error
	Remove(ctx context.Context, owner control.Owner, service string) error
	SetOverride(ctx context.Context, service, address string, o reconcile.Override) error
	Resume(ctx context.Context, service, address string) error
	UpdateRules(ctx context.Context, owner control.Owner, edit func(*config.Rules) (*config.Rules, error)) error
	Kill(control.FlowFilter) api.Killed
	Rebalance(ctx context.Context, service string, rate float64, progress func(ended, of int)) error
}

// Process is the program around the controller.
type Process interface {
	Info() api.Process
	// Ready returns why the process does not serve clients: it starts or ends. It is nil if it serves.
	Ready() error
	// Reload reads the configuration file anew.
	Reload(context.Context) error
	// Upgrade replaces the process by a binary, "" for the one at the path of its own. It returns only an error: after a
	// success nobody is there to return to.
	Upgrade(ctx context.Context, binary string) error
	// Stop has the process end, and returns at once. With now flows are not waited for.
	Stop(now bool)
}

// Bounds of a request's body, in bytes.
const (
	maxBody    = 1 << 20
	maxRules   = 16 << 20
	maxDialect = 64 << 20 // of ipvsadm and iptables, which restore all at once
)

// Handler answers the requests of the API. It is safe for concurrent use.
type Handler struct {
	control  Controller
	dialects Dialects
	process  Process
	metrics  http.Handler
	page     *page.Page
	live     snapshots
	mux      *http.ServeMux
	timeout  time.Duration // for each piece of an answer
}

// NewHandler returns a handler. metrics answers /metrics.
func NewHandler(c Controller, d Dialects, p Process, metrics http.Handler) *Handler {
	h := &Handler{control: c, dialects: d, process: p, metrics: metrics, page: page.New(), mux: http.NewServeMux(), timeout: writeTimeout}
	paths := make(map[string]map[string]*route) // by pattern and method
	for i := range routes {
		r := &routes[i]
		pattern := r.pattern()
		if paths[pattern] == nil {
			paths[pattern] = make(map[string]*route)
		}
		paths[pattern][r.method] = r
	}
	for path, methods := range paths {
		h.mux.Handle(path, h.byMethod(methods))
	}
	h.mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		writeError(w, &statusError{http.StatusNotFound, fmt.Sprintf("no path %.100q%s", r.URL.Path, orHavePath(r.URL.Path))})
	})
	return h
}

// ServeHTTP answers one request.
func (h *Handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("X-Content-Type-Options", "nosniff")
	w.Header().Set("Cache-Control", "no-store")
	h.mux.ServeHTTP(&answer{w, http.NewResponseController(w), h.timeout}, r)
}

// answer gives each piece that is written a time of its own, so that a long answer may take long, but a reader that has
// stopped is noticed.
type answer struct {
	http.ResponseWriter
	control *http.ResponseController
	timeout time.Duration
}

// WriteHeader sends the status.
func (a *answer) WriteHeader(status int) {
	a.extend()
	a.ResponseWriter.WriteHeader(status)
}

// Write sends a piece of the answer.
func (a *answer) Write(p []byte) (int, error) {
	a.extend()
	return a.ResponseWriter.Write(p)
}

func (a *answer) extend() {
	_ = a.control.SetWriteDeadline(time.Now().Add(a.timeout)) // a recorder has none
}

// Unwrap is for http.ResponseController.
func (a *answer) Unwrap() http.ResponseWriter { return a.ResponseWriter }

// request is a request that has been read.
type request struct {
	*http.Request
	query url.Values
	body  []byte
}

// byMethod serves the routes of one path.
func (h *Handler) byMethod(methods map[string]*route) http.HandlerFunc {
	var allowed []string
	for m := range methods {
		allowed = append(allowed, m)
	}
	slices.Sort(allowed)
	allow := strings.Join(allowed, ", ")
	return func(w http.ResponseWriter, r *http.Request) {
		route := methods[r.Method]
		if get := methods[http.MethodGet]; r.Method == http.MethodHead && get != nil && !get.isStream {
			route = get
		}
		if route == nil {
			w.Header().Set("Allow", allow)
			writeError(w, &statusError{http.StatusMethodNotAllowed, fmt.Sprintf("%s %.100s: only %s", r.Method, r.URL.Path, allow)})
			return
		}
		if err := h.serve(route, w, r); err != nil {
			writeError(w, err)
		}
	}
}

// serve answers with a route. After an error nothing was written.
func (h *Handler) serve(route *route, w http.ResponseWriter, r *http.Request) error {
	in, err := read(route, w, r)
	if err != nil {
		return err
	}
	// The time to read is that of the request. A later end of it would end the context of a long answer.
	_ = http.NewResponseController(w).SetReadDeadline(time.Time{})
	if route.isStream {
		ctx, leave, err := enterStream(r.Context())
		if err != nil {
			return err
		}
		defer leave()
		in.Request = r.WithContext(ctx)
	}
	return route.serve(h, w, in)
}

// read reads what a route takes.
func read(route *route, w http.ResponseWriter, r *http.Request) (*request, error) {
	// A parameter that cannot be read may be the one that says which flows are to end.
	query, err := url.ParseQuery(r.URL.RawQuery)
	if err != nil {
		return nil, badRequest("the parameters: %v", err)
	}
	in := &request{Request: r, query: query}
	if !route.isFlowQuery {
		if err := checkQuery(r.URL.Path, query, route.query); err != nil {
			return nil, err
		}
	}
	if !route.hasBody {
		return in, nil
	}
	most := cmp.Or(route.bodyMost, maxBody)
	in.body, err = io.ReadAll(http.MaxBytesReader(w, r.Body, most))
	switch {
	case is[*http.MaxBytesError](err):
		return nil, &statusError{http.StatusRequestEntityTooLarge, fmt.Sprintf("the body is longer than %d bytes", most)}
	case err != nil:
		return nil, badRequest("read the body: %v", err)
	}
	return in, nil
}

// checkQuery refuses parameters that a route does not know, and those that are there twice.
func checkQuery(path string, query url.Values, have []string) error {
	for _, name := range slices.Sorted(maps.Keys(query)) {
		switch {
		case !slices.Contains(have, name) && len(have) == 0:
			return badRequest("%s takes no parameters, but there is %.100q", path, name)
		case !slices.Contains(have, name):
			return badRequest("unknown parameter %.100q%s", name, config.OrHave(name, have))
		case len(query[name]) > 1:
			return badRequest("the parameter %s is there %d times", name, len(query[name]))
		}
	}
	return nil
}

// writeJSON answers with an object.
func writeJSON(w http.ResponseWriter, v any) error {
	text, err := json.Marshal(v)
	if err != nil {
		return err
	}
	w.Header().Set("Content-Type", "application/json")
	_, _ = w.Write(append(text, '\n')) // or the reader is gone
	return nil
}

// done answers a change.
func done(w http.ResponseWriter) error {
	w.WriteHeader(http.StatusNoContent)
	return nil
}
