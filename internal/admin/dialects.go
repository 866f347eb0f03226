package admin

import (
	"context"
	"iter"
	"net/http"

	"usher/internal/api"
	"usher/internal/ipvsadm"
)

// Dialects are what answers ipvsadm and iptables: a *dialect.Server.
type Dialects interface {
	IPVS() ipvsadm.View
	IPVSService(ipvsadm.Key) ipvsadm.View
	IPVSLines() []string
	IPVSConnections() iter.Seq[ipvsadm.Connection]
	ChangeIPVS(ctx context.Context, lines []string) ([]api.LineError, error)
	Tables() api.Tables
	ChangeTables(context.Context, api.TableChange) (api.TableResult, error)
}

// showIPVS answers with what ipvsadm lists, whose text may be some megabytes.
func (h *Handler) showIPVS(w http.ResponseWriter, r *request) error {
	service := r.query.Get("service")
	if service == "" {
		return writeLong(w, h.dialects.IPVS())
	}
	key, err := ipvsadm.ParseKey(service)
	if err != nil {
		return badRequest("service=%.100q: %s", service, err)
	}
	return writeLong(w, h.dialects.IPVSService(key))
}

func (h *Handler) saveIPVS(w http.ResponseWriter, _ *request) error {
	return writeLong(w, api.Lines{Lines: h.dialects.IPVSLines()})
}

// writeLong answers with an object in pieces.
func writeLong(w http.ResponseWriter, v any) error {
	w.Header().Set("Content-Type", "application/json")
	out := newLines(w)
	_ = out.write(v)
	_ = out.flush() // or the reader is gone
	return nil
}

// listIPVSConnections answers with one object a line.
func (h *Handler) listIPVSConnections(w http.ResponseWriter, _ *request) error {
	w.Header().Set("Content-Type", ndjson)
	out := newLines(w)
	for c := range h.dialects.IPVSConnections() {
		if out.write(c) != nil {
			return nil // the reader is gone
		}
	}
	_ = out.flush()
	return nil
}

// changeIPVS answers with the lines that were refused. The others are in force.
func (h *Handler) changeIPVS(w http.ResponseWriter, r *request) error {
	var body api.Lines
	if err := decodeStrictly(r.body, &body); err != nil {
		return err
	}
	refusals, err := h.dialects.ChangeIPVS(r.Context(), body.Lines)
	if err != nil {
		return refused(err)
	}
	return writeJSON(w, api.LineErrors{Errors: refusals})
}

// showTables answers with the tables of iptables.
func (h *Handler) showTables(w http.ResponseWriter, _ *request) error {
	return writeLong(w, h.dialects.Tables())
}

// changeTables answers with what the program prints.
func (h *Handler) changeTables(w http.ResponseWriter, r *request) error {
	var body api.TableChange
	if err := decodeStrictly(r.body, &body); err != nil {
		return err
	}
	result, err := h.dialects.ChangeTables(r.Context(), body)
	if err != nil {
		return refused(err)
	}
	return writeJSON(w, result)
}
