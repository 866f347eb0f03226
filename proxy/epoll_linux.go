package proxy

import (
	"errors"
	"fmt"
	"iter"
	"slices"
	"sync"
	"sync/atomic"

	"golang.org/x/sys/unix"

	"usher/proxy/flow"
)

// epollEngine runs one event loop a worker, each on a thread of its own with its
// own epoll instance, its own listening sockets and its own flows: on the way of
// a byte there is no lock and no channel. What a worker has is changed by tasks that
// its loop runs.
type epollEngine struct {
	server  *Server
	workers []*worker
	threads sync.WaitGroup
	started bool
	served  int             // bindings so far whose socket all workers share
	parking *parking        // nil: it is not suspended
	joined  []*epollSockets // udp, beside those that go: they share their address until these have left
}

// epollSockets are those of a binding.
type epollSockets struct {
	fds      []int32 // one of each worker, or one for all
	isShared bool
	first    int           // the worker that comes first at a shared one
	udp      []udpListener // of each worker; an inherited one is that of a single worker
	slots    []int32       // by worker: where it has its socket; noSlot: it has none

	isRestored bool // udp sockets are in their slots already
}

// countEpollSockets returns the number of descriptors that a listener takes.
func countEpollSockets(l Listener, workers int) int {
	if l.Network == "unix" || l.Network == "tcp" && l.Count() > shardedPorts {
		return l.Count()
	}
	return l.Count() * workers
}

// probeEpoll says what the kernel lacks, if anything.
func probeEpoll() error {
	ep, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	if err != nil {
		return fmt.Errorf("epoll_create1: %w", err)
	}
	defer unix.Close(ep)
	fd, err := unix.Eventfd(0, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK)
	if err != nil {
		return fmt.Errorf("eventfd: %w", err)
	}
	defer unix.Close(fd)
	if e := epollAdd(int32(ep), int32(fd), unix.EPOLLIN|unix.EPOLLEXCLUSIVE, 0, 0); e != noError {
		return fmt.Errorf("epoll_ctl: %w", e)
	}
	var p [2]int
	if err := unix.Pipe2(p[:], unix.O_CLOEXEC|unix.O_NONBLOCK); err != nil {
		return fmt.Errorf("pipe2: %w", err)
	}
	defer unix.Close(p[0])
	defer unix.Close(p[1])
	if _, err := unix.Splice(p[0], nil, fd, nil, 1, unix.SPLICE_F_NONBLOCK); errors.Is(err, unix.ENOSYS) {
		return fmt.Errorf("splice: %w", err)
	}
	return nil
}

func newEpollEngine(s *Server) (engine, error) {
	e := &epollEngine{server: s}
	for i := range s.workers {
		w, err := newWorker(s, i)
		if err != nil {
			e.stop()
			return nil, err
		}
		e.workers = append(e.workers, w)
	}
	for _, w := range e.workers {
		w.workers = e.workers
	}
	return e, nil
}

func (e *epollEngine) bind(b *binding, isShared bool) error {
	sockets := &epollSockets{isShared: isShared && b.at.Network == "tcp" || b.at.Network == "unix", slots: make([]int32, len(e.workers))}
	b.sockets = sockets
	var err error
	switch {
	case b.at.Network == "udp":
		err = e.bindUDP(b, sockets)
	case b.at.Network == "unix":
		b.file, err = bindSocketFile(b.at, func() error {
			fd, err := bindUnix(b.at)
			if err == nil {
				sockets.fds = []int32{fd}
			}
			return err
		})
	default:
		err = e.bindTCP(b, sockets)
	}
	if err != nil {
		e.discard(b)
	}
	return err
}

// bindTCP gives each worker a socket of its own, over which the kernel spreads the
// clients, or all of them one that is in each of their epoll instances: then the kernel
// wakes one at a time.
func (e *epollEngine) bindTCP(b *binding, sockets *epollSockets) error {
	fd, local, err := bindTCP(b)
	if err != nil {
		return err
	}
	b.local = local
	sockets.fds = []int32{fd}
	for len(sockets.fds) < len(e.workers) && !sockets.isShared {
		if fd, err = bindShard(local, b.at.BothFamilies()); err != nil {
			return err
		}
		sockets.fds = append(sockets.fds, fd)
	}
	return nil
}

func (e *epollEngine) discard(b *binding) {
	b.file.Remove()
	sockets := b.sockets.(*epollSockets)
	for _, fd := range sockets.fds {
		closeFD(fd)
	}
	for i := range sockets.udp {
		sockets.udp[i].close()
	}
	sockets.udp = nil
}

func (e *epollEngine) start() {
	e.started = true
	e.ownAddresses()
	for _, w := range e.workers {
		e.threads.Go(w.run)
	}
}

// serve has each worker begin with its own sockets and its part of the shared ones, and
// then with the others. Of the workers that share a socket the kernel wakes the one that
// came first, so each comes first to as many.
func (e *epollEngine) serve(all []*binding) {
	anyShared := false
	for _, b := range all {
		if sockets := b.sockets.(*epollSockets); sockets.isShared {
			anyShared = true
			sockets.first = e.served % len(e.workers)
			e.served++
		}
	}
	adopt := func(isFirst bool) {
		e.rounds(func(w *worker, round int) (more bool) { return w.adoptSome(all, round*adoptShare, isFirst) })
	}
	if adopt(true); anyShared && len(e.workers) > 1 {
		adopt(false)
	}
}

func (e *epollEngine) close(gone []*binding) {
	for _, b := range gone {
		b.file.Remove() // from now on a successor may listen there
	}
	e.all(func(w *worker) { w.beginClose(gone) })
	e.rounds(func(w *worker, _ int) (more bool) { return w.closeAcceptors() })
	e.closeShared(gone)
	if slices.ContainsFunc(gone, func(b *binding) bool { return b.at.Network == "udp" }) {
		e.giveUpAddresses()
	}
}

// closeShared closes what no worker accepts from any more.
func (e *epollEngine) closeShared(gone []*binding) {
	for _, b := range gone {
		if sockets := b.sockets.(*epollSockets); sockets.isShared && len(sockets.fds) > 0 {
			closeFD(sockets.fds[0])
		}
	}
}

func (e *epollEngine) needInterfaces() { e.all(func(w *worker) { w.udp.needInterfaces() }) }

func (e *epollEngine) drain() {
	e.all(func(w *worker) {
		w.udp.sessions.Drain()
		w.letGo()
	})
}

func (e *epollEngine) cut(t flow.CutTarget, how Cut) {
	progress := make([]cutProgress, len(e.workers)) // of each worker, which alone writes it
	for i := range progress {
		progress[i].hasConns, progress[i].hasSessions = true, true
	}
	e.rounds(func(w *worker, _ int) (more bool) { return w.cut(t, how, &progress[w.number]) })
}

func (e *epollEngine) stop() {
	e.all((*worker).halt)
	e.threads.Wait()
	for _, w := range e.workers {
		w.close()
	}
}

// all runs do in every worker and waits for it.
func (e *epollEngine) all(do func(*worker)) {
	var done sync.WaitGroup
	for _, w := range e.workers {
		if !e.started {
			do(w)
			continue
		}
		done.Add(1)
		w.enqueue(func() {
			do(w)
			done.Done()
		})
	}
	done.Wait()
}

// rounds runs do in every worker until none of them has more to do. The loops take a turn
// between two rounds, so that no flow waits for all of it.
func (e *epollEngine) rounds(do func(w *worker, round int) (more bool)) {
	for round, more := 0, true; more; round++ {
		var left atomic.Bool
		e.all(func(w *worker) {
			if do(w, round) {
				left.Store(true)
			}
		})
		more = left.Load()
	}
}

func (e *epollEngine) procs() int { return len(e.workers) + 2 }

func (e *epollEngine) rows() iter.Seq[Row] {
	return func(yield func(Row) bool) {
		for _, w := range e.workers {
			for r := range w.table.Rows() {
				if !yield(Row{Row: r, worker: w.number}) {
					return
				}
			}
			for r := range w.udp.sessions.Rows() {
				if !yield(Row{Row: r, worker: w.number}) {
					return
				}
			}
		}
	}
}
