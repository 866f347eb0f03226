package faces

import (
	"container/list"
	"net"
	"sync"
)

// boundedListener holds no more than max connections. A new one takes the place of the oldest: clients that hold theirs
// do not keep the kubelet's probe from an answer, and a probe that fails would restart usher.
type boundedListener struct {
	net.Listener
	max int

	mu   sync.Mutex
	open list.List // of *boundedConn, the oldest first
}

type boundedConn struct {
	net.Conn
	from  *boundedListener
	place *list.Element // in from.open; from.mu guards it
}

// Accept is that of net.Listener.
func (l *boundedListener) Accept() (net.Conn, error) {
	inner, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	c := &boundedConn{Conn: inner, from: l}
	if oldest := l.add(c); oldest != nil {
		oldest.Close()
	}
	return c, nil
}

// add returns the connection that has to go; nil: none.
func (l *boundedListener) add(c *boundedConn) *boundedConn {
	l.mu.Lock()
	defer l.mu.Unlock()
	c.place = l.open.PushBack(c)
	if l.open.Len() <= l.max {
		return nil
	}
	return l.open.Front().Value.(*boundedConn)
}

// Close is that of net.Conn.
func (c *boundedConn) Close() error {
	c.from.mu.Lock()
	c.from.open.Remove(c.place) // nothing if it is not there any more
	c.from.mu.Unlock()
	return c.Conn.Close()
}
