package flow

import "usher/balancer"

// Class is what the error of a socket says. What follows from it depends on what was
// under way, and is the same on both engines: see verdicts.
type Class uint8

const (
	ClassOther         Class = iota // nothing that a rule knows of
	ClassReset                      // the peer has reset the connection
	ClassResetAfterFIN              // it has done so after its FIN
	ClassTimedOut                   // the peer no longer answers
	ClassUnreachable                // there is no way to the peer's host
	ClassRefused                    // the peer's host refuses, or a firewall on the way
	ClassNoResources                // no descriptors or no memory are left here
	ClassNoLocalPort                // no local address or port is left towards the peer
	ClassFull                       // there is no room now
	ClassOversized                  // the datagram is longer than the path takes
	ClassTransient                  // this call failed alone: the next one may not
)

// verdicts is what errors mean, by class. Accept: whether the error says something of one
// client alone, so that the next one may be accepted; after any other the listener rests.
var verdicts = [...]struct {
	dial   dialVerdict
	why    balancer.FailureReason // of an attempt that has failed
	lost   bool                   // the peer of an established connection; else it has reset that
	send   SendVerdict
	accept bool
}{
	ClassOther:         {dialRefused, balancer.FailedOther, false, SendAgain, false},
	ClassReset:         {dialRefused, balancer.FailedReset, false, SendRefused, true},
	ClassResetAfterFIN: {dialRefused, balancer.FailedReset, false, SendRefused, true},
	ClassTimedOut:      {dialRefused, balancer.FailedTimeout, true, SendAgain, true},
	ClassUnreachable:   {dialRefused, balancer.FailedUnreachable, true, SendRefused, true},
	ClassRefused:       {dialRefused, balancer.FailedRefused, true, SendRefused, true},
	ClassNoResources:   {dialNoResources, balancer.FailedOther, false, SendFull, false},
	ClassNoLocalPort:   {dialNoLocalPort, balancer.FailedOther, false, SendAgain, false},
	ClassFull:          {dialAgain, balancer.FailedOther, false, SendFull, false},
	ClassOversized:     {dialRefused, balancer.FailedOther, false, SendAgain, false},
	ClassTransient:     {dialRefused, balancer.FailedOther, false, SendAgain, true},
}

// dialVerdict is what the error of an attempt to connect means.
type dialVerdict uint8

const (
	dialRefused     dialVerdict = iota // the backend has failed: the next one
	dialAgain                          // its backlog is full: the same one, in a moment
	dialNoResources                    // nothing can be dialled here: any, after a pause
	dialNoLocalPort                    // not to this address: the next one, which is no fault of this one
)

// SendVerdict is what came of sending a datagram.
type SendVerdict uint8

const (
	SendDone      SendVerdict = iota
	SendRefused               // nobody receives it (RFC 1122, 4.1.3.3), or nothing goes this way any more
	SendFull                  // there is no room, and nothing is wrong with the peer
	SendOversized             // it is longer than the path takes
	SendAgain                 // the error may be an earlier datagram's: once more
)

// SendVerdict says what the error of a datagram means, and of the same one sent again. What
// fails twice with an error that no rule knows fails for good: a firewall here forbids it
// (EPERM), or the socket's own address is gone (EINVAL), and waiting does not help.
func (c Class) SendVerdict(again bool) SendVerdict {
	v := verdicts[c].send
	if v == SendAgain && again {
		if c == ClassOversized {
			return SendOversized
		}
		return SendRefused
	}
	return v
}

// CountUnsent counts a datagram that was not sent.
func (s *Service) CountUnsent(v SendVerdict) {
	switch v {
	case SendFull:
		s.CountDrop(DropFull, 1)
	case SendOversized:
		s.CountDrop(DropOversized, 1)
	case SendRefused:
		s.CountDrop(DropRefused, 1)
	}
}

// IsLost tells a peer of an established connection that is silent or out of reach from
// one that has reset it. What ICMP says stands in for ETIMEDOUT when retransmission
// gives up (RFC 1122, 4.2.3.9).
func (c Class) IsLost() bool { return verdicts[c].lost }

// IsPeerAbsent reports whether nobody receives what is sent to a datagram socket's peer.
// Windows says so with a reset, which datagrams have nowhere else.
func (c Class) IsPeerAbsent() bool { return verdicts[c].send == SendRefused }

// isShortage reports whether a datagram or its socket finds no room on this host now.
// Linux says EAGAIN, too, where no local port is left.
func (c Class) isShortage() bool { return verdicts[c].send == SendFull }

// shortageOutcome is how a flow ends that finds no room for its socket.
func (c Class) shortageOutcome() Outcome {
	if c == ClassNoResources {
		return NoResources
	}
	return NoLocalPort
}

// IsClientFault reports whether a failed accept says something of one client alone: it
// has gone, or Linux passes on an error of its network.
func (c Class) IsClientFault() bool { return verdicts[c].accept }
