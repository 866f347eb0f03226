// Package planner says what one Kubernetes Service needs of usher: the services that listen for it, its names, and what
// cannot be served. It is a pure function of the objects and of the node that it runs on; it holds no clock, no socket
// and no other service. Semantics are those of kube-proxy (pkg/proxy: endpointslicecache.go, topology.go, servicechangetracker.go).
//
//	Input ─ ports × families × policies ─ Plan ─▶ Result ─▶ control (Services), names (Record), faces (Health), events (Problems)
package planner

import (
	"cmp"
	"net/netip"
	"time"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"

	"usher/internal/config"
)

// Key names an object within its kind.
type Key struct{ Namespace, Name string }

// String returns NAMESPACE/NAME.
func (k Key) String() string { return k.Namespace + "/" + k.Name }

// Compare orders keys by namespace, then by name.
func (k Key) Compare(other Key) int {
	return cmp.Or(cmp.Compare(k.Namespace, other.Namespace), cmp.Compare(k.Name, other.Name))
}

// Input are the objects of one Service. Nothing in them is written to. What a cluster or a file says is not trusted.
type Input struct {
	Service *corev1.Service
	Slices  []*discoveryv1.EndpointSlice // in any order; Endpoints of old are turned into slices before
}

// Env is what a plan depends on beside the objects of its Service. It does not change once it is made.
type Env struct {
	Node Node
	// NodePorts are the addresses that node ports are served on; unspecified ones stand for all of their family.
	NodePorts []netip.Addr
	// ExternalIPs has the externalIPs of Services served.
	ExternalIPs bool
	// Listen returns where a ClusterIP is listened on: the address itself, or one of 127.0.0.0/8. It is pure while a plan is made.
	Listen func(clusterIP netip.Addr) netip.Addr
	// LowPort is the lowest port that this process may bind; below it ports of mapped ClusterIPs are raised by PortShift.
	LowPort uint16
	// LoopbackEndpoints lets endpoints have addresses of this machine alone, as those of manifests may. An API server has none.
	LoopbackEndpoints bool
	// Options are those that every Service has, unless an annotation says otherwise.
	Options []Option
}

// PortShift is added to a port of a mapped ClusterIP that only a privileged process may bind.
const PortShift = 10000

// Node is the machine that usher runs on.
type Node struct {
	// Name is that of the Node object; empty: usher is not on a node of the cluster, so no endpoint is local and the
	// policy Local means Cluster.
	Name  string
	Zone  string
	Local []netip.Prefix // addresses of this machine and of its pods
}

// Option is an option of usher's services, in the words of the command line.
type Option struct {
	Name  config.Field
	Value string
}

// AnnotationPrefix begins the annotations of a Service that set an option: usher.dev/scheduler: lc.
const AnnotationPrefix = "usher.dev/"

// Result is what a Service needs.
type Result struct {
	// Services are in the order of ports. Each is named NAMESPACE/NAME[:PORT][/GROUP][/ipv6]. GROUP is external for addresses
	// with another list of endpoints than the ClusterIP, loadbalancer for those with source ranges, and loadbalancer/node for
	// the latter's clients on this node where those have another list.
	Services []*config.Service
	Record   Record
	Health   *Health // nil: there is no healthCheckNodePort
	Problems []Problem
	// Endpoints are those that new flows are sent to, of all ports.
	Endpoints int
	// NoLocalInternal and NoLocalExternal count the ports that have endpoints, and none that is local under the policy Local.
	NoLocalInternal, NoLocalExternal int
	// Triggered is when what led to this plan happened, as the slices say (endpoints.kubernetes.io/last-change-trigger-time);
	// zero: they do not.
	Triggered time.Time
}

// Problem is something that cannot be served as it is asked for. Reason is a word of an event, such as InvalidAnnotation.
type Problem struct {
	Reason  string
	Message string
}

// Health is what is answered at a healthCheckNodePort.
type Health struct {
	Service        Key
	Port           uint16
	LocalEndpoints int
}

// Record is what the names of a Service stand for.
type Record struct {
	Key
	Addrs        []netip.Addr // where usher listens for its ClusterIPs; none of a headless Service
	ClusterIPs   []netip.Addr // those of the object, for reverse names
	Ports        []Port       // as usher listens
	ExternalName string       // in place of all others
	Headless     []Endpoint   // of a headless Service: the ready ones, or all of them if it publishes those that are not
}

// Port is a port of a Service.
type Port struct {
	Name     string
	Protocol string // tcp or udp
	Number   uint16
}

// Endpoint is one endpoint of a headless Service.
type Endpoint struct {
	Hostname string // empty: it has none
	Addr     netip.Addr
	Ports    []Port
}
