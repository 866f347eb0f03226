package proxy

import (
	"fmt"
	"iter"

	"usher/proxy/flow"
)

// engine moves the bytes of all flows of a server. It owns every socket, every
// goroutine and thread that it starts. What a flow may do is decided by flow and
// by package flow, which all engines ask. But for cut, needInterfaces, terminate, measure and rows,
// one goroutine at a time calls its methods.
//
//	bind ──▶ bound ──serve──▶ served ──close──▶ closed
//	           └──discard──▶ closed
type engine interface {
	// bind opens the sockets of a binding and says which address it got. Clients may
	// connect from then on. If it is shared, all workers accept from one socket.
	bind(b *binding, isShared bool) error
	// inherit has a binding accept from an inherited socket, which is the engine's then, also after an error.
	inherit(b *binding, fd int) error
	// discard closes what was bound and is not served.
	discard(b *binding)
	// start begins to run; nothing is served yet.
	start()
	// serve begins to accept.
	serve(all []*binding)
	// needInterfaces has datagrams tell by which interface they come. It is called as cut is.
	needInterfaces()
	// close stops accepting, once the clients are served that the kernel has accepted
	// already. Replies of udp flows still leave from an address that is given up.
	close(gone []*binding)
	// drain begins no more udp flows, and ends those that are silent and owed nothing, and tcp
	// flows whose clients get no answer.
	// All bindings are closed.
	drain()
	// cut ends flows by Fin or Reset, without holding others up meanwhile. When it returns
	// they carry nothing more. It is not called before start, nor once stop has begun.
	cut(t flow.CutTarget, how Cut)
	// countBytes adds what running flows have carried to the counters of their services and
	// backends, without holding others up meanwhile. It is called as cut is.
	countBytes()
	// workerStats returns what each event loop has done; nil if there are none.
	workerStats() []WorkerStats
	// terminate ends the flows of rows, as far as they live, and returns how many it has
	// ended. measure sets the Sockets of rows. Both are called as cut is.
	terminate(rows []Row, as Outcome) int
	measure(rows []Row)
	// stop cuts the flows that are left, closes all that is open and waits for
	// all that was started. It works before start, too, and is called once.
	stop()
	// procs is the GOMAXPROCS that the engine's workers need.
	procs() int
	// feeds returns those of the workers.
	feeds() []*flow.Feed
	// rows is the snapshot of the engine's connection tables.
	rows() iter.Seq[Row]
}

// shardedPorts is the largest port range of which each worker has sockets of its
// own. Above it the workers share one socket a port, to spare descriptors.
const shardedPorts = 64

// engineKind is how an engine is made, and what it needs before it is.
type engineKind struct {
	name string
	note string // which engine, and why
	make func(*Server) (engine, error)
	// sockets returns how many descriptors the listener will take.
	sockets func(l Listener, workers int) int
	// pipes is how many each worker makes use of.
	pipes int
}

// chooseEngine returns the engine that was asked for.
func chooseEngine(name string) (engineKind, error) {
	epoll := engineKind{"epoll", "engine epoll", newEpollEngine, countEpollSockets, pipesPerWorker}
	portable := engineKind{"portable", "engine portable", newPortableEngine, countPortableSockets, 0}
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
