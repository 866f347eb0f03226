//go:build !unix

package proxy

import "net"

// awaitError: a reset that follows a FIN cannot be waited for here. It shows when
// the other direction writes.
func awaitError(net.Conn) error { return nil }

// awaitEnd: nor can the end of a client that is held.
func awaitEnd(net.Conn, bool) error { return nil }
