package ipvsadm

import "net/netip"

// Parser reads command lines.
type Parser struct {
	Program string // as messages name it; empty: ipvsadm

	// Host and Port look names up. Nil knows none.
	Host func(name string) (netip.Addr, bool) // of IPv4
	Port func(service string, p Protocol) (uint16, bool)

	IsRestoring bool // the line is one of -R, which must not be another -R
}

// Parse reads the words of a command line without names. The error is an [*Error].
func Parse(args []string) (*Command, error) { return Parser{}.Parse(args) }

// Parse reads the words of a command line. The error is an [*Error].
func (p Parser) Parse(args []string) (*Command, error) {
	return nil, Refuse("not yet")
}

// Line returns the command as a line that Parse reads without a name to look up.
func (c *Command) Line() string { return "" }

// Unsupported returns why usher does not run a command that the kernel would run, and what works instead; nil if it
// does.
func (c *Command) Unsupported() *Error { return nil }
