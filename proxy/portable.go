package proxy

import (
	"context"
	"fmt"
	"iter"
	"maps"
	"net"
	"net/netip"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"usher/balancer"
	"usher/conntrack"
	"usher/proxy/flow"
)

// portableEngine carries each flow with goroutines and package net. It works
// wherever Go does, and on Linux it is a second opinion on the event loops.
type portableEngine struct {
	server *Server
	udp    *portableUDP
	dialer net.Dialer
	small  sync.Pool // *[]byte of smallBuffer
	bulk   sync.Pool // *[]byte of bulkBuffer
	large  sync.Pool // *[]byte of largeBuffer, for datagrams

	// mu guards the table but for its counters, and streams.
	mu      sync.Mutex
	feed    flow.Feed
	table   *flow.Table
	streams map[conntrack.ID]*stream
	timer   chan struct{} // the next deadline may have come nearer
	planned time.Duration // when the timer's goroutine looks next

	reclaimed atomic.Int64 // streams whose places will be free in a moment

	turn     chan struct{}  // held by the direction that lets others run
	shortage chan struct{}  // held by the accept loop that looks for a descriptor
	freed    chan struct{}  // signalled when a stream has closed its sockets
	lacking  atomic.Bool    // a stream has a client and waits for a descriptor
	serving  sync.WaitGroup // one goroutine a stream
	timing   sync.WaitGroup
	done     chan struct{}
}

// portableSockets are those of a binding: one that accepts, or of udp one or two.
type portableSockets struct {
	accept  net.Listener
	packets []*packetListener
	closing chan struct{} // closed when they are to be closed
	loops   sync.WaitGroup
}

const (
	smallBuffer = 4 << 10
	// bulkBuffer is what a stream holds for a client that takes nothing.
	bulkBuffer  = 32 << 10
	largeBuffer = 64 << 10
	// bulkTurn is what a direction moves before it lets others run: less costs more a byte.
	bulkTurn = 512 << 10
)

// keepalive as the event loops have it.
var portableKeepalive = net.KeepAliveConfig{
	Enable: true, Idle: flow.KeepaliveIdle, Interval: flow.KeepaliveInterval, Count: flow.KeepaliveProbes,
}

// countPortableSockets returns the number of descriptors that a listener takes: each port
// has one, one of udp for all addresses two.
func countPortableSockets(l Listener, _ int) int {
	if l.Network == "udp" && l.BothFamilies() {
		return 2 * l.Count()
	}
	return l.Count()
}

func newPortableEngine(s *Server) (engine, error) {
	buffers := func(size int) sync.Pool {
		return sync.Pool{New: func() any { b := make([]byte, size); return &b }}
	}
	e := &portableEngine{
		server:  s,
		dialer:  net.Dialer{KeepAliveConfig: portableKeepalive, FallbackDelay: -1},
		small:   buffers(smallBuffer),
		bulk:    buffers(bulkBuffer),
		large:   buffers(largeBuffer),
		table:   conntrack.New[Service, balancer.Backend](s.capacity),
		streams: make(map[conntrack.ID]*stream),
		timer:   make(chan struct{}, 1),
		turn:    make(chan struct{}, 1),

		shortage: make(chan struct{}, 1),
		freed:    make(chan struct{}, 1),
		done:     make(chan struct{}),
	}
	e.udp = newPortableUDP(e)
	e.feed = flow.Feed{Flow: e.socketsOf, Session: e.udp.socketsLocked}
	e.udp.sessions.Feed = &e.feed
	return e, nil
}

func (e *portableEngine) bind(b *binding, _ bool) error {
	sockets := &portableSockets{closing: make(chan struct{})}
	b.sockets = sockets
	var err error
	switch b.at.Network {
	case "udp":
		err = bindPackets(b, sockets)
	case "unix":
		b.file, err = bindSocketFile(b.at, func() (err error) { return sockets.listen(b, "unix", b.at.Path) })
	default:
		network, address := "tcp", b.at.Addr.String()
		switch {
		case b.at.Addr.Addr().Is4():
			network = "tcp4"
		case b.at.V6Only:
			network = "tcp6"
		case b.at.BothFamilies():
			address = fmt.Sprintf(":%d", b.at.Addr.Port())
		}
		if err = sockets.listen(b, network, address); err == nil {
			port := sockets.accept.Addr().(*net.TCPAddr).Port
			b.local = netip.AddrPortFrom(b.at.Addr.Addr(), uint16(port))
		}
	}
	if err != nil {
		e.discard(b)
	}
	return err
}

func (p *portableSockets) listen(b *binding, network, address string) (err error) {
	config := net.ListenConfig{KeepAliveConfig: portableKeepalive}
	// Multipath TCP has no RST by linger, and costs more per connection.
	config.SetMultipathTCP(false)
	if network == "unix" {
		config.Control = func(_, _ string, c syscall.RawConn) error {
			return c.Control(func(fd uintptr) { closeToOthers(fd, b.at.Mode) })
		}
	}
	if p.accept, err = config.Listen(context.Background(), network, address); err != nil {
		p.accept = nil
		return err
	}
	if l, ok := p.accept.(*net.UnixListener); ok {
		l.SetUnlinkOnClose(false)
	}
	return nil
}

func (e *portableEngine) discard(b *binding) {
	b.file.Remove()
	sockets := b.sockets.(*portableSockets)
	if sockets.accept != nil {
		sockets.accept.Close()
	}
	for _, l := range sockets.packets {
		l.Close()
	}
}

func (e *portableEngine) start() {
	e.timing.Go(e.runTimers)
	e.timing.Go(e.udp.expire)
}

func (e *portableEngine) serve(all []*binding) {
	for _, b := range all {
		sockets := b.sockets.(*portableSockets)
		if sockets.accept != nil {
			sockets.loops.Go(func() { e.acceptLoop(b, sockets) })
		}
		for _, l := range sockets.packets {
			e.udp.serve(l)
		}
	}
}

func (e *portableEngine) needInterfaces() { e.udp.needInterfaces() }

func (e *portableEngine) close(gone []*binding) {
	var packets []*packetListener
	for _, b := range gone {
		b.file.Remove()
		sockets := b.sockets.(*portableSockets)
		close(sockets.closing)
		packets = append(packets, sockets.packets...)
		if l, ok := sockets.accept.(interface{ SetDeadline(time.Time) error }); ok {
			_ = l.SetDeadline(time.Now().Add(drainGrace))
		} else if sockets.accept != nil {
			sockets.accept.Close()
		}
	}
	e.udp.giveUpAddresses(packets)
	for _, b := range gone {
		if sockets := b.sockets.(*portableSockets); sockets.accept != nil {
			sockets.loops.Wait()
		}
	}
	e.udp.endLeave(packets)
}

// letOthersRun lets all goroutines that are ready run first. One direction with much to
// move does so at a time, and the others wait for it: a newcomer never finds all of them
// before it in the scheduler's queue.
func (e *portableEngine) letOthersRun() {
	e.turn <- struct{}{}
	runtime.Gosched()
	<-e.turn
}

// armLocked sets a stream's timer. It needs the stream's mu.
func (e *portableEngine) armLocked(x *stream, now time.Duration) {
	e.mu.Lock()
	defer e.mu.Unlock()
	x.Arm(e.table, now)
	if at := x.Deadline(); at < e.planned {
		e.planned = at
		select {
		case e.timer <- struct{}{}:
		default:
		}
	}
}

// runTimers fires the streams' timers.
func (e *portableEngine) runTimers() {
	const far = time.Hour
	var due []*stream
	collect := func(id conntrack.ID) { due = append(due, e.streams[id]) }
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-e.done:
			return
		case <-e.timer:
		case <-timer.C:
		}
		now := e.server.Now()
		e.mu.Lock()
		e.table.Expire(now, collect)
		next, ok := e.table.NextDeadline()
		if !ok {
			next = now + far
		}
		e.planned = next
		e.mu.Unlock()
		for i, x := range due {
			x.expired(now)
			due[i] = nil
		}
		due = due[:0]
		timer.Reset(max(next-e.server.Now(), time.Millisecond))
	}
}

// remove ends a stream's row. Nothing counts on it any more.
func (e *portableEngine) remove(id conntrack.ID) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.table.Remove(id)
	delete(e.streams, id)
}

func (e *portableEngine) drain() {
	e.udp.drain()
	for _, x := range e.allStreams() {
		x.letGo()
	}
}

func (e *portableEngine) cut(t flow.CutTarget, how Cut) {
	for _, x := range e.allStreams() {
		x.leave(t, how)
	}
	e.udp.cut(t)
}

// allStreams returns the streams at present.
func (e *portableEngine) allStreams() []*stream {
	e.mu.Lock()
	defer e.mu.Unlock()
	return slices.Collect(maps.Values(e.streams))
}

func (e *portableEngine) stop() {
	close(e.done)
	e.timing.Wait()
	e.udp.stop()
	for _, x := range e.allStreams() {
		x.cut(flow.Drained)
	}
	e.serving.Wait()
}

func (e *portableEngine) procs() int { return e.server.workers }

func (e *portableEngine) rows() iter.Seq[Row] {
	return func(yield func(Row) bool) {
		for r := range e.table.Rows() {
			if !yield(Row{Row: r}) {
				return
			}
		}
		for r := range e.udp.sessions.Rows() {
			if !yield(Row{Row: r}) {
				return
			}
		}
	}
}

// reset closes a connection with RST where the protocol has one.
func reset(c net.Conn) {
	if t, ok := c.(interface{ SetLinger(sec int) error }); ok {
		_ = t.SetLinger(0)
	}
	_ = c.Close()
}
