package demo

import (
	"context"
	"maps"
	"slices"
	"sync"
	"time"
)

// Kept are clients with long connections. Each sends a line twice a second, which must
// come back. A connection that ends with its backend is opened again. One that ends while
// its backend lives has failed; it is opened again, too.
type Kept struct {
	addr     string // host:port
	backends Backends
	count    int
	every    time.Duration // between two lines

	mu     sync.Mutex
	open   map[*echoConn]time.Time // when the last line that has come back was sent
	counts KeptCounts
}

// KeptCounts are what has happened to the long connections.
type KeptCounts struct {
	Open        int
	Oldest      time.Duration // the age of the oldest; 0: there is none
	OpenedAgain uint64        // because their backend had died
	Failed      uint64        // ended while their backend lived
}

// NewKept returns long connections by way of addr, which Run opens.
func NewKept(addr string, backends Backends) *Kept {
	return &Kept{addr: addr, backends: backends, count: 20, every: 500 * time.Millisecond, open: make(map[*echoConn]time.Time)}
}

// Counts returns the counts up to now.
func (k *Kept) Counts() KeptCounts {
	k.mu.Lock()
	defer k.mu.Unlock()
	c := k.counts
	c.Open = len(k.open)
	for conn := range k.open {
		c.Oldest = max(c.Oldest, time.Since(conn.began))
	}
	return c
}

// Run keeps the connections open until ctx ends.
func (k *Kept) Run(ctx context.Context) {
	var clients sync.WaitGroup
	defer clients.Wait()
	for range k.count {
		clients.Go(func() { k.keep(ctx) })
	}
}

// keep is one client.
func (k *Kept) keep(ctx context.Context) {
	for before := ""; ctx.Err() == nil; {
		conn, err := dialEcho(ctx, k.addr)
		if err != nil {
			wait(ctx, retryPause)
			continue
		}
		k.enter(conn, before)
		before = conn.backend
		k.use(ctx, conn)
	}
}

// enter counts a connection, and how the one before it has ended: only now it is known
// that this was not the end of the demo. before is the backend of that, or empty.
func (k *Kept) enter(conn *echoConn, before string) {
	isAlive := k.backends.lives(before)
	k.mu.Lock()
	defer k.mu.Unlock()
	switch {
	case before == "":
	case isAlive:
		k.counts.Failed++
	default:
		k.counts.OpenedAgain++
	}
	k.open[conn] = time.Time{}
}

// use sends lines until the connection or ctx ends.
func (k *Kept) use(ctx context.Context, conn *echoConn) {
	stop := context.AfterFunc(ctx, func() { conn.Close() })
	defer func() {
		stop()
		conn.Close()
		k.mu.Lock()
		defer k.mu.Unlock()
		delete(k.open, conn)
	}()
	for {
		sent := time.Now()
		if conn.ask() != nil {
			return
		}
		k.mu.Lock()
		k.open[conn] = sent
		k.mu.Unlock()
		if wait(ctx, k.every); ctx.Err() != nil {
			return
		}
	}
}

// Snapshot returns the connections that are open.
func (k *Kept) Snapshot() []*echoConn {
	k.mu.Lock()
	defer k.mu.Unlock()
	return slices.Collect(maps.Keys(k.open))
}

// verifyPause is the time between two looks of Verify.
const verifyPause = 10 * time.Millisecond

// Verify waits for a new line of each of these connections, until ctx ends. It returns of
// how many one has come back, and how many have a backend that lives.
func (k *Kept) Verify(ctx context.Context, before []*echoConn) (alive, all int) {
	for since := time.Now(); ; {
		isDone := true
		alive, all = 0, 0
		for _, conn := range before {
			if !k.backends.lives(conn.backend) {
				continue
			}
			all++
			k.mu.Lock()
			sent, isOpen := k.open[conn]
			k.mu.Unlock()
			if sent.After(since) {
				alive++
			} else if isOpen {
				isDone = false
			}
		}
		if isDone || ctx.Err() != nil {
			return alive, all
		}
		wait(ctx, verifyPause)
	}
}
