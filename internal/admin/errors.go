package admin

import (
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"

	"usher/internal/api"
	"usher/internal/config"
	"usher/internal/configfile"
	"usher/internal/control"
	"usher/internal/reconcile"
	"usher/proxy"
)

// statusError is an error that has its status.
type statusError struct {
	status int
	text   string
}

func (e *statusError) Error() string { return e.text }

func badRequest(format string, args ...any) error {
	return &statusError{http.StatusBadRequest, fmt.Sprintf(format, args...)}
}

// refusedError is a refusal by the process or the controller. It is not a mistake in the request:
// for example reserves that are too large for all services together, or a file that is gone.
type refusedError struct{ error }

func (e refusedError) Unwrap() error { return e.error }

func refused(err error) error { return refusedError{err} }

// statusOf returns the HTTP status of an error.
func statusOf(err error) int {
	if e, ok := errors.AsType[*statusError](err); ok {
		return e.status
	}
	if e, ok := errors.AsType[*config.Error](err); ok && e.Other != "" {
		return http.StatusConflict // with another service
	}
	switch {
	case errors.Is(err, control.ErrShutDown):
		return http.StatusServiceUnavailable
	case is[*control.NotFoundError](err), errors.Is(err, reconcile.ErrNoBackend):
		return http.StatusNotFound
	case is[*control.OwnerError](err), is[*control.ConflictError](err), is[*control.FixedError](err),
		is[*control.RuleConflictError](err),
		is[*control.RebalanceError](err), is[*proxy.ListenError](err), is[*net.DNSError](err):
		return http.StatusConflict
	case is[*config.Error](err), is[*configfile.Error](err), is[*control.RuleError](err), is[*control.FlowQueryError](err):
		return http.StatusBadRequest
	case is[refusedError](err):
		return http.StatusConflict
	}
	return http.StatusInternalServerError
}

func is[E error](err error) bool {
	_, ok := errors.AsType[E](err)
	return ok
}

// writeError answers with an error.
func writeError(w http.ResponseWriter, err error) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(statusOf(err))
	_, _ = w.Write(errorText(err)) // or the reader is gone
}

// errorText is the body of an error.
func errorText(err error) []byte {
	text, _ := json.Marshal(api.Error{Error: err.Error()}) // a string always can
	return append(text, '\n')
}
