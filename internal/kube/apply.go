package kube

import (
	"context"
	"net/netip"
	"reflect"
	"slices"
	"strings"
	"time"

	"go.uber.org/zap"
	corev1 "k8s.io/api/core/v1"

	"usher/internal/control"
	"usher/internal/kube/faces"
	"usher/internal/kube/objects"
	"usher/internal/kube/planner"
)

// change says where some planned Services come from.
type change struct {
	began  time.Time // of the Take
	seen   objects.Seen
	isFull bool
}

// pending is what is planned, and not served yet.
type pending struct {
	records   map[planner.Key]*planner.Record // nil: the Service is gone
	triggered []time.Time
	seen      objects.Seen // also once it is served
}

func (p *pending) clear() {
	p.records, p.triggered = make(map[planner.Key]*planner.Record), nil
}

// Reasons of problems beside those of the planner.
const (
	notAssigned = "NoLoadBalancerAddress"
	refused     = "CannotListen"
	noHealth    = "CannotServeHealth"
)

// apply plans the Services of these names and makes them run, in one change. After an error they are pending, and the
// ones of before run.
func (e *engine) apply(ctx context.Context, keys []planner.Key, c change) error {
	e.pending.seen = c.seen
	for _, key := range keys {
		e.plan(key)
	}
	if e.balance != nil {
		for freed := e.balance.Freed(); len(freed) > 0; freed = e.balance.Freed() { // by Services of keys, and by these
			for _, key := range freed {
				e.plan(key)
			}
		}
	}
	refusals, err := e.control.ReplaceSound(ctx, control.Kube, control.Part{Services: e.book.services()})
	if err != nil {
		return err
	}
	e.refused(refusals)
	e.serveHealth(false)
	e.needRetry(len(refusals) > 0)
	for key, record := range e.pending.records {
		e.dns.set(key, record)
	}
	e.faces.Applied(faces.Applied{
		Began: c.began, Seen: c.seen, IsFull: c.isFull, Triggered: e.pending.triggered,
		NoLocalInternal: e.book.noLocalInternal, NoLocalExternal: e.book.noLocalExternal,
	})
	e.pending.clear()
	return nil
}

// plan puts what a Service needs into the book.
func (e *engine) plan(key planner.Key) {
	in, is := e.store.Input(key)
	if !is {
		e.forget(key)
		return
	}
	e.places.Set(key, clusterIPs(in.Service))
	problems := e.assign(key, &in)
	result := planner.Plan(in, &e.env)
	e.report.set(key, planned, append(problems, result.Problems...))
	if e.book.isTriggered(key, result.Triggered) {
		e.pending.triggered = append(e.pending.triggered, result.Triggered)
	}
	e.book.set(key, &result)
	e.pending.records[key] = &result.Record
	e.log.Debug("service planned", zap.Stringer("service", key), zap.Int("ports", len(result.Services)), zap.Int("endpoints", result.Endpoints))
}

// forget takes all from a Service that is gone.
func (e *engine) forget(key planner.Key) {
	e.places.Set(key, nil)
	if e.balance != nil {
		_, _ = e.balance.For(key, nil)
	}
	e.status.set(key, netip.Addr{})
	e.report.set(key, planned, nil)
	e.book.set(key, nil)
	e.pending.records[key] = nil
}

// assign gives a Service of type LoadBalancer its address. The plan has it at once, the status in the cluster later.
func (e *engine) assign(key planner.Key, in *planner.Input) []planner.Problem {
	if e.balance == nil {
		return nil
	}
	addr, err := e.balance.For(key, in.Service)
	e.status.set(key, addr)
	if err != nil {
		return []planner.Problem{{Reason: notAssigned, Message: err.Error()}}
	}
	if addr.IsValid() {
		vip, s := corev1.LoadBalancerIPModeVIP, *in.Service
		s.Status.LoadBalancer.Ingress = []corev1.LoadBalancerIngress{{IP: addr.String(), IPMode: &vip}}
		in.Service = &s
	}
	return nil
}

// refused reports what cannot be had, all of it.
func (e *engine) refused(refusals []control.Refusal) {
	e.report.replace(listening, problemsOf(refusals))
}

// maxRefusals bounds the problems of one Service that are said: it may have thousands of ports.
const maxRefusals = 20

// problemsOf returns the first refusals of each Service, each once.
func problemsOf(refusals []control.Refusal) map[planner.Key][]planner.Problem {
	byKey := make(map[planner.Key][]planner.Problem)
	for _, r := range refusals {
		key, p := keyOf(r.Service), planner.Problem{Reason: refused, Message: r.Err.Error()}
		switch all := byKey[key]; {
		case len(all) > maxRefusals || slices.Contains(all, p):
		case len(all) == maxRefusals:
			byKey[key] = append(all, planner.Problem{Reason: refused, Message: "more ports of this Service cannot be had"})
		default:
			byKey[key] = append(all, p)
		}
	}
	return byKey
}

// needRetry has what cannot be had tried again: listeners or services, and healthCheckNodePorts.
func (e *engine) needRetry(hasRefusals bool) {
	e.retry.need(hasRefusals || e.book.served.hasFailed, e.book.released())
}

// keyOf returns the Service of one of usher's services: NAMESPACE/NAME[:PORT][/...].
func keyOf(service string) planner.Key {
	namespace, rest, _ := strings.Cut(service, "/")
	if i := strings.IndexAny(rest, ":/"); i >= 0 {
		rest = rest[:i]
	}
	return planner.Key{Namespace: namespace, Name: rest}
}

// serveHealth serves the healthCheckNodePorts, if they have changed or isRetry.
func (e *engine) serveHealth(isRetry bool) {
	health := e.book.healthPorts()
	before := e.book.served
	if isRetry && !before.hasFailed || !isRetry && reflect.DeepEqual(health, before.health) && slices.Equal(e.env.NodePorts, before.addrs) {
		return
	}
	failed := make(map[planner.Key][]planner.Problem)
	for key, err := range e.faces.SetHealth(e.env.NodePorts, health) {
		failed[key] = []planner.Problem{{Reason: noHealth, Message: err.Error()}}
	}
	e.book.served = servedHealth{addrs: e.env.NodePorts, health: health, hasFailed: len(failed) > 0}
	e.report.replace(healthPorts, failed)
}

// clusterIPs returns the ClusterIPs of a Service that has some.
func clusterIPs(s *corev1.Service) (all []netip.Addr) {
	if s.Spec.Type == corev1.ServiceTypeExternalName {
		return nil
	}
	words := s.Spec.ClusterIPs
	if len(words) == 0 {
		words = []string{s.Spec.ClusterIP}
	}
	for _, word := range words {
		if ip, err := netip.ParseAddr(word); err == nil && ip.Zone() == "" {
			all = append(all, ip.Unmap())
		}
	}
	return all
}
