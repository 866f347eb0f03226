package proxy

import (
	"io"
	"net"
	"sync"
	"testing"

	"usher/conntrack"
	"usher/proxy/flow"
)

// startDownloads has a server of one worker carry flows whose backends send size bytes each
// as soon as release is closed. Every client has had a greeting, and reads no more.
func startDownloads(t *testing.T, flows, size int) (w *worker, clients []*net.TCPConn, release chan struct{}, sent *sync.WaitGroup) {
	t.Helper()
	release, sent = make(chan struct{}), new(sync.WaitGroup)
	sent.Add(flows)
	s, addr := start(t, Options{Engine: "epoll", Workers: 1}, service(t, serve(t, func(c *net.TCPConn) {
		_, _ = io.WriteString(c, "h")
		<-release
		_, _ = c.Write(make([]byte, size))
		sent.Done()
		_, _ = io.Copy(io.Discard, c)
	})))
	for range flows {
		c := dial(t, addr)
		if _, err := io.ReadFull(c, make([]byte, 1)); err != nil {
			t.Fatal(err)
		}
		clients = append(clients, c)
	}
	return s.engine.(*epollEngine).workers[0], clients, release, sent
}

// TestBulkTakesTurns: of many flows with much to move a turn of the loop serves some, in
// order, and a flow with little to move does not wait for all of them.
func TestBulkTakesTurns(t *testing.T) {
	t.Parallel()
	const flows, size = 200, 48 << 10 // of which the receive buffer of a socket has room for all
	w, clients, release, sent := startDownloads(t, flows, size)
	onLoop(w, func() {
		close(release)
		sent.Wait()
		var order []conntrack.ID
		for id := range flows {
			c := w.conn(conntrack.ID(id))
			c.half[flow.Backend].bulk, c.half[flow.Backend].readable = true, true
			w.relay(c)
			if !c.queued || w.table.Entry(c.ID).Down() > 1 {
				t.Fatalf("flow %d is not in the queue", id)
			}
			order = append(order, c.ID)
		}
		w.runDeferred()
		served := flows - len(w.again)
		if served < 1 || served == flows {
			t.Errorf("one turn has served %d of %d flows", served, flows)
		}
		for i, id := range w.again {
			if id != order[served+i] {
				t.Fatalf("flow %d is number %d in the queue, want %d", id, i, order[served+i])
			}
		}
	})
	for _, c := range clients {
		if _, err := io.ReadFull(c, make([]byte, size)); err != nil {
			t.Fatal(err)
		}
	}
}

// TestStalledDownloadsStayInTheKernel: what a client does not take is left in the receive
// queue of its backend's socket, not in a buffer of this process.
func TestStalledDownloadsStayInTheKernel(t *testing.T) {
	t.Parallel()
	const flows, size = 20, 16 << 20
	w, clients, release, _ := startDownloads(t, flows, size)
	onLoop(w, func() { w.pipes.most = 0 }) // without pipes all is copied
	close(release)
	eventually(t, "all clients have stalled", func() (all bool) {
		onLoop(w, func() {
			all = true
			for id := range flows {
				h := &w.conn(conntrack.ID(id)).half[flow.Client]
				all = all && h.roomy && !h.writable
			}
		})
		return all
	})
	kept := 0
	onLoop(w, func() {
		for id := range flows {
			kept += cap(w.conn(conntrack.ID(id)).half[flow.Backend].buf)
		}
	})
	if kept > flows*peekAfter {
		t.Errorf("%d bytes are kept for %d clients", kept, flows)
	}
	var all sync.WaitGroup
	for _, c := range clients {
		all.Go(func() {
			if n, err := io.CopyN(io.Discard, c, size); err != nil {
				t.Errorf("%d of %d bytes: %v", n, size, err)
			}
		})
	}
	all.Wait()

}
