package demo

import (
	"context"
	"io"
	"math/rand/v2"
	"net"
	"sync"
	"time"
)

// Traffic sends about four HTTP requests a second to addr (host:port), each on a new
// connection that lasts up to two seconds. It returns when ctx has ended and all
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
	every   time.Duration // mean time between two clients
	linger  time.Duration // longest pause of a client before its request
	timeout time.Duration // of the visit after that
	atOnce  int           // most concurrent clients
}

// maxReply is how many bytes a client reads.
const maxReply = 64 << 10

func (t trickle) run(ctx context.Context, addr string) {
	var clients sync.WaitGroup
	defer clients.Wait()
	slots := make(chan struct{}, t.atOnce)
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-timer.C:
		case <-ctx.Done():
			return
		}
		select {
		case slots <- struct{}{}:
			clients.Go(func() {
				defer func() { <-slots }()
				t.visit(ctx, addr)
			})
		default: // the service is too slow
		}
		timer.Reset(t.every/2 + time.Duration(rand.Int64N(int64(t.every))))
	}
}

// visit is one client. It connects at once and sends later, so that the live view shows
// the connection. It ignores errors; the service counts them.
func (t trickle) visit(ctx context.Context, addr string) {
	linger := time.Duration(rand.Int64N(int64(t.linger)))
	ctx, cancel := context.WithTimeout(ctx, linger+t.timeout)
	defer cancel()
	conn, err := new(net.Dialer).DialContext(ctx, "tcp", addr)
	if err != nil {
		return
	}
	defer conn.Close()
	// Close ends any wait of the client.
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
