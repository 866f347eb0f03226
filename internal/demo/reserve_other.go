//go:build !unix

package demo

import (
	"errors"
	"io"
	"net/netip"
)

// reserve keeps no port: another program may take that of a dead backend.
func reserve(netip.AddrPort) (io.Closer, error) { return nil, errors.ErrUnsupported }
