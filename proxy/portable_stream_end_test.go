package proxy

import (
	"errors"
	"net"
	"syscall"
	"testing"

	"usher/balancer"
	"usher/proxy/flow"
)

// stopListener accepts connections that stop within a Read that has bytes.
type stopListener struct {
	net.Listener
	hasRead chan struct{} // closed then
	release chan struct{} // closed to let Read return
}

func (l stopListener) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	return &stopConn{TCPConn: c.(*net.TCPConn), l: l}, nil
}

type stopConn struct {
	*net.TCPConn
	l stopListener
}

func (c *stopConn) Read(p []byte) (int, error) {
	n, err := c.TCPConn.Read(p)
	if n > 0 {
		close(c.l.hasRead)
		<-c.l.release
	}
	return n, err
}

// TestEndWithBytesInHand ends a flow while bytes are between a read and their write. They
// are lost, so the backend must not see a FIN.
func TestEndWithBytesInHand(t *testing.T) {
	t.Parallel()
	ended := make(chan error, 1)
	at := serve(t, func(c *net.TCPConn) {
		_, err := c.Read(make([]byte, 1))
		ended <- err
	})
	c := service(t, at)
	s, err := newServer(Options{Engine: "portable"}, c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	var stop stopListener
	for _, b := range s.bindings {
		sockets := b.sockets.(*portableSockets)
		stop = stopListener{sockets.accept, make(chan struct{}), make(chan struct{})}
		sockets.accept = stop
	}
	s.Start()
	conn := dial(t, s.Services()[0].Config().Listeners[0].String())
	if _, err := conn.Write([]byte("x")); err != nil {
		t.Fatal(err)
	}
	<-stop.hasRead
	b := c.Pool.Backends()[0]
	setStatus(c.Pool, b, balancer.Down)
	s.CutBackend(b, flow.Fin)
	close(stop.release)
	if err := <-ended; !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("the backend sees %v, want a reset", err)
	}
}
