package proxy

import (
	"errors"
	"fmt"
	"iter"
	"net/netip"
	"sync"
	"sync/atomic"

	"golang.org/x/sys/unix"

	"usher/balancer"
)

// epollEngine runs one event loop a worker, each on a thread of its own with its
// own epoll instance, its own listening sockets and its own flows: on the way of
// a byte there is no lock and no channel.
type epollEngine struct {
	server  *Server
	workers []*worker
	threads sync.WaitGroup
	started bool
	shared  []int32 // listening sockets that all workers accept from
	files   []socketFile
}

// shardedPorts is the largest port range of which each worker has sockets of its
// own. Above it the workers share one socket a port, to spare descriptors.
const shardedPorts = 64

// epollSockets returns the number of descriptors that listen takes.
func epollSockets(l Listener, workers int) int {
	if l.Network == "unix" || l.Network == "tcp" && l.count() > shardedPorts {
		return l.count()
	}
	return l.count() * workers
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
	for range s.workers {
		w, err := newWorker(s)
		if err != nil {
			e.stop()
			return nil, err
		}
		e.workers = append(e.workers, w)
	}
	return e, nil
}

func (e *epollEngine) listen(svc *Service, l Listener) ([]netip.AddrPort, error) {
	if l.Network == "unix" {
		var fd int32
		file, err := bindSocketFile(l.Path, func() (err error) {
			fd, err = bindUnix(l.Path)
			return err
		})
		if err != nil {
			return nil, err
		}
		e.files = append(e.files, file)
		e.share(fd, svc, netip.AddrPort{}, 0)
		return nil, nil
	}
	if l.Network == "udp" {
		return e.listenUDP(svc, l)
	}
	var bound []netip.AddrPort
	for i := range l.count() {
		at := l.at(i)
		fd, local, err := bindTCP(at)
		if err != nil {
			return nil, err
		}
		bound = append(bound, local)
		if l.count() > shardedPorts {
			e.share(fd, svc, local, uint16(i))
		} else if err := e.shard(fd, svc, local, uint16(i)); err != nil {
			return nil, err
		}
	}
	return bound, nil
}

// shard gives each worker a socket of its own; the kernel spreads the clients.
func (e *epollEngine) shard(fd int32, svc *Service, local netip.AddrPort, offset uint16) error {
	for i, w := range e.workers {
		if i > 0 {
			var err error
			if fd, err = bindShard(local); err != nil {
				return err
			}
		}
		w.adopt(acceptor{fd: fd, svc: svc, local: local, offset: offset})
	}
	return nil
}

// share lets all workers accept from one socket, which is in each of their epoll
// instances; the kernel wakes one at a time.
func (e *epollEngine) share(fd int32, svc *Service, local netip.AddrPort, offset uint16) {
	e.shared = append(e.shared, fd)
	for _, w := range e.workers {
		w.adopt(acceptor{fd: fd, shared: true, svc: svc, local: local, offset: offset})
	}
}

func (e *epollEngine) start() {
	e.started = true
	for _, w := range e.workers {
		e.threads.Go(w.run)
		w.post(w.acceptAll)
	}
}

func (e *epollEngine) drain() {
	removeSocketFiles(e.files) // from now on a successor may listen there
	e.all((*worker).closeListeners)
	e.all((*worker).drainDatagrams)
	e.closeShared()
}

func (e *epollEngine) cutBackend(b *balancer.Backend, how Cut) {
	for from, more := 0, true; more; from += cutShare {
		var left atomic.Bool
		e.all(func(w *worker) {
			more := w.cutBackend(b, how, from)
			if w.udp != nil {
				more = w.udp.sessions.cutBackend(b, from, w.now) || more
			}
			if more {
				left.Store(true)
			}
		})
		more = left.Load()
	}
}

// closeShared closes what no worker accepts from any more.
func (e *epollEngine) closeShared() {
	for _, fd := range e.shared {
		closeFD(fd)
	}
	e.shared = nil
}

func (e *epollEngine) stop() {
	e.all((*worker).halt)
	e.threads.Wait()
	e.closeShared()
	for _, w := range e.workers {
		w.close()
	}
	removeSocketFiles(e.files)
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
		w.post(func() {
			do(w)
			done.Done()
		})
	}
	done.Wait()
}

func (e *epollEngine) procs() int { return len(e.workers) + 2 }

func (e *epollEngine) rows() iter.Seq[Row] {
	return func(yield func(Row) bool) {
		for _, w := range e.workers {
			for r := range w.table.Rows() {
				if !yield(r) {
					return
				}
			}
			if w.udp == nil {
				continue
			}
			for r := range w.udp.sessions.table.Rows() {
				if !yield(r) {
					return
				}
			}
		}
	}
}
