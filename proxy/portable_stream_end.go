package proxy

import (
	"time"

	"usher/proxy/flow"
)

// fin passes the end of the stream from side s on.
func (x *stream) fin(s flow.Side) {
	x.mu.Lock()
	defer x.mu.Unlock()
	switch {
	case x.ending != flow.Running:
		return
	case x.broken[s] != flow.Running:
		x.endLocked(x.broken[s]) // the end was a reset, which must not arrive as a FIN
		return
	case x.IsDelivering() && !x.IsDeliveringFrom(s):
		return // there is nobody to pass it on to
	}
	a := x.PassedFIN(s, x.engine.server.Now())
	if a.Do == flow.End {
		x.endLocked(a.Outcome)
		return
	}
	if c, ok := x.conn[s.Other()].(interface{ CloseWrite() error }); ok {
		if err := c.CloseWrite(); err != nil {
			x.failLocked(s.Other(), x.OutcomeOf(s.Other(), classifyError(err)))
			return
		}
	}
	if x.IsDelivering() {
		a.Do = flow.Inspect
	}
	x.followLocked(a)
}

// readFailed is called when what side s had sent has all been read, and it has failed.
func (x *stream) readFailed(s flow.Side, err error) {
	x.mu.Lock()
	defer x.mu.Unlock()
	o := max(x.broken[s], x.broken[s.Other()]) // one at most
	if o == flow.Running {
		o = x.OutcomeOf(s, classifyError(err))
	}
	switch {
	case x.HasPassedFIN(s), x.IsDelivering() && !x.IsDeliveringFrom(s):
		x.failLocked(s, o)
	case x.IsDelivering():
		x.followLocked(x.DeliveryEnded())
	default:
		x.endLocked(o)
	}
}

// writeFailed notes that side s has failed. What it had sent before may still be
// read by the other direction, which ends the flow then.
func (x *stream) writeFailed(s flow.Side, err error) {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.isTorn = true
	if x.ending != flow.Running {
		return
	}
	if o := x.broken[s.Other()]; o != flow.Running {
		x.endLocked(o)
		return
	}
	o := x.OutcomeOf(s, classifyError(err))
	if x.IsDelivering() || x.HasReceivedFIN(s) {
		x.failLocked(s, o)
		return
	}
	x.broken[s] = o
	_ = x.conn[s.Other()].SetWriteDeadline(time.Now().Add(lastBytesGrace))
}

// failLocked reports that a side has failed. It needs mu.
func (x *stream) failLocked(s flow.Side, why Outcome) {
	if x.ending == flow.Running {
		x.followLocked(x.SideFailed(s, why, x.engine.server.Now()))
	}
}

// followLocked carries out what the policy answers once both sides are connected. Their
// goroutines deliver what is left of one. It needs mu.
func (x *stream) followLocked(a flow.Action) {
	if a.Do == flow.Inspect || a.Do == flow.Deliver {
		a = x.inspectLocked()
	}
	if a.Do == flow.End {
		x.endLocked(a.Outcome)
		return
	}
	flow.MustHold(&x.Flow)
	x.engine.armLocked(x, x.engine.server.Now())
}

// inspectLocked asks the kernel for the state of both peers. It needs mu.
func (x *stream) inspectLocked() flow.Action {
	var peers [2]flow.PeerState
	for s, c := range x.conn {
		peers[s] = connPeerState(c)
	}
	a := x.Inspected(&peers, x.engine.server.Now())
	for s := flow.Client; s <= flow.Backend && a.Do != flow.End; s++ {
		if c, ok := x.conn[s].(interface{ SetKeepAlive(bool) error }); ok && x.probed[s] && !x.WantsKeepalive(s) {
			x.probed[s] = false
			_ = c.SetKeepAlive(false)
		}
	}
	return a
}

// expired is called when the stream's timer has fired.
func (x *stream) expired(now time.Duration) {
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.ending == flow.Running && x.joined {
		x.followLocked(x.Flow.Expired(now))
	}
}

// endLocked ends both directions. The first reason stands. Where the end may be an
// orderly one the connections are closed when both directions have come back: only then
// is it known that no bytes are between a read and its write. It needs mu.
func (x *stream) endLocked(o Outcome) {
	if x.ending != flow.Running {
		return
	}
	x.ending = o
	x.countPacketsLocked()
	for _, c := range x.conn {
		switch {
		case o == flow.Finished:
			_ = c.Close()
		case x.IsOrderly(o, false):
			_ = c.SetDeadline(time.Unix(1, 0))
		default:
			reset(c)
		}
	}
}

// close closes both connections after an end that may be orderly. Both directions have
// ended.
func (x *stream) close() {
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.ending == flow.Finished {
		return
	}
	orderly := x.IsOrderly(x.ending, x.isTorn) && !connUnread(x.conn[flow.Client]) && !connUnread(x.conn[flow.Backend])
	for _, c := range x.conn {
		if orderly {
			_ = c.Close()
		} else {
			reset(c)
		}
	}
}
