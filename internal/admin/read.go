package admin

import (
	"bufio"
	"encoding/json"
	"fmt"
	"net/http"
	"strconv"

	"usher/internal/api"
	"usher/internal/configfile"
	"usher/internal/control"
)

// listServices answers with a list whose text is never there as a whole.
func (h *Handler) listServices(w http.ResponseWriter, r *request) error {
	list := h.control.Services
	if word := r.query.Get("backends"); word != "" {
		isWanted, err := strconv.ParseBool(word)
		if err != nil {
			return badRequest("backends: %q is neither true nor false", word)
		}
		if !isWanted {
			list = h.control.Overview
		}
	}
	w.Header().Set("Content-Type", "application/json")
	out := newLines(w)
	_ = out.text(`{"services":[`)
	separator := ""
	for _, s := range list() {
		if out.text(separator) != nil || out.write(s) != nil {
			return nil // the reader is gone
		}
		separator = ","
	}
	_ = out.text("]}\n")
	_ = out.flush()
	return nil
}

// showService answers with a list, so that commands show one service as they show all.
func (h *Handler) showService(w http.ResponseWriter, r *request) error {
	s, err := h.control.Service(r.PathValue("name"))
	if err != nil {
		return err
	}
	return writeJSON(w, api.Services{Services: []api.Service{s}})
}

func (h *Handler) showConfig(w http.ResponseWriter, _ *request) error {
	return writeText(w, "application/yaml", configfile.Encode(h.control.Plan()))
}

func (h *Handler) showProcess(w http.ResponseWriter, _ *request) error {
	return writeJSON(w, h.process.Info())
}

func (h *Handler) describe(w http.ResponseWriter, _ *request) error {
	return writeText(w, "application/yaml", api.Description())
}

func (h *Handler) showMetrics(w http.ResponseWriter, r *request) error {
	h.metrics.ServeHTTP(w, r.Request)
	return nil
}

// showHealth answers as long as the process lives.
func (h *Handler) showHealth(w http.ResponseWriter, _ *request) error {
	return writeText(w, "text/plain; charset=utf-8", []byte("ok\n"))
}

// showReady answers whether clients should come: not while usher starts or drains; with a service, not while that is
// down. One service that is down does not take the others out of use.
func (h *Handler) showReady(w http.ResponseWriter, r *request) error {
	if err := h.process.Ready(); err != nil {
		return &statusError{http.StatusServiceUnavailable, err.Error()}
	}
	if name := r.query.Get("service"); name != "" {
		s, err := h.control.Service(name)
		if err != nil {
			return err
		}
		if s.Status == "down" {
			return &statusError{http.StatusServiceUnavailable, fmt.Sprintf("service %s is down: it has no backend in use", name)}
		}
	}
	return writeText(w, "text/plain; charset=utf-8", []byte("ok\n"))
}

// showPage answers with a file of the page.
func (h *Handler) showPage(w http.ResponseWriter, r *request) error {
	if name := r.PathValue("file"); !h.page.Serve(w, r.Request, name) {
		return &statusError{http.StatusNotFound, fmt.Sprintf("the page has no file %.100q", name)}
	}
	return nil
}

func writeText(w http.ResponseWriter, kind string, text []byte) error {
	w.Header().Set("Content-Type", kind)
	_, _ = w.Write(text) // or the reader is gone
	return nil
}

// listFlows answers with one object a line, as they come out of the connection table.
func (h *Handler) listFlows(w http.ResponseWriter, r *request) error {
	query, err := control.ParseFlowQuery(r.query)
	if err != nil {
		return err
	}
	w.Header().Set("Content-Type", ndjson)
	lines := newLines(w)
	for f := range h.control.Flows(query) {
		if lines.write(f) != nil {
			return nil
		}
	}
	lines.flush()
	return nil
}

// followEvents answers with one object a line until the reader goes, or usher ends.
func (h *Handler) followEvents(w http.ResponseWriter, r *request) error {
	events := h.control.Events(r.Context()) // from now on
	w.Header().Set("Content-Type", ndjson)
	lines := newLines(w)
	lines.flush() // the reader sees that it follows
	for e := range events {
		if lines.write(e) != nil || lines.flush() != nil {
			return nil
		}
	}
	return nil
}

// followFlows is followEvents for flows.
func (h *Handler) followFlows(w http.ResponseWriter, r *request) error {
	query, err := control.ParseFlowQuery(r.query)
	switch {
	case err != nil:
		return err
	case query.Sort != "" || query.Top != 0 || query.All:
		return badRequest("sort, top and all are for lists of flows: events come as they happen")
	}
	events := h.control.FlowEvents(r.Context(), query.FlowFilter) // from now on
	w.Header().Set("Content-Type", ndjson)
	lines := newLines(w)
	lines.flush()
	for some := range events {
		for i := range some {
			if lines.write(&some[i]) != nil {
				return nil
			}
		}
		if lines.flush() != nil {
			return nil
		}
	}
	return nil
}

const ndjson = "application/x-ndjson"

// lines writes objects, one a line. What it keeps is bounded, and leaves when it is full.
type lines struct {
	encoder *json.Encoder
	buffer  *bufio.Writer
	control *http.ResponseController
}

func newLines(w http.ResponseWriter) *lines {
	const room = 32 << 10
	l := &lines{buffer: bufio.NewWriterSize(w, room), control: http.NewResponseController(w)}
	l.encoder = json.NewEncoder(l.buffer)
	l.encoder.SetEscapeHTML(false)
	return l
}

func (l *lines) text(s string) error {
	_, err := l.buffer.WriteString(s)
	return err
}

func (l *lines) write(v any) error { return l.encoder.Encode(v) }

// flush sends what was written.
func (l *lines) flush() error {
	if err := l.buffer.Flush(); err != nil {
		return err
	}
	return l.control.Flush()
}
