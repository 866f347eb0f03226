package proxy

// cutShare is how many slots of a table are looked at for flows of a backend before
// other flows get their turn.
const cutShare = 4096

// Cut says what becomes of the flows of a backend that is down, or was removed.
type Cut uint8

const (
	// Keep leaves them alone.
	Keep Cut = iota
	// Fin closes both sides of a connection as if it had come to its end, unless bytes
	// are on their way: then it is reset, because what was cut off must not look
	// complete. A udp flow just ends.
	Fin
	// Reset resets both sides.
	Reset
)

// String returns the word that the command line takes.
func (c Cut) String() string {
	switch c {
	case Keep:
		return "keep"
	case Fin:
		return "fin"
	case Reset:
		return "reset"
	}
	return "invalid"
}
