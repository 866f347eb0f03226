package proxy

import (
	"context"
	"io"
	"net"
	"net/netip"
	"sync"
	"time"

	"usher/proxy/flow"
)

// stream is one TCP connection through the portable engine: its policy, its two
// connections, and a goroutine for each direction.
type stream struct {
	engine *portableEngine
	conn   [2]net.Conn // by side; the backend's once connected

	// mu guards the flow, and what follows.
	mu sync.Mutex
	flow.Flow
	joined   bool               // both sides are connected
	gone     chan struct{}      // closed when its place is free; nil: it never makes room for others
	ending   Outcome            // why the flow ends; Running while it does not
	broken   [2]Outcome         // by side: how it failed
	isTorn   bool               // bytes were read that were not written in full
	probed   [2]bool            // by side: has its keepalive
	cancel   context.CancelFunc // of the attempt, or the wait, under way; nil: there is none
	redirect flow.Action        // what follows instead of the cancelled attempt; goOn: nothing does

	lacksDescriptor bool          // it waits for one to reach a backend by; of the goroutine of serve
	woken           chan struct{} // room may have come for a client in the queue; nil: there is none

	door   *flow.Door // that judges it while greeting; nil: nobody does
	early  []byte     // read of the client before there was a backend
	peeked int        // how much of it was reported; -1: it is to be reported anew

	watcher sync.WaitGroup // of the client while no backend has accepted
	watched bool
}

// lastBytesGrace is how long the one side may take for what the other had sent
// before it broke.
const lastBytesGrace = 100 * time.Millisecond

// serve takes the stream from the accepted client to its end.
func (x *stream) serve(first func(now time.Duration) flow.Action) {
	if x.connect(first) {
		var up sync.WaitGroup
		up.Go(func() { x.pump(flow.Client) })
		x.pump(flow.Backend)
		up.Wait()
		x.close()
	} else {
		x.closeClient()
		x.watcher.Wait()
	}
	x.mu.Lock()
	o := x.ending
	x.mu.Unlock()
	e := x.engine
	select {
	case e.freed <- struct{}{}:
	default:
	}
	e.server.admission.Settle(&x.Flow, o, e.server.Now(), e.remove)
	if o == flow.Reclaimed {
		e.reclaimed.Add(-1)
	}
	if x.gone != nil {
		close(x.gone)
	}
}

// closeClient closes the client of a stream that has ended without a backend.
func (x *stream) closeClient() {
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.IsOrderly(x.ending, false) {
		_ = x.conn[flow.Client].Close()
	} else {
		reset(x.conn[flow.Client])
	}
}

// connect hears the client as far as is needed, and tries backends until one accepts. It
// reports false when the flow ends instead.
func (x *stream) connect(first func(now time.Duration) flow.Action) bool {
	defer x.hasDescriptors()
	for a := x.report(first); ; {
		switch a.Do {
		case flow.Peek:
			a = x.listen(a.Until)
		case flow.Discard:
			a = x.name(a.Bytes)
		case flow.Hold:
			a = x.hold(a.Until)
		case flow.Dial:
			a = x.dial(a.Until)
		case flow.Relay:
			return true
		case flow.End:
			return false
		default:
			x.mu.Lock()
			x.Announce(x.engine.server.Now())
			x.mu.Unlock()
			x.watchClient()
			a = x.rest(a.Until)
		}
	}
}

// report tells the policy of an event before a backend has accepted, and returns its
// answer. Where the attempt was cancelled meanwhile, what was answered then stands.
func (x *stream) report(event func(now time.Duration) flow.Action) flow.Action {
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.ending != flow.Running {
		return flow.EndAs(x.ending)
	}
	a := x.redirect
	if x.redirect = (flow.Action{}); a.Do == flow.GoOn {
		a = event(x.engine.server.Now())
	}
	if a.Do == flow.End {
		x.ending = a.Outcome
	} else {
		flow.MustHold(&x.Flow)
	}
	return a
}

// cancellable returns a context that ends when the stream is cut, or its backend is.
func (x *stream) cancellable() (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancel(context.Background())
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.cancel = cancel; x.ending != flow.Running || x.redirect.Do != flow.GoOn {
		cancel()
	}
	return ctx, cancel
}

// dial connects to the reserved backend.
func (x *stream) dial(until time.Duration) flow.Action {
	ctx, cancel := x.cancellable()
	defer cancel()
	network, address := x.dialTarget()
	dialer := x.dialer()
	done := make(chan dialed, 1)
	go func() {
		c, err := dialer.DialContext(ctx, network, address)
		done <- dialed{c, err}
	}()
	clock := x.engine.server
	step := time.NewTimer(until - clock.Now())
	defer step.Stop()
	for {
		select {
		case d := <-done:
			return x.dialed(d)
		case <-step.C:
		}
		select {
		case d := <-done: // on a busy machine both may be there
			return x.dialed(d)
		default:
		}
		x.watchClient()
		a := x.report(x.Flow.Expired)
		if a.Do != flow.GoOn {
			cancel()
			if d := <-done; d.conn != nil {
				reset(d.conn)
			}
			return a
		}
		step.Reset(a.Until - clock.Now())
	}
}

// dialer returns how the reserved backend is connected to.
func (x *stream) dialer() net.Dialer {
	d := x.engine.dialer
	x.mu.Lock()
	source := x.Source() // of another backend if that was cut meanwhile, and then the attempt is cancelled
	x.mu.Unlock()
	if source.IsValid() {
		d.LocalAddr, d.Control = net.TCPAddrFromAddrPort(netip.AddrPortFrom(source, 0)), leavePortToConnect
	}
	return d
}

// dialTarget returns where the reserved backend is, as package net takes it.
func (x *stream) dialTarget() (network, address string) {
	x.mu.Lock()
	defer x.mu.Unlock()
	addr, path := x.Target()
	if path != "" {
		return "unix", path
	}
	return "tcp", addr.String()
}

// dialed is how an attempt ended.
type dialed struct {
	conn net.Conn
	err  error
}

// dialed reports how an attempt ended.
func (x *stream) dialed(d dialed) flow.Action {
	if d.err != nil {
		class := classifyError(d.err)
		if class == flow.ClassNoResources && !x.mayLackDescriptor() {
			return x.report(func(time.Duration) flow.Action { return flow.EndAs(flow.NoResources) })
		}
		return x.report(func(now time.Duration) flow.Action { return x.DialFailed(class, now) })
	}
	x.unwatchClient()
	a := x.report(func(now time.Duration) flow.Action {
		x.conn[flow.Backend], x.joined = d.conn, true
		x.probed = [2]bool{true, true}
		a := x.Connected(now)
		x.engine.armLocked(x, now)
		return a
	})
	if a.Do != flow.Relay {
		reset(d.conn)
	}
	return a
}

// mayLackDescriptor reports whether the stream may wait for a descriptor to reach a backend
// by. One stream at a time does: many that each hold a client's would wait for each other.
func (x *stream) mayLackDescriptor() bool {
	if !x.lacksDescriptor {
		x.lacksDescriptor = x.engine.lacking.CompareAndSwap(false, true)
	}
	return x.lacksDescriptor
}

// hasDescriptors notes that the stream waits for no descriptor any more.
func (x *stream) hasDescriptors() {
	if x.lacksDescriptor {
		x.lacksDescriptor = false
		x.engine.lacking.Store(false)
	}
}

// watchClient has the flow end when the client breaks while no backend has
// accepted yet, or ends if that counts. unwatchClient ends it.
func (x *stream) watchClient() {
	if x.watched {
		return
	}
	x.watched = true
	x.mu.Lock()
	a := x.ClientEnded()
	x.mu.Unlock()
	x.watcher.Go(func() {
		switch err := awaitEnd(x.conn[flow.Client], a.Do == flow.End); {
		case err == io.EOF:
			x.cut(a.Outcome)
		case err != nil:
			x.cut(flow.Client.Broken(classifyError(err).IsLost()))
		}
	})
}

// unwatchClient leaves the client to be read.
func (x *stream) unwatchClient() {
	if x.watched {
		_ = x.conn[flow.Client].SetReadDeadline(time.Now())
		x.watcher.Wait()
		_ = x.conn[flow.Client].SetReadDeadline(time.Time{})
		x.watched = false
	}
}

// leave has the stream end with its service, or give up a backend that is cut. What is
// still connecting to that goes on to another one. The backend is chosen with mu held: a stream that has chosen
// it is met here, or has its choice to make and will not find it.
func (x *stream) leave(t flow.CutTarget, how Cut) {
	x.mu.Lock()
	defer x.mu.Unlock()
	switch {
	case x.ending != flow.Running || !x.IsCutBy(t):
	case x.joined:
		x.followLocked(x.Flow.Cut(t, how, x.engine.server.Now()))
	default:
		if x.redirect = x.Flow.Cut(t, how, x.engine.server.Now()); x.redirect.Do != flow.GoOn && x.cancel != nil {
			x.cancel()
		}
	}
}

// rest waits for the next look for a backend.
func (x *stream) rest(until time.Duration) flow.Action {
	ctx, cancel := x.cancellable()
	defer cancel()
	t := time.NewTimer(until - x.engine.server.Now())
	defer t.Stop()
	select {
	case <-x.woken:
		return x.report(x.Flow.Woken)
	case <-t.C:
	case <-ctx.Done():
	}
	return x.report(x.Flow.Expired)
}

// pump passes on what side s sends, and its end. A side that sends nothing more, or has
// nobody to send to, may still fail, so it is watched until the flow ends.
func (x *stream) pump(s flow.Side) {
	if (s == flow.Backend || x.sendFirst()) && x.copyFrom(s) {
		x.fin(s)
	}
	if err := awaitError(x.conn[s]); err != nil {
		x.readFailed(s, err)
	}
}

// copyFrom passes on what side s sends. It reports whether that ended with a FIN;
// if not, what failed is noted. Waiting for bytes costs a small buffer, or a large
// one after a read that has filled its buffer.
func (x *stream) copyFrom(s flow.Side) (fin bool) {
	e := x.engine
	src, dst := x.conn[s], x.conn[s.Other()]
	pool := &e.small
	buffer := pool.Get().(*[]byte)
	defer func() { pool.Put(buffer) }()
	for bulk := 0; ; {
		n, err := src.Read(*buffer)
		if n > 0 {
			m, werr := dst.Write((*buffer)[:n])
			x.Passed(s, m, e.server.Now())
			if werr != nil {
				x.writeFailed(s.Other(), werr)
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
		if pool == &e.bulk {
			if bulk += n; bulk >= bulkTurn {
				bulk = 0
				e.letOthersRun()
			}
		}
		switch {
		case n == smallBuffer && pool == &e.small:
			pool.Put(buffer)
			pool = &e.bulk
			buffer = pool.Get().(*[]byte)
		case n < bulkBuffer && pool == &e.bulk:
			pool.Put(buffer)
			pool = &e.small
			buffer = pool.Get().(*[]byte)
		}
	}
}

// reclaim ends a stream that was marked as idle, if it has been idle since.
func (x *stream) reclaim() bool {
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.ending == flow.Running && x.joined {
		x.followLocked(flow.Action{Do: flow.Inspect}) // the peers may have acknowledged something
	}
	if x.ending != flow.Running {
		x.engine.clearIdle(x)
		return false
	}
	x.engine.mu.Lock()
	a := x.Flow.Reclaim(x.engine.table, x.engine.server.Now())
	x.engine.mu.Unlock()
	if a.Do == flow.End {
		x.engine.reclaimed.Add(1)
	}
	if x.joined {
		x.followLocked(a)
	} else if a.Do == flow.End {
		x.cutLocked(a.Outcome)
	}
	return a.Do == flow.End
}

// cut ends the stream from outside, whatever it does.
func (x *stream) cut(o Outcome) {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.cutLocked(o)
}

// cutLocked is cut. It needs mu.
func (x *stream) cutLocked(o Outcome) {
	if x.joined {
		x.endLocked(o)
		return
	}
	if x.ending == flow.Running {
		x.ending = o
		if x.cancel != nil {
			x.cancel()
		}
	}
}
