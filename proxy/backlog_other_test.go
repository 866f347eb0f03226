//go:build !linux

package proxy

import (
	"net"
	"testing"
)

// fullBacklog: how many clients wait before more are refused is not known here.
func fullBacklog(t *testing.T, _ string) (net.Listener, func()) {
	t.Skip("the backlog of a unix socket can be filled on Linux alone")
	return nil, nil
}
