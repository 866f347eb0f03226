package admin

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"reflect"
	"slices"
	"strings"
	"time"

	"usher/balancer"
	"usher/internal/api"
	"usher/internal/config"
	"usher/internal/configfile"
	"usher/internal/control"
	"usher/internal/reconcile"
)

func (h *Handler) addService(w http.ResponseWriter, r *request) error {
	s, err := configfile.DecodeService("", r.body)
	if err != nil {
		return err
	}
	if err := h.control.Add(r.Context(), control.API, s); err != nil {
		return refused(err)
	}
	w.Header().Set("Location", servicesPath+"/"+url.PathEscape(s.Name))
	w.WriteHeader(http.StatusCreated)
	return nil
}

func (h *Handler) setService(w http.ResponseWriter, r *request) error {
	edit, err := configfile.DecodeChange(r.body)
	if err != nil {
		return err
	}
	return h.update(w, r, edit)
}

// update changes the service of the request, if it is the API's.
func (h *Handler) update(w http.ResponseWriter, r *request, edit func(*config.Service) error) error {
	if err := h.control.Update(r.Context(), control.API, r.PathValue("name"), edit); err != nil {
		return refused(err)
	}
	return done(w)
}

func (h *Handler) removeService(w http.ResponseWriter, r *request) error {
	if err := h.control.Remove(r.Context(), control.API, r.PathValue("name")); err != nil {
		return refused(err)
	}
	return done(w)
}

func (h *Handler) addBackend(w http.ResponseWriter, r *request) error {
	return h.update(w, r, func(s *config.Service) error {
		all, err := configfile.DecodeBackend(r.body, s.Network())
		if err != nil {
			return err
		}
		has := make(map[config.Addr]bool, len(s.Backends))
		for i := range s.Backends {
			has[s.Backends[i].Addr] = true
		}
		for _, b := range all {
			if has[b.Addr] {
				return &statusError{http.StatusConflict, fmt.Sprintf("service %s has backend %s already", s.Name, b.Addr)}
			}
			if err := s.AddBackend(b); err != nil {
				return err
			}
		}
		return nil
	})
}

func (h *Handler) setBackend(w http.ResponseWriter, r *request) error {
	edit, err := configfile.DecodeBackendChange(r.body)
	if err != nil {
		return err
	}
	return h.update(w, r, func(s *config.Service) error {
		at, err := findBackend(s, r.PathValue("address"))
		if err != nil {
			return err
		}
		return edit(&s.Backends[at])
	})
}

func (h *Handler) removeBackend(w http.ResponseWriter, r *request) error {
	return h.update(w, r, func(s *config.Service) error {
		at, err := findBackend(s, r.PathValue("address"))
		if err != nil {
			return err
		}
		s.Backends = slices.Delete(s.Backends, at, at+1)
		return nil
	})
}

// findBackend returns the index of a backend, which may be written in any way that a file allows.
func findBackend(s *config.Service, word string) (int, error) {
	address := word
	if b, err := config.ParseBackend(word, s.Network()); err == nil {
		address = b.Addr.String()
	}
	have := make([]string, len(s.Backends))
	for i := range s.Backends {
		have[i] = s.Backends[i].Addr.String()
		if have[i] == address {
			return i, nil
		}
	}
	return 0, &control.NotFoundError{Kind: "backend", Name: word, Service: s.Name, Have: have}
}

func (h *Handler) setOverride(w http.ResponseWriter, r *request) error {
	var body api.Override
	if err := decodeStrictly(r.body, &body); err != nil {
		return err
	}
	o := reconcile.Override{Weight: body.Weight}
	if body.Admin != "" {
		words := []string{"ready", "drain", "maint"} // as balancer.AdminState counts them
		at := slices.Index(words, body.Admin)
		if at < 0 {
			return badRequest("admin: unknown state %.100q%s", body.Admin, config.OrHave(body.Admin, words))
		}
		state := balancer.AdminState(at)
		o.Admin = &state
	}
	if o.Admin == nil && o.Weight == nil {
		return badRequest("an override has an admin state, a weight, or both")
	}
	if body.Timeout != "" {
		timeout, err := time.ParseDuration(body.Timeout)
		if err != nil || timeout <= 0 {
			return badRequest("timeout: %.100q is not a time such as 30s or 10m", body.Timeout)
		}
		o.Timeout = timeout
	}
	if err := o.Check(); err != nil {
		return badRequest("%v", err)
	}
	if err := h.control.SetOverride(r.Context(), r.PathValue("name"), r.PathValue("address"), o); err != nil {
		return err
	}
	return done(w)
}

func (h *Handler) resume(w http.ResponseWriter, r *request) error {
	if err := h.control.Resume(r.Context(), r.PathValue("name"), r.PathValue("address")); err != nil {
		return err
	}
	return done(w)
}

// killFlows ends what a filter lets through. An empty filter has to say that it means all.
func (h *Handler) killFlows(w http.ResponseWriter, r *request) error {
	query, err := control.ParseFlowQuery(r.query)
	switch {
	case err != nil:
		return err
	case query.Sort != "" || query.Top != 0 || query.RTT || query.Sockets:
		return badRequest("sort, top, rtt and sockets are for reading flows: which end is up to the filter")
	case query.IsAll() && !query.All:
		return badRequest("no filter means all flows: say all=true to end them")
	}
	return writeJSON(w, h.control.Kill(query.FlowFilter))
}

// rebalance answers with its progress, one object a line. It ends with its reader.
func (h *Handler) rebalance(w http.ResponseWriter, r *request) error {
	var body api.Rebalance
	if err := decodeStrictly(r.body, &body); err != nil {
		return err
	}
	if body.Rate < 0 {
		return badRequest("rate %v: flows to end a second are at least 0", body.Rate)
	}
	ctx, cancel := context.WithCancel(r.Context())
	defer cancel()
	var lines *lines
	err := h.control.Rebalance(ctx, r.PathValue("name"), body.Rate, func(ended, of int) {
		if lines == nil {
			w.Header().Set("Content-Type", ndjson)
			lines = newLines(w)
		}
		if lines.write(api.Rebalanced{Ended: ended, Surplus: of}) != nil || lines.flush() != nil {
			cancel()
		}
	})
	if lines != nil {
		return nil // the lines say how far it is
	}
	return err
}

func (h *Handler) reload(w http.ResponseWriter, r *request) error {
	if err := h.process.Reload(r.Context()); err != nil {
		return refused(err)
	}
	return done(w)
}

func (h *Handler) upgrade(w http.ResponseWriter, r *request) error {
	var body api.Upgrade
	if err := decodeStrictly(r.body, &body); err != nil {
		return err
	}
	if err := h.process.Upgrade(r.Context(), body.Binary); err != nil {
		return refused(err)
	}
	return done(w)
}

func (h *Handler) stop(w http.ResponseWriter, r *request) error {
	var body api.Stop
	if err := decodeStrictly(r.body, &body); err != nil {
		return err
	}
	h.process.Stop(body.Now)
	w.WriteHeader(http.StatusAccepted)
	return nil
}

// decodeStrictly decodes a JSON object into a struct that v points to. An empty body leaves it as it is. Keys that the
// struct does not have are errors.
func decodeStrictly(body []byte, v any) error {
	if len(bytes.TrimSpace(body)) == 0 {
		return nil
	}
	var keys map[string]json.RawMessage
	if err := json.Unmarshal(body, &keys); err != nil {
		return badRequest("the body is no JSON object: %v", err)
	}
	have := keysOf(reflect.TypeOf(v).Elem())
	for key := range keys {
		if !slices.Contains(have, key) {
			return badRequest("unknown key %.100q%s", key, config.OrHave(key, have))
		}
	}
	d := json.NewDecoder(bytes.NewReader(body))
	if err := d.Decode(v); err != nil {
		return badRequest("the body: %s", strings.TrimPrefix(err.Error(), "json: "))
	}
	if _, err := d.Token(); err != io.EOF {
		return badRequest("the body goes on behind its object")
	}
	return nil
}

// keysOf returns the keys of a struct's JSON.
func keysOf(t reflect.Type) []string {
	keys := make([]string, t.NumField())
	for i := range keys {
		keys[i], _, _ = strings.Cut(t.Field(i).Tag.Get("json"), ",")
	}
	return keys
}
