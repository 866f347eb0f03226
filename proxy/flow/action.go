package flow

import "time"

// Action is what an engine does next about a flow or a session: the answer to every event
// that the engine reports.
type Action struct {
	Do      Step
	Outcome Outcome       // of End
	Bytes   int           // of Discard
	Until   time.Duration // of all but Relay before a backend has accepted: report Expired then
}

// Step is what to do.
type Step uint8

const (
	// GoOn: what is under way, an attempt or the relay, goes on. Set the timer anew.
	GoOn Step = iota
	// Dial: connect to the target. An earlier attempt is given up.
	Dial
	// Wait: hold the client. An earlier attempt is given up.
	Wait
	// Relay: the backend has accepted. Pass on what both sides send.
	Relay
	// Inspect: ask the kernel for the state of both peers, and report Inspected.
	Inspect
	// Deliver: a side has failed. Pass on what is left of it to the other side, and inspect.
	Deliver
	// End: close both sides, and then the flow. A session has ended already, or never
	// began: drop its datagram.
	End
	// Open: open a socket to the session's target. Send the copies that are kept, if there
	// are any, and what is at hand.
	Open
	// Send: send by the session's socket.
	Send
	// Peek: look at what the client has sent, leave it where it is, and report Peeked: now,
	// and each time that there is more.
	Peek
	// Discard: take Bytes of what was peeked at off the client's queue, have the door's packet
	// be of the flow's client, and report Named.
	Discard
	// Hold: keep the client, read nothing of it, and report ClientEnded if it goes.
	Hold
)

// EndAs ends a flow.
func EndAs(o Outcome) Action { return Action{Do: End, Outcome: o} }
