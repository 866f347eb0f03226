//go:build !linux

package health

import "syscall"

// leavePortToConnect changes nothing: the local port is chosen before the peer is known.
func leavePortToConnect(_, _ string, _ syscall.RawConn) error { return nil }
