package flow

import "iter"

// Outcome says how a flow ended. Expected ends are outcomes, not errors: they
// are counted by service and named in the access log.
type Outcome uint8

const (
	// Running is the zero Outcome: the flow has not ended.
	Running Outcome = iota
	// Finished: both sides have sent FIN and every byte was passed on. Of udp: the peer that
	// had named the client has named another one.
	Finished
	// ClientReset and BackendReset: that side sent RST, or closed with unread data.
	ClientReset
	BackendReset
	// ClientLost and BackendLost: that side no longer answers the kernel's probes
	// or retransmissions, or its network became unreachable.
	ClientLost
	BackendLost
	// IdleTimeout: no byte in either direction for the idle timeout.
	IdleTimeout
	// HalfCloseTimeout: one side had sent FIN, and the other direction then
	// carried nothing for the half-close timeout.
	HalfCloseTimeout
	// ConnectFailed: no backend accepted within the connect budget.
	ConnectFailed
	// NoBackend: there was nothing to choose from.
	NoBackend
	// Drained: cut at the end of the drain timeout, or by a second signal.
	Drained
	// Draining: a udp client came while its service was draining.
	Draining
	// ServerFull: the service had its reserve, and all places beyond were taken.
	ServerFull
	// ServiceFull and ClientFull: the udp service, or the client's address, had all the
	// flows that it may have.
	ServiceFull
	ClientFull
	// BackendsFull: every backend had all the flows that it may have.
	BackendsFull
	// QueueFull: so it was, and as many clients waited as may.
	QueueFull
	// NoResources: descriptors or memory for sockets had run out.
	NoResources
	// NoLocalPort: there was no local port left to reach the backend from.
	NoLocalPort
	// Replied: a UDP flow has had the replies that it is for.
	Replied
	// Refused: nobody listens at a UDP flow's backend, and there is no other.
	Refused
	// Evicted: a UDP flow without a reply, or one long silent, made room for a new flow.
	Evicted
	// Reclaimed: a connection idle for longer than ReclaimIdle made room for a new flow.
	Reclaimed
	// BackendDown: the backend went out of service, and its flows with it.
	BackendDown
	// Aged: the flow had lasted as long as a flow of its service may.
	Aged
	// QueueTimeout: every backend had all the flows that it may have for as long as
	// the client's patience in the queue.
	QueueTimeout
	// Aborted: the client had closed before there was a backend for it.
	Aborted
	// Killed: an operator has ended the flow.
	Killed
	// Rebalanced: it was one of the surplus of its backend when an operator had flows spread
	// anew.
	Rebalanced
	// Failed: the kernel refused something that should have worked.
	Failed
	// Denied: a rule, or the service's list of clients, refused the client.
	Denied
	// RateLimited: the client, or all of them, came more often than the service allows.
	RateLimited
	// ClientLimit: the client had all the connections that it may have.
	ClientLimit
	// BadProxyHeader: a PROXY protocol header was wrong, missing or late.
	BadProxyHeader
	// NoServerName: no service takes the server name of the ClientHello, or none came.
	NoServerName
	// NoEndpoint: the service had no backend, and EmptyDrop.
	NoEndpoint

	outcomes // the number of outcomes
)

var outcomeNames = [outcomes]string{
	"running", "fin", "client-reset", "backend-reset", "client-lost", "backend-lost",
	"idle", "half-close", "connect-failed", "no-backend", "drain", "draining",
	"max-conns", "max-flows", "max-client-flows", "backends-full", "queue-full", "no-descriptors", "no-local-port",
	"replied", "refused", "evicted", "reclaimed", "backend-down",
	"max-age", "queue-timeout", "aborted", "killed", "rebalanced", "error",
	"denied", "rate-limited", "client-limit", "bad-proxy-header", "no-sni", "no-endpoint",
}

// String returns the word that the access log uses.
func (o Outcome) String() string {
	if o < outcomes {
		return outcomeNames[o]
	}
	return "invalid"
}

// Outcomes yields all that a flow can end as.
func Outcomes() iter.Seq[Outcome] {
	return func(yield func(Outcome) bool) {
		for o := Running + 1; o < outcomes && yield(o); o++ {
		}
	}
}

// IsFailure reports whether a flow that ends so was not served, for a reason on this side of
// its client.
func (o Outcome) IsFailure() bool {
	switch o {
	case ConnectFailed, NoBackend, Draining, ServerFull, ServiceFull, ClientFull, BackendsFull, QueueFull,
		NoResources, NoLocalPort, Refused, QueueTimeout, Failed:
		return true
	}
	return false
}

// IsFrontDoor reports whether a client that ends so was not let in.
func (o Outcome) IsFrontDoor() bool { return o >= Denied && o <= NoEndpoint }

// Side is one end of a flow.
type Side uint8

const (
	Client Side = iota
	Backend
)

// Other returns the opposite end.
func (s Side) Other() Side { return 1 - s }

// Broken is the outcome of a flow whose end s failed with a reset (lost is
// false) or by silence (lost is true).
func (s Side) Broken(lost bool) Outcome {
	switch {
	case s == Client && lost:
		return ClientLost
	case s == Client:
		return ClientReset
	case lost:
		return BackendLost
	default:
		return BackendReset
	}
}
