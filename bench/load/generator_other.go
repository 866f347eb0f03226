//go:build !linux

package load

import (
	"errors"
	"net/netip"
)

// Generator is the clients and the backends of one run.
type Generator struct{}

// New reports that this system has no load generator.
func New(c Config) (*Generator, error) {
	if err := c.check(); err != nil {
		return nil, err
	}
	return nil, errors.New("the load generator needs Linux (epoll)")
}

// Backends returns no address.
func (g *Generator) Backends() []netip.AddrPort { return nil }

// Run is never reached: New returns no generator.
func (g *Generator) Run(netip.AddrPort, func() error, func() error) (Result, error) {
	return Result{}, errors.ErrUnsupported
}

// Close does nothing.
func (g *Generator) Close() {}
