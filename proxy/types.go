package proxy

import (
	"usher/balancer"
	"usher/conntrack"
	"usher/proxy/flow"
)

// What Options mean by zero.
const (
	DefaultMaxDropped  = flow.DefaultMaxDropped
	DefaultDropTimeout = flow.DefaultDropTimeout
)

// What a server runs is described in terms of its policy.
type (
	// Service is a running service.
	Service = flow.Service
	// ServiceConfig describes a service.
	ServiceConfig = flow.ServiceConfig
	// Listener is where a service accepts.
	Listener = flow.Listener
	// UDPConfig describes what is a flow of datagrams.
	UDPConfig = flow.UDPConfig
	// Persist keeps the flows of a client at one backend.
	Persist = flow.Persist
	// ResultObserver learns how backends treat flows.
	ResultObserver = flow.ResultObserver
	// Outcome says how a flow ended.
	Outcome = flow.Outcome
	// Drop says why a datagram was not passed on.
	Drop = flow.Drop
	// Cut says what becomes of the flows of a backend that is down, or was removed.
	Cut = flow.Cut
	// Client is one client of a service that persists, and the backend that it has.
	Client = conntrack.AffinityEntry[Service, balancer.Backend]
)
