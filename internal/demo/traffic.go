package demo

import (
	"context"
	"io"
	"math/rand/v2"
	"net"
	"sync"
	"time"
)

// Traffic sends HTTP requests to the service at addr (host:port), about four
// a second, each on a connection of its own that lasts up to two seconds, and
// throws the replies away. It returns when ctx has ended and all its
// connections are closed.
func Traffic(ctx context.Context, addr string) {
	trickle{
		every:   250 * time.Millisecond,
		linger:  2 * time.Second,
		timeout: 5 * time.Second,
		atOnce:  16,
	}.run(ctx, addr)
}

// trickle is a bounded stream of clients.
type trickle struct {
	every   time.Duration // between two clients, on average
	linger  time.Duration // longest silence of a client before its request
	timeout time.Duration // of the whole visit after that
	atOnce  int           // clients at the same time; beyond it, none come
}

// maxReply is where a client stops reading.
const maxReply = 64 << 10

func (t trickle) run(ctx context.Context, addr string) {
	var clients sync.WaitGroup
	defer clients.Wait()
	places := make(chan struct{}, t.atOnce)
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-timer.C:
		case <-ctx.Done():
			return
		}
		select {
		case places <- struct{}{}:
			clients.Go(func() {
				defer func() { <-places }()
				t.visit(ctx, addr)
			})
		default: // the service does not keep up
		}
		timer.Reset(t.every/2 + time.Duration(rand.Int64N(int64(t.every))))
	}
}

// visit is one client. It connects at once and speaks later: a connection
// that is open for a while can be seen in the live view. How it goes is for
// the service's own counters to tell.
func (t trickle) visit(ctx context.Context, addr string) {
	linger := time.Duration(rand.Int64N(int64(t.linger)))
	ctx, cancel := context.WithTimeout(ctx, linger+t.timeout)
	defer cancel()
	conn, err := new(net.Dialer).DialContext(ctx, "tcp", addr)
	if err != nil {
		return
	}
	defer conn.Close()
	// Close ends whatever the client is waiting for.
	stop := context.AfterFunc(ctx, func() { conn.Close() })
	defer stop()
	select {
	case <-time.After(linger):
	case <-ctx.Done():
		return
	}
	request := "GET / HTTP/1.1\r\nHost: " + addr + "\r\nUser-Agent: usher-demo\r\nConnection: close\r\n\r\n"
	if _, err := io.WriteString(conn, request); err == nil {
		_, _ = io.CopyN(io.Discard, conn, maxReply)
	}
}
