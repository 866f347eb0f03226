package kube

import (
	"slices"
	"time"

	"go.uber.org/zap"

	"usher/internal/api"
	"usher/internal/kube/planner"
)

// part is where a problem was found. Each part replaces its own problems.
type part uint8

const (
	planned     part = iota // by the planner, or while it was given its addresses
	listening               // by package control
	healthPorts             // by the servers of healthCheckNodePorts
)

// report says each problem of a Service once while it lasts, and its end.
type report struct {
	log     *zap.Logger
	publish func(api.Event)
	known   map[part]map[planner.Key][]planner.Problem
}

func newReport(log *zap.Logger, publish func(api.Event)) *report {
	return &report{log: log, publish: publish, known: map[part]map[planner.Key][]planner.Problem{planned: {}, listening: {}, healthPorts: {}}}
}

// set makes these all problems of one Service that a part has found.
func (r *report) set(key planner.Key, of part, problems []planner.Problem) {
	before := r.known[of][key]
	if len(before) == 0 && len(problems) == 0 {
		return
	}
	for _, p := range problems {
		if !slices.Contains(before, p) {
			r.log.Warn("service has a problem", zap.Stringer("service", key), zap.String("reason", p.Reason), zap.String("problem", p.Message))
			r.publish(api.Event{Time: time.Now(), Service: key.String(), Event: "problem", To: p.Reason, Reason: p.Message})
		}
	}
	for _, p := range before {
		if !slices.Contains(problems, p) {
			r.log.Info("problem of service has ended", zap.Stringer("service", key), zap.String("reason", p.Reason), zap.String("problem", p.Message))
			r.publish(api.Event{Time: time.Now(), Service: key.String(), Event: "problem", From: p.Reason, To: "ended", Reason: p.Message})
		}
	}
	r.known[of][key] = problems
	if len(problems) == 0 {
		delete(r.known[of], key)
	}
}

// replace makes these all problems that a part has found.
func (r *report) replace(of part, byKey map[planner.Key][]planner.Problem) {
	for key := range r.known[of] {
		if len(byKey[key]) == 0 {
			r.set(key, of, nil)
		}
	}
	for key, problems := range byKey {
		r.set(key, of, problems)
	}
}
