// Package api is what a running usher says and takes over HTTP under /v1: the JSON objects, and the client of the control
// socket. Commands print these objects with -o json. One name for a thing holds everywhere: flag, YAML key, JSON field,
// metric label. openapi.yaml describes the same; a test holds it to the code.
package api

import "time"

// Services is the answer to GET /v1/services.
type Services struct {
	Services []Service `json:"services"`
}

// Service is one running service.
type Service struct {
	Name      string    `json:"name"`
	Owner     string    `json:"owner"`
	Network   string    `json:"network"` // tcp (with unix) or udp
	Listen    []string  `json:"listen"`
	Virtual   []Virtual `json:"virtual,omitempty"`
	Scheduler string    `json:"scheduler"`
	Status    string    `json:"status"` // up: all backends in use; degraded: some; down: none
	Active    int64     `json:"active"`
	Queued    int64     `json:"queued"`
	Total     uint64    `json:"total"`  // flows accepted
	Failed    uint64    `json:"failed"` // flows that ended without having been served
	// Refused are the clients that were not let in, by the word of the access log; those that are zero are left out.
	Refused   map[string]uint64 `json:"refused,omitempty"`
	BytesUp   uint64            `json:"bytes_up"`
	BytesDown uint64            `json:"bytes_down"`
	Backends  []Backend         `json:"backends"` // none with ?backends=false
	// BackendsUp are the backends that are up, of BackendsAll.
	BackendsUp  int `json:"backends_up"`
	BackendsAll int `json:"backends_all"`
}

// Virtual is an address that clients know, and the listener that stands for it.
type Virtual struct {
	Type    string `json:"type"`
	Address string `json:"address"`
	Listen  string `json:"listen"`
}

// Backend is one backend of a service.
type Backend struct {
	Address   string    `json:"address"`
	Weight    int       `json:"weight"`
	Backup    bool      `json:"backup,omitempty"`
	Status    string    `json:"status"`             // up, down, drain, maint or unknown
	Override  string    `json:"override,omitempty"` // set by hand: drain, maint, weight=N, or both
	Reason    string    `json:"reason,omitempty"`   // why it has this status
	Since     time.Time `json:"since"`              // of this status
	Active    int64     `json:"active"`
	Total     uint64    `json:"total"`
	Failed    uint64    `json:"failed"` // connects and flows that failed
	BytesUp   uint64    `json:"bytes_up"`
	BytesDown uint64    `json:"bytes_down"`
	ConnectMS float64   `json:"connect_ms"` // smoothed time to connect; 0: none was measured
}

// Flow is one row of the connection table: one TCP connection or one UDP session. GET /v1/flows writes one a line.
type Flow struct {
	Client    string  `json:"client"`
	Listener  string  `json:"listener"` // without udp://: network is a field of its own
	Service   string  `json:"service"`
	Backend   string  `json:"backend"` // empty: none yet
	Network   string  `json:"network"`
	State     string  `json:"state"`
	AgeMS     int64   `json:"age_ms"`
	IdleMS    int64   `json:"idle_ms"`
	BytesUp   uint64  `json:"bytes_up"`
	BytesDown uint64  `json:"bytes_down"`
	Tries     int     `json:"tries"`
	RTTMS     float64 `json:"rtt_ms"` // of the client's side, as the kernel measures it; 0: unknown
	ID        string  `json:"id"`     // until it ends, or usher is upgraded
	// Destination is the very address that the client asked for; empty: a unix socket.
	Destination string `json:"destination,omitempty"`

	// What follows is there with ?sockets, as far as it is known.

	Target      string `json:"target,omitempty"`       // the backend's address that the flow uses
	Source      string `json:"source,omitempty"`       // usher's own address towards the backend
	PacketsUp   uint64 `json:"packets_up,omitempty"`   // TCP: segments from the client; UDP: datagrams to the backend
	PacketsDown uint64 `json:"packets_down,omitempty"` // TCP: segments to the client; UDP: datagrams from the backend
	TimeoutMS   int64  `json:"timeout_ms,omitempty"`   // until it ends unless something happens; 0: it does not
	Closed      string `json:"closed,omitempty"`       // client, backend or both: who has sent FIN
}

// FlowEvent is a change of a flow. GET /v1/flows/events writes one a line, as they happen.
type FlowEvent struct {
	Time  time.Time `json:"time"`
	Event string    `json:"event"`          // new, update, destroy; lost: the reader was too slow
	Lost  uint64    `json:"lost,omitempty"` // events
	Flow  *Flow     `json:"flow,omitempty"`
}

// Event is a change of a service or a backend. GET /v1/events writes one a line, as they happen.
type Event struct {
	Time    time.Time `json:"time"`
	Service string    `json:"service"`
	Backend string    `json:"backend,omitempty"`
	Event   string    `json:"event"`
	From    string    `json:"from,omitempty"`
	To      string    `json:"to,omitempty"`
	Reason  string    `json:"reason,omitempty"`
}

// Process is the running program. It is the answer to GET /v1/process.
type Process struct {
	Name          string    `json:"name"`
	PID           int       `json:"pid"`
	Version       string    `json:"version"`
	Started       time.Time `json:"started"`
	Engine        string    `json:"engine"`
	Workers       int       `json:"workers"`
	Flows         int       `json:"flows"`
	MaxConns      int       `json:"max_conns"`
	UserSeconds   float64   `json:"user_seconds"`     // CPU time
	SystemSeconds float64   `json:"system_seconds"`   // CPU time
	Config        string    `json:"config,omitempty"` // the file, if there is one
	Admin         string    `json:"admin,omitempty"`  // the admin address, HOST:PORT, if there is one
	Upgrades      int       `json:"upgrades"`
	UpgradeError  string    `json:"upgrade_error,omitempty"` // why the last binary that had taken over could not go on; empty: it did
}

// Snapshot ends a snapshot in the stream of GET /v1/live, behind the services that have changed since the last one.
type Snapshot struct {
	Time    time.Time `json:"time"`
	IsWhole bool      `json:"whole,omitempty"`   // it is the first one: what was not named in it is not there
	Removed []string  `json:"removed,omitempty"` // names of services that are gone
	Changes string    `json:"changes"`           // what changes by this reader need: free, token, or none can be made
	Process Process   `json:"process"`
}

// Override is what an operator wants of a backend: the body of PUT /v1/services/NAME/backends/ADDRESS/override. What it
// does not name stays as it is.
type Override struct {
	Admin   string `json:"admin,omitempty"`   // ready, drain or maint
	Weight  *int   `json:"weight,omitempty"`  // instead of the configured one
	Timeout string `json:"timeout,omitempty"` // a duration such as 10m, after which the override ends; empty: none
}

// Rules is the answer to GET /v1/rules: all chains, INPUT first.
type Rules struct {
	Chains []Chain `json:"chains"`
}

// Chain is a chain of rules. Only INPUT has a policy, and the counters are those of what it decided.
type Chain struct {
	Name      string `json:"name"`
	Policy    string `json:"policy,omitempty"` // ACCEPT or DROP
	Owner     string `json:"owner,omitempty"`  // of the chain, or of the policy; empty: nobody has set it
	Flows     uint64 `json:"flows"`
	Datagrams uint64 `json:"datagrams"`
	Bytes     uint64 `json:"bytes"`
	Rules     []Rule `json:"rules"`
}

// Rule is one rule with its counters.
type Rule struct {
	Rule      string `json:"rule"`   // as iptables -S prints it
	Target    string `json:"target"` // ACCEPT, DROP ..., or a chain; empty: it only counts
	Owner     string `json:"owner"`
	Flows     uint64 `json:"flows"`     // that it matched
	Datagrams uint64 `json:"datagrams"` // that it matched: of each flow the first one, and those that found no flow
	Bytes     uint64 `json:"bytes"`     // of these datagrams, and of the flows that it decided, both ways
}

// RuleLines is the body of PUT and POST /v1/rules.
type RuleLines struct {
	Policy string   `json:"policy,omitempty"` // ACCEPT or DROP; empty: no policy of the API's own
	Rules  []string `json:"rules,omitempty"`  // as --rule takes them, in order
}

// Killed is the answer to DELETE /v1/flows.
type Killed struct {
	Killed int      `json:"killed"`        // flows
	IDs    []string `json:"ids,omitempty"` // of these, where they were named by id
}

// Rebalance is the body of POST /v1/services/NAME/rebalance.
type Rebalance struct {
	Rate float64 `json:"rate,omitempty"` // flows to end a second, at the most; 0: as many as all of them take a minute
}

// Rebalanced is how far a rebalance is. The answer to its request has one a line, the last one when it is over.
type Rebalanced struct {
	Ended   int `json:"ended"`   // flows so far
	Surplus int `json:"surplus"` // flows that backends had beyond their fair share at the start
}

// Stop is the body of POST /v1/stop.
type Stop struct {
	Now bool `json:"now,omitempty"` // ends flows at once, instead of waiting for them
}

// Upgrade is the body of POST /v1/upgrade.
type Upgrade struct {
	Binary string `json:"binary,omitempty"` // path; empty: what stands at the path of the running one
}

// Error is the body of every answer with a status of 400 or more.
type Error struct {
	Error string `json:"error"`
}
