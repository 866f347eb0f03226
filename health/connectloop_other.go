//go:build !linux

package health

// ConnectLoop is [TCP] where there is no epoll.
type ConnectLoop struct{ TCP }

// NewConnectLoop returns a checker that needs no loop.
func NewConnectLoop() (*ConnectLoop, error) { return &ConnectLoop{}, nil }

// Close has nothing to end.
func (*ConnectLoop) Close() {}
