package ipvsadm

import (
	"io"
	"iter"
	"net/netip"
)

// Names looks names up for listings without -n. A nil function, or an empty name, leaves the number.
type Names struct {
	Host func(netip.Addr) string
	Port func(uint16, Protocol) string
}

// Print writes what the command List prints of v: all services, the one that the command names, timeouts or daemons. A
// service that is not there is an [*Error].
func (c *Command) Print(w io.Writer, v *View, n Names) error { return nil }

// PrintConnections writes what -L -c prints.
func (f Format) PrintConnections(w io.Writer, all iter.Seq[Connection], n Names) error { return nil }

// Save writes what -S prints, and what that forgets beside: thresholds, and timeouts that are not the kernel's defaults.
// Services and destinations are sorted as in listings. A Parser reads each line.
func (s *State) Save(w io.Writer, n Names) error { return nil }

// Lines yields commands that make s of a new State, order included.
func (s *State) Lines() iter.Seq[string] { return func(func(string) bool) {} }

// ReadLines yields the words of each line of r that has words, as -R reads it.
func ReadLines(r io.Reader) iter.Seq2[[]string, error] { return func(func([]string, error) bool) {} }
