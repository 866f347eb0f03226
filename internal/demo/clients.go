package demo

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// maxReply is how many bytes of a reply a client reads.
const maxReply = 64 << 10

// retryPause is how long a client waits before it asks again.
const retryPause = 100 * time.Millisecond

// Load is a bounded stream of clients, each with one HTTP request on a new connection.
// Clients ask again when a connection ends without a reply, as browsers do with what is
// safe to repeat. A client has failed that has no reply when its patience is at an end.
type Load struct {
	addr     string        // host:port
	every    time.Duration // between two clients
	linger   time.Duration // longest pause of a client between its connect and its request
	patience time.Duration // for a reply; time in which the process is stopped does not count
	atOnce   int           // most concurrent clients

	answered, askedAgain, failed atomic.Uint64

	mu      sync.Mutex
	now     time.Duration // since the start
	waiting map[*client]struct{}
}

// client is one that has no reply yet.
type client struct {
	late   time.Duration // when its patience ends
	giveUp context.CancelCauseFunc
}

// LoadCounts are what has happened to the clients.
type LoadCounts struct {
	Answered, AskedAgain, Failed uint64
}

// NewLoad returns clients of addr, which Run starts.
func NewLoad(addr string) *Load {
	return &Load{
		addr: addr, every: 25 * time.Millisecond, linger: time.Second, patience: 20 * time.Second, atOnce: 100,
		waiting: make(map[*client]struct{}),
	}
}

// Counts returns the counts up to now.
func (l *Load) Counts() LoadCounts {
	return LoadCounts{l.answered.Load(), l.askedAgain.Load(), l.failed.Load()}
}

// Run has clients come until ctx ends. Those that wait then count as nothing. It returns
// when all connections are closed.
func (l *Load) Run(ctx context.Context) {
	var clients sync.WaitGroup
	defer clients.Wait()
	tick := time.NewTicker(l.every)
	defer tick.Stop()
	for {
		if c, ctx := l.admit(ctx); c != nil {
			clients.Go(func() { l.visit(ctx, c) })
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
	}
}

// admit lets time pass, ends those whose patience is at an end, and returns a new client;
// nil: there are enough.
func (l *Load) admit(ctx context.Context) (*client, context.Context) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.now += l.every
	for c := range l.waiting {
		if c.late < l.now {
			c.giveUp(errPatience)
		}
	}
	if len(l.waiting) >= l.atOnce {
		return nil, nil
	}
	c := &client{late: l.now + l.patience}
	ctx, c.giveUp = context.WithCancelCause(ctx)
	l.waiting[c] = struct{}{}
	return c, ctx
}

var errPatience = errors.New("no reply in time")

// visit is one client. It connects at once and sends its request later, so that the live
// view shows the connection.
func (l *Load) visit(ctx context.Context, c *client) {
	defer func() {
		c.giveUp(nil)
		l.mu.Lock()
		defer l.mu.Unlock()
		delete(l.waiting, c)
	}()
	linger := time.Duration(rand.Int64N(int64(l.linger)))
	for {
		err := request(ctx, l.addr, linger)
		if err == nil {
			l.answered.Add(1)
			return
		}
		if ctx.Err() == nil {
			l.askedAgain.Add(1)
			linger = 0
			wait(ctx, retryPause)
		}
		if ctx.Err() != nil {
			if context.Cause(ctx) == errPatience {
				l.failed.Add(1)
			}
			return
		}
	}
}

// request makes one request, and returns nil if the reply is whole and a backend's.
func request(ctx context.Context, addr string, linger time.Duration) error {
	conn, err := new(net.Dialer).DialContext(ctx, "tcp", addr)
	if err != nil {
		return err
	}
	defer conn.Close()
	stop := context.AfterFunc(ctx, func() { conn.Close() })
	defer stop()
	wait(ctx, linger)
	_, err = fmt.Fprintf(conn, "GET / HTTP/1.1\r\nHost: %s\r\nUser-Agent: usher-demo\r\nConnection: close\r\n\r\n", addr)
	if err != nil {
		return err
	}
	answer, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		return err
	}
	defer answer.Body.Close()
	text, err := io.ReadAll(io.LimitReader(answer.Body, maxReply))
	if err == nil && (answer.StatusCode != http.StatusOK || !strings.HasPrefix(string(text), greeting)) {
		err = fmt.Errorf("the answer is %s", answer.Status)
	}
	return err
}

// wait returns after d, or when ctx ends.
func wait(ctx context.Context, d time.Duration) {
	select {
	case <-time.After(d):
	case <-ctx.Done():
	}
}
