package conntrack

import "fmt"

// State is how far a flow has come. The zero State means that there is no flow.
type State uint8

const (
	Connecting  State = iota + 1 // accepted, no backend has answered yet
	Established                  // both sides may send
	HalfClosed                   // one side has sent its FIN, the other may still send
	Closing                      // both sides have ended, or one was reset; the rest is being flushed
	Unreplied                    // UDP: the backend has not answered yet
	Assured                      // UDP: the backend has answered
)

func (s State) String() string {
	switch s {
	case 0:
		return "none"
	case Connecting:
		return "connecting"
	case Established:
		return "established"
	case HalfClosed:
		return "half-closed"
	case Closing:
		return "closing"
	case Unreplied:
		return "unreplied"
	case Assured:
		return "assured"
	}
	return fmt.Sprintf("state(%d)", uint8(s))
}
