package proxy

import (
	"fmt"
	"iter"
	"net/netip"

	"usher/balancer"
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
	// cutBackend ends the flows of a backend, by Fin or Reset, without holding others up
	// meanwhile. When it returns they carry nothing more. It is not called while start runs,
	// nor once stop has begun.
	cutBackend(b *balancer.Backend, how Cut)
	// stop cuts the flows that are left, closes all that is open and waits for
	// all that was started. It works before start, too, and is called once.
	stop()
	// procs is the GOMAXPROCS that the engine's workers need.
	procs() int
	// rows is the snapshot of the engine's connection tables.
	rows() iter.Seq[Row]
}

// engineKind is how an engine is made, and what it needs before it is.
type engineKind struct {
	note string // which engine, and why
	make func(*Server) (engine, error)
	// sockets returns how many descriptors the listener will take.
	sockets func(l Listener, workers int) int
}

// chooseEngine returns the engine that was asked for.
func chooseEngine(name string) (engineKind, error) {
	epoll := engineKind{"engine epoll", newEpollEngine, epollSockets}
	portable := engineKind{"engine portable", newPortableEngine, portableSockets}
	switch name {
	case "", "auto":
		if why := probeEpoll(); why != nil {
			portable.note += fmt.Sprintf(" (auto: %v)", why)
			return portable, nil
		}
		epoll.note += " (auto: the kernel has what it needs)"
		return epoll, nil
	case "epoll":
		if err := probeEpoll(); err != nil {
			return engineKind{}, fmt.Errorf("engine epoll: %w", err)
		}
		return epoll, nil
	case "portable":
		return portable, nil
	default:
		return engineKind{}, fmt.Errorf("unknown engine %q", name)
	}
}
