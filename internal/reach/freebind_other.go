//go:build !linux

package reach

import (
	"errors"
	"syscall"
)

// setFreebind fails: only Linux lets a socket have an address that the host has not.
func setFreebind(_, _ string, _ syscall.RawConn) error { return errors.ErrUnsupported }
