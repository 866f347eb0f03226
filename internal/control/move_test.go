package control

import (
	"io"
	"net"
	"sync"
	"testing"
	"time"

	"usher/internal/config"
	"usher/internal/discovery"
)

// Clients that come while a listener moves from one service to another and back are all served: a service has its
// backends before it has clients.
func TestAListenerMovesBetweenServices(t *testing.T) {
	t.Parallel()
	backend, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	var serving sync.WaitGroup
	defer serving.Wait()
	defer backend.Close()
	serving.Go(func() {
		for {
			c, err := backend.Accept()
			if err != nil {
				return
			}
			_, _ = io.WriteString(c, "hello")
			_ = c.Close()
		}
	})
	for _, engine := range []string{"auto", "portable"} {
		c, ctx := newController(t, discovery.Resolver{}, engine), t.Context()
		front := ownAddress(t)
		one, two := named("one", services(t, front+"="+backend.Addr().String())), named("two", services(t, front+"="+backend.Addr().String()))
		must(t, c.Replace(ctx, File, Part{Services: one}))
		must(t, c.Start(ctx))
		var clients sync.WaitGroup
		moved := make(chan struct{})
		for range 4 {
			clients.Go(func() {
				for {
					select {
					case <-moved:
						return
					default:
					}
					greeted(t, engine, front)
				}
			})
		}
		for i := range 40 {
			must(t, c.Replace(ctx, File, Part{Services: [][]*config.Service{two, one}[i%2]}))
		}
		close(moved)
		clients.Wait()
	}
}

// greeted connects and hears the backend.
func greeted(t *testing.T, engine, address string) {
	client, err := net.DialTimeout("tcp", address, 30*time.Second)
	if err != nil {
		t.Errorf("%s: %v", engine, err)
		return
	}
	defer client.Close()
	_ = client.SetDeadline(time.Now().Add(time.Minute))
	if got, err := io.ReadAll(client); string(got) != "hello" {
		t.Errorf("%s: a client heard %q, %v", engine, got, err)
	}
}

// ownAddress returns a loopback address that nothing else uses, since its port is held on 127.0.0.1 alone.
func ownAddress(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	t.Cleanup(func() { l.Close() })
	_, port, _ := net.SplitHostPort(l.Addr().String())
	if free, err := net.Listen("tcp", "127.0.0.83:"+port); err == nil {
		free.Close()
		return "127.0.0.83:" + port
	}
	t.Skip("there is one loopback address here")
	return ""
}
