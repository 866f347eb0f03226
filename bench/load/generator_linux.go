package load

import (
	"fmt"
	"math"
	"net/netip"
	"runtime"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"
	"golang.org/x/sys/unix"
)

const (
	rampWindow  = 64               // clients that may wait for their first reply while the others are opened
	rampLimit   = 30 * time.Second // a proxy that needs longer to open all is stuck
	maxErrors   = 1000             // failed CRR connections before the run is given up
	idleWarmup  = 8                // clients that cause the proxy's one-time allocations
	idleSettle  = 200 * time.Millisecond
	histLowest  = int64(time.Microsecond)
	histHighest = int64(30 * time.Second)
)

// Generator is the clients and the backends of one run. It is not safe for
// concurrent use.
type Generator struct {
	cfg      Config
	loop     loop
	backends []netip.AddrPort
	sources  []unix.RawSockaddrInet4
	target   unix.RawSockaddrInet4

	base    time.Time // the clock's zero
	request []byte    // what clients send; the first bytes are the tag of the connection that sends
	buf     []byte    // the one buffer of all reads

	opened  int // clients opened, also those that were closed again
	ready   int // clients that have had their first reply
	pending int // clients that wait for it
	want    int // clients to open in all
	window  int // bound of pending
	units   int64
	errors  int64
	first   error // the first of errors
	err     error // ends the run
	latency *hdrhistogram.Histogram

	datagrams exchange // of UDP kinds

	next  time.Duration // when the next client begins that keeps a pace
	flood flood
}

// New opens the backends' listeners. Close releases them.
func New(c Config) (*Generator, error) {
	if err := c.check(); err != nil {
		return nil, err
	}
	g := &Generator{
		cfg:     c,
		base:    time.Now(),
		request: make([]byte, c.Size),
		buf:     make([]byte, maxSize),
		latency: hdrhistogram.New(histLowest, histHighest, 3),
	}
	if c.Kind.isUDP() {
		g.datagrams = newExchange(&c)
	}
	for _, a := range c.Sources {
		g.sources = append(g.sources, rawAddr(netip.AddrPortFrom(a, 0)))
	}
	for _, a := range c.Denied {
		g.flood.sources = append(g.flood.sources, rawAddr(netip.AddrPortFrom(a, 0)))
	}
	if err := g.loop.open(); err != nil {
		return nil, err
	}
	if err := g.listen(); err != nil {
		g.Close()
		return nil, err
	}
	return g, nil
}

// Backends returns where the backends listen.
func (g *Generator) Backends() []netip.AddrPort { return g.backends }

// Close closes every socket.
func (g *Generator) Close() {
	g.stopFlood()
	g.loop.close()
}

// Run drives the proxy at target. It calls begin just before and end just after
// the measured time, from its own thread. Neither client nor backend runs during them.
// An error of theirs ends the run. It may run again, unless its clients are idle: the
// clients of the run before go on, but for those that keep a pace.
func (g *Generator) Run(target netip.AddrPort, begin, end func() error) (Result, error) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	if !target.Addr().Is4() {
		return Result{}, fmt.Errorf("target %s is not IPv4", target)
	}
	g.target = rawAddr(target)

	if g.cfg.Kind.IsIdle() {
		return g.runIdle(begin, end)
	}
	defer g.stopFlood()
	if g.cfg.Kind == CRR {
		if g.cfg.Pace > 0 { // those that still wait are of the run before
			g.loop.closeClients()
			g.pending = 0
		}
		g.want, g.window, g.next = math.MaxInt, g.cfg.Conns, g.now()
		g.openMore()
	} else if err := g.ramp(g.cfg.Conns); err != nil {
		return Result{}, err
	}
	if err := g.pollFor(g.cfg.Warmup); err != nil {
		return Result{}, err
	}
	if err := begin(); err != nil {
		return Result{}, err
	}
	g.latency.Reset()
	g.errors, g.first = 0, nil
	units, flooded, lost, start := g.units, g.flood.sent, g.datagrams.missing(), g.now()
	if err := g.pollFor(g.cfg.Duration); err != nil {
		return Result{}, err
	}
	elapsed := g.now() - start
	if g.cfg.Pace > 0 {
		g.recordWaiting()
	}
	if err := end(); err != nil {
		return Result{}, err
	}
	if err := g.checkDrops(); err != nil {
		return Result{}, err
	}
	r := g.result(g.units-units, elapsed)
	r.Flooded = g.flood.sent - flooded
	r.Lost = max(g.datagrams.missing()-lost, 0) // below: late replies to earlier requests
	return r, nil
}

// runIdle measures the cost of idle clients. The proxy makes its one-time allocations
// before it begins.
func (g *Generator) runIdle(begin, end func() error) (Result, error) {
	if err := g.ramp(min(idleWarmup, g.cfg.Conns)); err != nil {
		return Result{}, err
	}
	// A UDP flow outlives its client, and the next client with that port would
	// continue it. These clients stay and are not counted.
	if g.cfg.Kind == Idle {
		g.loop.closeClients()
		g.opened, g.ready = 0, 0
	}
	first := g.ready
	if err := g.pollFor(idleSettle); err != nil {
		return Result{}, err
	}
	if err := begin(); err != nil {
		return Result{}, err
	}
	g.latency.Reset()
	start := g.now()
	if err := g.ramp(first + g.cfg.Conns); err != nil {
		return Result{}, err
	}
	elapsed := g.now() - start
	if err := g.pollFor(g.cfg.Duration); err != nil {
		return Result{}, err
	}
	if err := end(); err != nil {
		return Result{}, err
	}
	return g.result(int64(g.ready-first), elapsed), nil
}

func (g *Generator) result(units int64, elapsed time.Duration) Result {
	r := Result{Elapsed: elapsed, Units: units, Errors: g.errors}
	if g.latency.TotalCount() > 0 {
		r.P50 = time.Duration(g.latency.ValueAtQuantile(50))
		r.P99 = time.Duration(g.latency.ValueAtQuantile(99))
	}
	if g.first != nil {
		r.Error = g.first.Error()
	}
	return r
}

// ramp opens clients until n have had their first reply. It opens a few at a time, so
// that no listen queue overflows.
func (g *Generator) ramp(n int) error {
	g.want, g.window = n, rampWindow
	deadline := g.now() + rampLimit
	for g.openMore(); g.ready < n && g.err == nil; {
		if g.now() > deadline {
			return fmt.Errorf("%d of %d clients answered within %s", g.ready, n, rampLimit)
		}
		g.poll(100 * time.Millisecond)
	}
	return g.err
}

// pollFor serves clients and backends for d.
func (g *Generator) pollFor(d time.Duration) error {
	for deadline := g.now() + d; g.err == nil; {
		left := deadline - g.now()
		if left <= 0 {
			break
		}
		g.poll(left)
	}
	return g.err
}

// poll waits for events at most for d and serves them.
func (g *Generator) poll(d time.Duration) {
	if g.cfg.Kind.isUDP() {
		d = min(d, g.datagrams.nextSweep-g.now())
	}
	if g.cfg.Pace > 0 { // it does not sleep, so that a flood makes no difference to it
		g.keepPace()
		d = 0
	}
	events, err := g.loop.wait(d)
	if err != nil {
		g.fail(err)
		return
	}
	for i := range events {
		ev := &events[i]
		fd, c := g.loop.find(ev)
		if c == nil {
			continue // closed earlier in this batch
		}
		switch c.role {
		case listener:
			g.accept(fd)
		case echo:
			g.echo(fd, ev.Events)
		case caller:
			g.call(fd, c, ev.Events)
		case reader:
			g.read(fd, c)
		case writer:
			g.write(fd, c, ev.Events)
		case mirror:
			g.mirror(fd)
		case asker:
			g.collect(fd, c)
		}
	}
	if g.cfg.Kind.isUDP() && g.err == nil {
		g.sweep()
	}
	if g.flood.isOn && g.err == nil {
		g.floodSome()
	}
}

// fail ends the run with err, unless it has ended already.
func (g *Generator) fail(err error) {
	if g.err == nil {
		g.err = err
	}
}

// now is the time since the generator was made, on the monotonic clock.
func (g *Generator) now() time.Duration { return time.Since(g.base) }
