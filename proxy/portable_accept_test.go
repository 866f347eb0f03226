package proxy

import (
	"net"
	"testing"
	"time"
)

// TestClientsWaitWhileOneLacksADescriptor: an accept loop takes one more client at the most
// while another one waits for a descriptor to reach a backend by.
func TestClientsWaitWhileOneLacksADescriptor(t *testing.T) {
	t.Parallel()
	s, addr := start(t, Options{Engine: "portable"}, service(t, echo(t)))
	e, svc := s.engine.(*portableEngine), s.Services()[0]
	roundTrip(t, dial(t, addr))
	e.lacking.Store(true)
	waiting := []net.Conn{dial(t, addr), dial(t, addr), dial(t, addr)}
	for range 50 {
		time.Sleep(time.Millisecond)
		if n := svc.Accepted(); n > 2 {
			t.Fatalf("%d clients are accepted", n)
		}
	}
	e.lacking.Store(false)
	for _, c := range waiting {
		roundTrip(t, c)
	}
}
