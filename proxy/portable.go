package proxy

import (
	"context"
	"fmt"
	"iter"
	"net"
	"net/netip"
	"sync"
	"time"

	"usher/balancer"
	"usher/conntrack"
)

// portableEngine carries each flow with goroutines and package net. It works
// wherever Go does, and on Linux it is a second opinion on the event loops.
type portableEngine struct {
	server  *Server
	accepts []portableListener
	files   []socketFile
	udp     *portableUDP // nil without udp listeners
	dialer  net.Dialer
	small   sync.Pool // *[]byte of smallBuffer
	large   sync.Pool // *[]byte of largeBuffer

	// mu guards the table but for its counters, and streams.
	mu      sync.Mutex
	table   *table
	streams map[conntrack.ID]*stream
	timer   chan struct{} // the next deadline may have come nearer
	planned time.Duration // when the timer's goroutine looks next

	started   bool
	listening sync.WaitGroup // accept loops
	serving   sync.WaitGroup // one goroutine a stream
	timing    sync.WaitGroup
	done      chan struct{}
}

type portableListener struct {
	net.Listener
	svc    *Service
	local  netip.AddrPort
	offset uint16
}

const (
	smallBuffer = 4 << 10
	largeBuffer = 64 << 10
)

// keepalive as the event loops have it.
var portableKeepalive = net.KeepAliveConfig{
	Enable: true, Idle: keepaliveIdle, Interval: keepaliveInterval, Count: keepaliveProbes,
}

// portableSockets: each port has one, one of udp for all addresses two.
func portableSockets(l Listener, _ int) int {
	if l.Network == "udp" && l.Addr.Addr() == netip.IPv6Unspecified() {
		return 2 * l.count()
	}
	return l.count()
}

func newPortableEngine(s *Server) (engine, error) {
	buffers := func(size int) sync.Pool {
		return sync.Pool{New: func() any { b := make([]byte, size); return &b }}
	}
	return &portableEngine{
		server:  s,
		dialer:  net.Dialer{KeepAliveConfig: portableKeepalive, FallbackDelay: -1},
		small:   buffers(smallBuffer),
		large:   buffers(largeBuffer),
		table:   conntrack.New[Service, balancer.Backend](int(s.maxConns)),
		streams: make(map[conntrack.ID]*stream),
		timer:   make(chan struct{}, 1),
		done:    make(chan struct{}),
	}, nil
}

func (e *portableEngine) listen(svc *Service, l Listener) ([]netip.AddrPort, error) {
	config := net.ListenConfig{KeepAliveConfig: portableKeepalive}
	// Multipath TCP has no RST by linger, and costs more per connection.
	config.SetMultipathTCP(false)
	if l.Network == "unix" {
		var ln net.Listener
		file, err := bindSocketFile(l.Path, func() (err error) {
			if ln, err = config.Listen(context.Background(), "unix", l.Path); err == nil {
				ln.(*net.UnixListener).SetUnlinkOnClose(false)
			}
			return err
		})
		if err != nil {
			return nil, err
		}
		e.files = append(e.files, file)
		e.accepts = append(e.accepts, portableListener{Listener: ln, svc: svc})
		return nil, nil
	}
	if l.Network == "udp" {
		if e.udp == nil {
			e.udp = newPortableUDP(e)
		}
		return e.udp.listen(svc, l)
	}
	var bound []netip.AddrPort
	for i := range l.count() {
		at := l.at(i)
		network, address := "tcp", at.String()
		switch {
		case at.Addr().Is4():
			network = "tcp4"
		case at.Addr() == netip.IPv6Unspecified():
			address = fmt.Sprintf(":%d", at.Port())
		}
		ln, err := config.Listen(context.Background(), network, address)
		if err != nil {
			return nil, err
		}
		local := netip.AddrPortFrom(at.Addr(), uint16(ln.Addr().(*net.TCPAddr).Port))
		e.accepts = append(e.accepts, portableListener{ln, svc, local, uint16(i)})
		bound = append(bound, local)
	}
	return bound, nil
}

func (e *portableEngine) start() {
	e.started = true
	e.timing.Go(e.runTimers)
	for i := range e.accepts {
		l := &e.accepts[i]
		e.listening.Go(func() { e.acceptLoop(l) })
	}
	if e.udp != nil {
		e.udp.start()
	}
}

const (
	acceptBackoffMin = 5 * time.Millisecond
	acceptBackoffMax = 200 * time.Millisecond
	// drainGrace is how long a draining listener goes on to accept, to serve
	// clients that the kernel has accepted already.
	drainGrace = 50 * time.Millisecond
)

// acceptLoop ends only when its listener is closed. Any other error, such as a
// want of descriptors, is waited out.
func (e *portableEngine) acceptLoop(l *portableListener) {
	backoff := acceptBackoffMin
	for {
		conn, err := l.Accept()
		if err != nil {
			if e.server.draining.Load() {
				l.Close()
				return
			}
			l.svc.starved.Add(1)
			select {
			case <-time.After(backoff):
			case <-e.done:
			}
			backoff = min(2*backoff, acceptBackoffMax)
			continue
		}
		backoff = acceptBackoffMin
		e.admit(conn, l)
	}
}

// admit starts the goroutine of a client's flow, or resets it when there is no room.
func (e *portableEngine) admit(conn net.Conn, l *portableListener) {
	var from netip.AddrPort
	if a, ok := conn.RemoteAddr().(*net.TCPAddr); ok {
		from = a.AddrPort()
		from = netip.AddrPortFrom(from.Addr().Unmap().WithZone(""), from.Port())
	}
	s := e.server
	if !s.admit(l.svc) && (e.udp == nil || !e.udp.giveWay(l.svc)) {
		s.refuse(l.svc, from)
		reset(conn)
		return
	}
	local := l.local
	if a, ok := conn.LocalAddr().(*net.TCPAddr); ok && l.svc.located && local.Addr().IsUnspecified() {
		local = netip.AddrPortFrom(a.AddrPort().Addr().Unmap().WithZone(""), local.Port())
	}
	x := &stream{engine: e}
	if l.svc.QueueLength > 0 {
		x.woken = make(chan struct{}, 1)
		x.ticket = &ticket{wake: func() {
			select {
			case x.woken <- struct{}{}:
			default:
			}
		}}
	}
	x.conn[client] = conn
	proto := conntrack.TCP
	if !l.local.IsValid() {
		proto = conntrack.Unix
	}
	now := s.Now()
	e.mu.Lock()
	x.id, x.ent = e.table.Insert(conntrack.NewKey(proto, from, local), l.svc, now) // room: see Server.settle
	e.streams[x.id] = x
	e.mu.Unlock()
	x.open(l.svc, from, local, l.offset, now)
	e.serving.Go(x.serve)
}

// arm sets a stream's timer.
func (e *portableEngine) arm(x *stream, at time.Duration) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.table.Arm(x.id, at)
	if at < e.planned {
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
		next, ok := e.table.Next()
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
func (e *portableEngine) remove(x *stream) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.table.Remove(x.id)
	delete(e.streams, x.id)
}

func (e *portableEngine) drain() {
	removeSocketFiles(e.files)
	for i := range e.accepts {
		l := e.accepts[i].Listener
		if d, ok := l.(interface{ SetDeadline(time.Time) error }); ok && e.started {
			_ = d.SetDeadline(time.Now().Add(drainGrace))
		} else {
			l.Close()
		}
	}
	e.listening.Wait()
	if e.udp != nil {
		e.udp.drain()
	}
}

func (e *portableEngine) cutBackend(b *balancer.Backend, how Cut) {
	e.mu.Lock()
	all := make([]*stream, 0, len(e.streams))
	for _, x := range e.streams {
		all = append(all, x)
	}
	e.mu.Unlock()
	for _, x := range all {
		x.leave(b, how)
	}
	if e.udp != nil {
		e.udp.cutBackend(b)
	}
}

func (e *portableEngine) stop() {
	for _, l := range e.accepts {
		l.Close()
	}
	removeSocketFiles(e.files)
	close(e.done)
	e.listening.Wait()
	e.timing.Wait()
	if e.udp != nil {
		e.udp.stop()
	}
	e.mu.Lock()
	left := make([]*stream, 0, len(e.streams))
	for _, x := range e.streams {
		left = append(left, x)
	}
	e.mu.Unlock()
	for _, x := range left {
		x.cut(Drained)
	}
	e.serving.Wait()
}

func (e *portableEngine) procs() int { return e.server.workers }

func (e *portableEngine) rows() iter.Seq[Row] {
	return func(yield func(Row) bool) {
		for r := range e.table.Rows() {
			if !yield(r) {
				return
			}
		}
		if e.udp == nil {
			return
		}
		for r := range e.udp.sessions.table.Rows() {
			if !yield(r) {
				return
			}
		}
	}
}

// reset closes a connection with RST where the protocol has one.
func reset(c net.Conn) {
	if t, ok := c.(*net.TCPConn); ok {
		_ = t.SetLinger(0)
	}
	_ = c.Close()
}
