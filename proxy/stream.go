package proxy

import (
	"context"
	"errors"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"usher/balancer"
)

// stream is one TCP connection through the portable engine: its policy, its two
// connections, and a goroutine for each direction.
type stream struct {
	engine *portableEngine
	conn   [2]net.Conn // by side; the backend's once connected

	// mu guards the flow once both directions run, and what follows.
	mu sync.Mutex
	flow
	joined bool       // both sides are connected
	ending Outcome    // why the flow ends; Running while it does not
	broken [2]Outcome // by side: how it failed
	dial   context.CancelFunc
	shun   *balancer.Backend // one that must not be relayed to: it was cut
	woken  chan struct{}     // room may have come for a client in the queue; nil: there is none

	writing [2]atomic.Bool // by side: bytes are on their way to it
	watcher sync.WaitGroup // of the client while no backend has accepted
	watched bool
}

// lastWordsGrace is how long the one side may take for what the other had sent
// before it broke.
const lastWordsGrace = 100 * time.Millisecond

// serve takes the stream from the accepted client to its end.
func (x *stream) serve() {
	o := x.connect()
	if o == Running {
		var up sync.WaitGroup
		up.Go(func() { x.pump(client) })
		x.pump(backend)
		up.Wait()
	} else {
		reset(x.conn[client])
		x.watcher.Wait()
	}
	x.mu.Lock()
	if x.ending != Running {
		o = x.ending
	}
	x.mu.Unlock()
	e := x.engine
	e.server.settle(&x.flow, o, e.server.Now())
	e.remove(x)
	e.server.leave()
}

// connect tries backends until one accepts.
func (x *stream) connect() Outcome {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	x.mu.Lock()
	x.dial = cancel
	stopped := x.ending
	x.mu.Unlock()
	if stopped != Running {
		return stopped
	}
	for {
		x.mu.Lock() // see leave
		x.shun = nil
		o := x.next(x.engine.server.Now())
		x.mu.Unlock()
		if o != Running {
			return o
		}
		for x.holding {
			c, o := x.try(ctx)
			if o != Running {
				return o
			}
			if c == nil {
				continue
			}
			if o, ok := x.relayTo(c); ok {
				return o
			}
		}
		if x.phase == waiting {
			x.watchClient()
			if !x.rest(ctx) {
				return Drained
			}
		}
	}
}

// try dials the reserved backend. Without a connection another backend is reserved
// in its place, or none, or the client is held.
func (x *stream) try(ctx context.Context) (net.Conn, Outcome) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	network, address := "tcp", ""
	if addr, path := x.target(); path != "" {
		network, address = "unix", path
	} else {
		address = addr.String()
	}
	done := make(chan dialed, 1)
	go func() {
		c, err := x.engine.dialer.DialContext(ctx, network, address)
		for errors.Is(err, syscall.EAGAIN) && network == "unix" && sleep(ctx, busyRetry) {
			c, err = x.engine.dialer.DialContext(ctx, network, address)
		}
		done <- dialed{c, err}
	}()
	clock := x.engine.server
	step := time.NewTimer(x.attempt - clock.Now())
	defer step.Stop()
	for {
		select {
		case d := <-done:
			return x.judge(ctx, d)
		case <-step.C:
		}
		select {
		case d := <-done: // on a busy machine both may be there
			return x.judge(ctx, d)
		default:
		}
		x.watchClient()
		x.mu.Lock()
		giveUp := x.slow(clock.Now())
		if giveUp {
			x.shun = nil // that was the backend before
		}
		x.mu.Unlock()
		if !giveUp {
			step.Reset(x.attempt - clock.Now())
			continue
		}
		cancel()
		if d := <-done; d.conn != nil {
			reset(d.conn)
		}
		return nil, Running
	}
}

// dialed is how an attempt ended.
type dialed struct {
	conn net.Conn
	err  error
}

// judge is what an attempt that ended means to the flow; see try.
func (x *stream) judge(ctx context.Context, d dialed) (net.Conn, Outcome) {
	switch {
	case d.err == nil:
		return d.conn, Running
	case ctx.Err() != nil:
		return nil, Drained
	case errors.Is(d.err, syscall.EMFILE) || errors.Is(d.err, syscall.ENFILE):
		return nil, x.starved(x.engine.server.Now())
	case errors.Is(d.err, syscall.EADDRNOTAVAIL):
		x.unable()
		return nil, Running
	}
	x.refused()
	return nil, Running
}

// watchClient has the flow end when the client breaks while no backend has
// accepted yet. unwatchClient ends it.
func (x *stream) watchClient() {
	if x.watched {
		return
	}
	x.watched = true
	x.watcher.Go(func() {
		if err := awaitError(x.conn[client]); err != nil {
			x.cut(client.broken(isLostError(err)))
		}
	})
}

// unwatchClient leaves the client to be read.
func (x *stream) unwatchClient() {
	if x.watched {
		_ = x.conn[client].SetReadDeadline(time.Now())
		x.watcher.Wait()
		_ = x.conn[client].SetReadDeadline(time.Time{})
		x.watched = false
	}
}

// relayTo makes c the backend's side, unless the backend was cut meanwhile: then it
// reports false, and another one is to be tried.
func (x *stream) relayTo(c net.Conn) (o Outcome, ok bool) {
	x.unwatchClient()
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.ending != Running {
		reset(c)
		return x.ending, true
	}
	if x.shun == x.backend {
		reset(c)
		x.release()
		return Running, false
	}
	x.conn[backend], x.joined = c, true
	x.established(x.engine.server.Now())
	x.engine.arm(x, x.deadline())
	return Running, true
}

// leave has the stream give up a backend that is cut. What is still connecting to it
// goes on to another one. The backend is chosen with mu held: a stream that has chosen
// it is met here, or has its choice to make and will not find it.
func (x *stream) leave(b *balancer.Backend, how Cut) {
	x.mu.Lock()
	defer x.mu.Unlock()
	switch {
	case x.backend != b:
	case x.joined:
		x.gentle = how == Fin
		x.end(BackendDown)
	default:
		x.shun = b
	}
}

// rest waits for the next look for a backend. It reports false if ctx ended first.
func (x *stream) rest(ctx context.Context) bool {
	t := time.NewTimer(x.attempt - x.engine.server.Now())
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-x.woken:
		return true
	case <-ctx.Done():
		return false
	}
}

// pump passes on what side s sends, and its end. A side that has sent FIN may
// still break, so it is watched until the flow ends.
func (x *stream) pump(s side) {
	if !x.copyFrom(s) {
		return
	}
	x.fin(s)
	if err := awaitError(x.conn[s]); err != nil {
		x.readFailed(s, err)
	}
}

// copyFrom passes on what side s sends. It reports whether that ended with a FIN;
// if not, what failed is noted. Waiting for bytes costs a small buffer, or a large
// one after a read that has filled its buffer.
func (x *stream) copyFrom(s side) (fin bool) {
	e := x.engine
	src, dst := x.conn[s], x.conn[s.other()]
	pool := &e.small
	buffer := pool.Get().(*[]byte)
	defer func() { pool.Put(buffer) }()
	for {
		n, err := src.Read(*buffer)
		if n > 0 {
			x.writing[s.other()].Store(true)
			m, werr := dst.Write((*buffer)[:n])
			x.writing[s.other()].Store(false)
			x.passed(s, m, e.server.Now())
			if werr != nil {
				x.writeFailed(s.other(), werr)
				return false
			}
		}
		if err == io.EOF {
			return true
		}
		if err != nil {
			x.readFailed(s, err)
			return false
		}
		switch {
		case n == smallBuffer && pool == &e.small:
			pool.Put(buffer)
			pool = &e.large
			buffer = pool.Get().(*[]byte)
		case n < largeBuffer && pool == &e.large:
			pool.Put(buffer)
			pool = &e.small
			buffer = pool.Get().(*[]byte)
		}
	}
}

// fin passes the end of the stream from side s on.
func (x *stream) fin(s side) {
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.ending != Running {
		return
	}
	if o := x.broken[s]; o != Running {
		x.end(o) // the end was a reset, which must not arrive as a FIN
		return
	}
	if x.finished(s, x.engine.server.Now()) {
		x.end(Finished)
		return
	}
	if c, ok := x.conn[s.other()].(interface{ CloseWrite() error }); ok {
		if err := c.CloseWrite(); err != nil {
			x.end(s.other().broken(false))
			return
		}
	}
	x.engine.arm(x, x.deadline())
}

// readFailed ends the flow: what side s had sent has all been read.
func (x *stream) readFailed(s side, err error) {
	x.mu.Lock()
	defer x.mu.Unlock()
	o := x.broken[s]
	if o == Running {
		o = s.broken(isLostError(err))
	}
	x.end(o)
}

// writeFailed notes that side s has broken. What it had sent before may still be
// read by the other direction, which ends the flow then.
func (x *stream) writeFailed(s side, err error) {
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.broken[s.other()] != Running || x.fins&(1<<s) != 0 {
		// The end of the other side is known, or nothing more comes from this one.
		o := x.broken[s.other()]
		if o == Running {
			o = s.broken(isLostError(err))
		}
		x.end(o)
		return
	}
	x.broken[s] = s.broken(isLostError(err))
	_ = x.conn[s.other()].SetWriteDeadline(time.Now().Add(lastWordsGrace))
}

// expired is called when the stream's timer has fired.
func (x *stream) expired(now time.Duration) {
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.ending != Running || !x.joined {
		return
	}
	o, look := x.overdue(now)
	if look {
		for s := client; s <= backend && o == Running; s++ {
			if connVanished(x.conn[s]) {
				o = s.broken(true)
			}
		}
	}
	if o != Running {
		x.end(o)
		return
	}
	x.engine.arm(x, x.deadline())
}

// cut ends the stream from outside, whatever it does.
func (x *stream) cut(o Outcome) {
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.joined {
		x.end(o)
		return
	}
	if x.ending == Running {
		x.ending = o
		if x.dial != nil {
			x.dial()
		}
	}
}

// end closes both connections, which ends both directions. The first reason
// stands. It needs mu.
func (x *stream) end(o Outcome) {
	if x.ending != Running {
		return
	}
	x.ending = o
	orderly := x.orderly(o, x.writing[client].Load() || x.writing[backend].Load()) &&
		(o == Finished || !connUnread(x.conn[client]) && !connUnread(x.conn[backend]))
	for _, c := range x.conn {
		if orderly {
			_ = c.Close()
		} else {
			reset(c)
		}
	}
}

// isLostError tells silence and unreachability from a reset.
func isLostError(err error) bool {
	return errors.Is(err, syscall.ETIMEDOUT) || errors.Is(err, syscall.EHOSTUNREACH) || errors.Is(err, syscall.ENETUNREACH)
}

// sleep waits for d; it reports false if ctx ended first.
func sleep(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}
