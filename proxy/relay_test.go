package proxy

import (
	"io"
	"net"
	"sync"
	"testing"
	"time"
)

// TestGreetingAndFINAtOnce has backends that speak first and close at once, many
// at a time: greeting, FIN and the end of the handshake then come in one event.
func TestGreetingAndFINAtOnce(t *testing.T) {
	t.Parallel()
	eachEngine(t, func(t *testing.T, engine string) {
		const greeting = "220 ready\r\n"
		_, addr := start(t, Options{Engine: engine, Workers: 1}, service(t, serve(t, func(c *net.TCPConn) {
			_, _ = io.WriteString(c, greeting)
		})))
		var clients sync.WaitGroup
		for range 32 {
			clients.Go(func() {
				for range 20 {
					c, err := net.Dial("tcp", addr)
					if err != nil {
						t.Error(err)
						return
					}
					_ = c.SetDeadline(time.Now().Add(10 * time.Second))
					got, err := io.ReadAll(c)
					c.Close()
					if string(got) != greeting || err != nil {
						t.Errorf("read %q, %v", got, err)
						return
					}
				}
			})
		}
		clients.Wait()
	})
}
