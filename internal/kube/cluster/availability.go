package cluster

import (
	"errors"
	"fmt"
	"sync"
	"time"

	"go.uber.org/zap"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
)

// verb is a kind of request, or the stream of events that a watch answers with.
type verb uint8

const (
	verbList verb = iota
	verbWatch
	verbStream
)

// request is one that is repeated until it succeeds.
type request struct {
	resource string
	verb     verb
}

// availability logs what is wrong with the API server: each trouble once while it lasts, and its end once.
type availability struct {
	server string
	log    *zap.Logger

	mu       sync.Mutex
	isSynced bool               // there is a last state
	troubles map[request]string // as logged
	since    time.Time          // when the first of them began
}

func newAvailability(server string, log *zap.Logger) *availability {
	return &availability{server: server, log: log, troubles: make(map[request]string)}
}

// failed logs a trouble that no other request has yet.
func (a *availability) failed(resource string, v verb, err error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if len(a.troubles) == 0 {
		a.since = time.Now()
	}
	trouble := explain(resource, err)
	isNew := true
	for _, t := range a.troubles {
		isNew = isNew && t != trouble
	}
	a.troubles[request{resource, v}] = trouble
	outcome := "; usher waits"
	if a.isSynced {
		outcome = "; the last state stands"
	}
	if isNew {
		a.log.Warn(trouble+outcome, zap.String("server", a.server), zap.Error(err))
	}
}

// synced has the log say that the last state stands, from now on.
func (a *availability) synced() {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.isSynced = true
}

// succeeded ends a trouble, and logs the end of the last one.
func (a *availability) succeeded(resource string, v verb) {
	a.mu.Lock()
	defer a.mu.Unlock()
	key := request{resource, v}
	if _, is := a.troubles[key]; !is {
		return
	}
	delete(a.troubles, key)
	if len(a.troubles) == 0 {
		a.log.Info("API server is back", zap.String("server", a.server), zap.Duration("after", time.Since(a.since)))
	}
}

// explain says what an error means and what to do.
func explain(resource string, err error) string {
	switch {
	case errors.Is(err, errEarly):
		return "API server ends every watch at once, so changes arrive late"
	case apierrors.IsUnauthorized(err):
		return "API server refuses the credentials: renew them in the kubeconfig, or restart the pod"
	case apierrors.IsForbidden(err):
		return fmt.Sprintf("API server does not let usher read %s: apply the ClusterRole of usher kube --print-manifests", resource)
	case apierrors.IsNotFound(err):
		return fmt.Sprintf("API server does not know %s: check its address, and that it is Kubernetes 1.21 or later", resource)
	}
	var status apierrors.APIStatus
	if errors.As(err, &status) {
		return "API server fails"
	}
	return "API server is lost"
}
