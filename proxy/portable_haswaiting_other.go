//go:build !unix

package proxy

import "net"

// hasWaiting is not known here.
func hasWaiting(net.Listener) bool { return false }
