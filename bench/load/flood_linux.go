package load

import (
	"fmt"

	"golang.org/x/sys/unix"
)

const (
	// floodBurst bounds the denied connects between two looks at the allowed clients.
	floodBurst = 4
	// floodKept is how many denied clients are open, above what a proxy holds in silence.
	floodKept = 4096
)

// flood is the clients that the proxy denies. Each connects, sends nothing, and resets its
// connection when so many others have come after it.
type flood struct {
	sources []unix.RawSockaddrInet4
	isOn    bool
	fds     []int // a ring of floodKept
	next    int   // the oldest, once the ring is full
	sent    int64
}

// Flood has the denied clients connect in the runs to come, as often as the thread has time, or not.
func (g *Generator) Flood(isOn bool) { g.flood.isOn = isOn && len(g.flood.sources) > 0 }

// floodSome opens a few denied clients.
func (g *Generator) floodSome() {
	for range floodBurst {
		fd, errno := socket(g.cfg.Kind)
		if errno != 0 {
			g.fail(fmt.Errorf("denied client: socket: %w", errno))
			return
		}
		f := &g.flood
		source := &f.sources[f.sent%int64(len(f.sources))]
		if err := g.connectDenied(fd, source); err != nil {
			closeFD(fd)
			g.fail(fmt.Errorf("denied client: %w", err))
			return
		}
		f.sent++
		if len(f.fds) < floodKept {
			f.fds = append(f.fds, fd)
			continue
		}
		closeFD(f.fds[f.next])
		f.fds[f.next] = fd
		f.next = (f.next + 1) % floodKept
	}
}

// connectDenied begins a connection whose end leaves no TIME_WAIT behind.
func (g *Generator) connectDenied(fd int, source *unix.RawSockaddrInet4) error {
	if err := unix.SetsockoptLinger(fd, unix.SOL_SOCKET, unix.SO_LINGER, &unix.Linger{Onoff: 1}); err != nil {
		return fmt.Errorf("set SO_LINGER: %w", err)
	}
	return g.connect(fd, source)
}

// stopFlood closes the denied clients.
func (g *Generator) stopFlood() {
	for _, fd := range g.flood.fds {
		closeFD(fd)
	}
	g.flood.fds, g.flood.next = g.flood.fds[:0], 0
}

// keepPace opens the clients whose time has come. Their latency begins at that time, also if
// they wait for a place.
func (g *Generator) keepPace() {
	for now := g.now(); g.next <= now && g.pending < g.window && g.err == nil; g.next += g.cfg.Pace {
		g.openClient(g.next)
	}
}

// recordWaiting records clients that still wait at the end, with what they have waited so far.
func (g *Generator) recordWaiting() {
	now := g.now()
	for i := range g.loop.conns {
		if c := &g.loop.conns[i]; c.role == caller {
			_ = g.latency.RecordValue(min(max(int64(now-c.start), histLowest), histHighest))
		}
	}
}
