package proxy

// Outcome says how a flow ended. Expected ends are outcomes, not errors: they
// are counted by service and named in the access log.
type Outcome uint8

const (
	// Running is the zero Outcome: the flow has not ended.
	Running Outcome = iota
	// Finished: both sides have sent FIN and every byte was passed on.
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
	// LimitReached: refused by max-conns, for want of a descriptor, or because every
	// backend had all the flows that it may have.
	LimitReached
	// Replied: a UDP flow has had the replies that it is for.
	Replied
	// Refused: nobody listens at a UDP flow's backend, and there is no other.
	Refused
	// Evicted: an unreplied UDP flow made room for a new one.
	Evicted
	// BackendDown: the backend went out of service, and its flows with it.
	BackendDown
	// Aged: the flow had lasted as long as a flow of its service may.
	Aged
	// QueueTimeout: every backend had all the flows that it may have for as long as
	// the client's patience in the queue.
	QueueTimeout
	// Failed: the kernel refused something that should have worked.
	Failed

	outcomes // the number of outcomes
)

var outcomeNames = [outcomes]string{
	"running", "fin", "client-reset", "backend-reset", "client-lost", "backend-lost",
	"idle", "half-close", "connect-failed", "no-backend", "drain", "limit",
	"replied", "refused", "evicted", "backend-down",
	"max-age", "queue-timeout", "error",
}

// String returns the word that the access log uses.
func (o Outcome) String() string {
	if o < outcomes {
		return outcomeNames[o]
	}
	return "invalid"
}

// side is one end of a flow.
type side uint8

const (
	client side = iota
	backend
)

// other returns the opposite end.
func (s side) other() side { return 1 - s }

// broken is the outcome of a flow whose end s failed with a reset (lost is
// false) or by silence (lost is true).
func (s side) broken(lost bool) Outcome {
	switch {
	case s == client && lost:
		return ClientLost
	case s == client:
		return ClientReset
	case lost:
		return BackendLost
	default:
		return BackendReset
	}
}
