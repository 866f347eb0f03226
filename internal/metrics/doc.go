// Package metrics shows a running server to Prometheus: one collector reads services,
// backends and event loops when it is asked, and keeps nothing.
//
//	Handler ──▶ promhttp ──▶ registry ──┬──▶ collector ──▶ Source (a *proxy.Server)
//	                                    ├──▶ cpu        user and system time
//	                                    └──▶ client_golang's collectors of Go and the process
//
// Names, units and label names follow Prometheus' conventions; a test holds them with
// promlint. A service that goes takes its series along, and so does a backend. Series that
// are zero from the start are left out where there is one for each of many words: outcomes
// and reasons.
package metrics
