package kube

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"time"

	"go.uber.org/zap"

	"usher/internal/app"
	"usher/internal/control"
	"usher/internal/kube/assign"
	"usher/internal/kube/clusterip"
	"usher/internal/kube/faces"
	"usher/internal/kube/objects"
	"usher/internal/kube/planner"
	"usher/internal/metrics"
	"usher/internal/reach"
)

// engine plans what has changed and makes it run. One goroutine at a time calls its methods, but those of other files that
// say otherwise.
type engine struct {
	control  *control.Controller
	log      *zap.Logger
	settings settings

	store   *objects.Store
	news    chan struct{} // has room for one: a Take is due
	machine *machine
	env     planner.Env
	places  *clusterip.Map
	balance *assign.LoadBalancers // nil: load balancers get no addresses here
	status  *status               // nil: their addresses are written nowhere
	book    *book
	report  *report
	retry   retry
	pending pending
	failure string // of the last change, logged already; empty: it is served

	dns   *resolver // nil: names are not served
	faces *faces.Faces
}

// newEngine opens what is served beside Services.
func newEngine(s settings, from origin, h app.SourceHost, log *zap.Logger) (*engine, error) {
	e := &engine{
		control: h.Control, log: log, settings: s, store: objects.New(), news: make(chan struct{}, 1),
		book: newBook(), report: newReport(log, h.Control.Publish),
	}
	e.pending.clear()
	ports, err := parsePrefixes(s.NodePortAddresses)
	if err != nil {
		return nil, err
	}
	name, isGiven := s.node()
	e.machine = &machine{name: name, isGiven: isGiven, ports: ports, interfaces: interfaceAddrs, log: log}
	if err := e.openAddresses(from); err != nil {
		return nil, err
	}
	if e.dns, err = openResolver(&s, log); err != nil {
		return nil, err
	}
	e.faces = faces.New(faces.Options{
		Healthz: s.Healthz, Metrics: s.Metrics, Usher: metrics.Registry(h.Control.Server(), h.Process), Seen: e.store.Seen, Log: log,
	})
	return e, nil
}

// openAddresses makes what gives ClusterIPs and load balancers their addresses.
func (e *engine) openAddresses(from origin) error {
	var reserved []netip.Prefix
	if e.settings.AssignLB != "" {
		prefix, err := netip.ParsePrefix(e.settings.AssignLB)
		if err != nil {
			return err
		}
		if e.balance, err = assign.New(prefix); err != nil {
			return err
		}
		reserved = append(reserved, prefix)
		if w, is := from.(statusWriter); is {
			e.status = newStatus(w, e.log)
		}
	}
	e.places = clusterip.New(e.settings.ClusterIPs, reach.Probe, reserved...)
	e.env = planner.Env{
		ExternalIPs: e.settings.ExternalIPs, Listen: e.places.Listen, LowPort: reach.LowPort(),
		LoopbackEndpoints: e.settings.Manifests != "", Options: e.settings.Options,
	}
	return nil
}

// close ends what newEngine has opened.
func (e *engine) close() {
	e.faces.Close()
	e.dns.close()
}

// first plans all Services and makes them run in one change.
func (e *engine) first(ctx context.Context) error {
	began := time.Now()
	e.faces.Queued()
	changes := e.store.Take()
	if e.balance != nil {
		for _, key := range changes.Services {
			if in, is := e.store.Input(key); is {
				e.balance.Claim(key, in.Service)
			}
		}
	}
	e.renewEnv()
	if err := e.apply(ctx, changes.Services, change{began: began, seen: changes.Seen, isFull: true}); err != nil {
		return err
	}
	e.tellPlaces()
	e.log.Info("synced", zap.Int("services", len(e.book.entries)), zap.Int("endpoints", e.book.endpoints), zap.Duration("took", time.Since(began)))
	return nil
}

// tellPlaces logs how ClusterIPs are listened on.
func (e *engine) tellPlaces() {
	for _, sentence := range e.places.Summary() {
		e.log.Info(sentence)
	}
}

// interfacesEvery is how often the addresses of this machine are looked at.
const interfacesEvery = 30 * time.Second

// notice has each change of the store counted as queued, and planned, until ctx ends. Any goroutine may call it.
func (e *engine) notice(ctx context.Context) {
	for {
		select {
		case <-e.store.Changed():
		case <-ctx.Done():
			return
		}
		e.faces.Queued()
		select {
		case e.news <- struct{}{}:
		default: // a Take is due already
		}
	}
}

// follow keeps what runs as the store says, until ctx ends. The end of the origin ends it too.
func (e *engine) follow(ctx context.Context, ended <-chan error) error {
	interfaces := time.NewTicker(interfacesEvery)
	defer interfaces.Stop()
	defer e.retry.stop()
	for {
		var err error
		select {
		case <-ctx.Done():
			return nil
		case err := <-ended:
			if ctx.Err() != nil {
				return nil
			}
			return fmt.Errorf("objects are not followed any more: %w", err)
		case <-e.news:
			err = e.step(ctx)
		case <-interfaces.C:
			err = e.renew(ctx)
		case <-e.retry.due():
			e.retry.took()
			err = e.again(ctx)
		}
		switch {
		case errors.Is(err, control.ErrShutDown) || ctx.Err() != nil:
			return nil
		case err != nil:
			e.retry.arm()
		}
		e.logFailure(err)
	}
}

// logFailure logs why changes are not served, once while the reason lasts; nil: they are.
func (e *engine) logFailure(err error) {
	failure := ""
	if err != nil {
		failure = err.Error()
	}
	if failure != "" && failure != e.failure {
		e.log.Error("changes are not served, usher tries again", zap.Error(err))
	}
	e.failure = failure
}

// step plans what has changed since the last one.
func (e *engine) step(ctx context.Context) error {
	began := time.Now()
	changes := e.store.Take()
	keys, c := changes.Services, change{began: began, seen: changes.Seen}
	if changes.Nodes && e.renewEnv() {
		keys, c.isFull = e.all(keys), true
	}
	return e.apply(ctx, keys, c)
}

// renew plans all Services if the addresses or the routes of this machine have changed.
func (e *engine) renew(ctx context.Context) error {
	areMoved := e.places.Refresh()
	if areMoved {
		e.tellPlaces()
	}
	if !e.renewEnv() && !areMoved {
		return nil
	}
	return e.apply(ctx, e.all(nil), change{began: time.Now(), seen: e.pending.seen, isFull: true})
}

// all returns the names of all Services, and those of Services that are gone.
func (e *engine) all(changed []planner.Key) []planner.Key {
	keys := e.store.ServiceKeys()
	for _, key := range changed {
		if e.store.Service(key) == nil {
			keys = append(keys, key)
		}
	}
	return keys
}

// again tries what could not be served.
func (e *engine) again(ctx context.Context) error {
	if len(e.pending.records) > 0 {
		return e.apply(ctx, nil, change{began: time.Now(), seen: e.pending.seen})
	}
	refusals, err := e.control.RetryRefused(ctx, control.Kube)
	if err != nil {
		return err
	}
	e.refused(refusals)
	e.serveHealth(true)
	e.needRetry(len(refusals) > 0)
	return nil
}

// renewEnv makes the env anew, and reports whether it differs from the one before.
func (e *engine) renewEnv() bool {
	node, found := e.machine.node(e.store)
	if e.machine.isNode(found) {
		e.faces.SetNode(found)
	}
	ports := e.machine.nodePorts(node.Name != "")
	if node.Name == e.env.Node.Name && node.Zone == e.env.Node.Zone && slices.Equal(node.Local, e.env.Node.Local) && slices.Equal(ports, e.env.NodePorts) {
		return false
	}
	e.env.Node, e.env.NodePorts = node, ports
	return true
}
