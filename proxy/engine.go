package proxy

import (
	"fmt"
	"iter"
	"net/netip"
)

// engine moves the bytes of all flows of a server. It owns every socket, every
// goroutine and thread that it starts. What a flow may do is decided by flow and
// by Server.admit and Server.settle, which all engines ask.
type engine interface {
	// listen binds the sockets of a listener and returns the addresses that it
	// got. It is called before start.
	listen(svc *Service, l Listener) ([]netip.AddrPort, error)
	// start begins to accept.
	start()
	// drain stops accepting; clients that the kernel has accepted already are
	// still served. It returns when the listeners are closed.
	drain()
	// stop cuts the flows that are left, closes all that is open and waits for
	// all that was started. It works before start, too, and is called once.
	stop()
	// procs is the GOMAXPROCS that suits the engine; zero is the runtime's choice.
	procs() int
	// rows is the snapshot of the engine's connection tables.
	rows() iter.Seq[Row]
}

// Engines lists what Options.Engine may be.
func Engines() []string { return []string{"auto", "epoll", "portable"} }

// newEngine makes the engine that was asked for. The note says what auto took
// and why.
func newEngine(name string, s *Server) (e engine, note string, err error) {
	switch name {
	case "", "auto":
		why := probeEpoll()
		if why == nil {
			e, err = newEpollEngine(s)
			return e, "engine epoll (auto: the kernel has what it needs)", err
		}
		return newPortableEngine(s), fmt.Sprintf("engine portable (auto: %v)", why), nil
	case "epoll":
		if err := probeEpoll(); err != nil {
			return nil, "", fmt.Errorf("engine epoll: %w", err)
		}
		e, err = newEpollEngine(s)
		return e, "engine epoll", err
	case "portable":
		return newPortableEngine(s), "engine portable", nil
	default:
		return nil, "", fmt.Errorf("unknown engine %q", name)
	}
}
