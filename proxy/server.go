package proxy

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"net/netip"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"go.uber.org/zap"

	"usher/balancer"
	"usher/conntrack"
)

// Options are the settings of a server as a whole.
type Options struct {
	// Engine is "epoll", "portable", or "auto" (also if empty) for the best that works here.
	Engine string
	// Workers is the number of event loops, or of Ps for the portable engine; zero
	// means one for each CPU that the process may use.
	Workers int
	// MaxConns bounds the flows at any one time; zero derives it from the
	// descriptor limit, and a greater value than that limit allows is cut to it.
	MaxConns int
	// Logger gets what the data path has to say, rarely; nil is silence.
	Logger *zap.Logger
	// AccessLog writes one line to Logger for each flow that ended.
	AccessLog bool
}

// Server carries the flows of its services. Two servers may live in one process;
// they share nothing but the process's descriptor limit.
type Server struct {
	services []*Service
	engine   engine
	log      *zap.Logger
	access   *accessLog
	epoch    time.Time // of every time.Duration on the data path
	workers  int
	maxConns int64
	notes    []string

	clients  clientFlows
	affinity *affinity      // nil: no service persists
	house    sync.WaitGroup // keepHouse
	done     chan struct{}  // closed when the engine has stopped

	open atomic.Int64  // flows admitted and not yet settled
	idle chan struct{} // signalled when open falls to zero while draining

	draining atomic.Bool
	stopping sync.Mutex
	stopped  bool // under stopping

	// running is held to write while the engine starts and before it stops, and to
	// read while it is told of a backend.
	running sync.RWMutex
	halted  bool // under running
}

// New binds all listeners of the services, or none: an error names the address
// that could not be had. Clients may connect from then on; they are served after
// Start.
func New(o Options, services []ServiceConfig) (*Server, error) {
	s := &Server{
		log:     o.Logger,
		epoch:   time.Now(),
		workers: o.Workers,
		idle:    make(chan struct{}, 1),
		done:    make(chan struct{}),
	}
	if s.log == nil {
		s.log = zap.NewNop()
	}
	if s.workers <= 0 {
		// The runtime reads the affinity mask and the cgroup's CPU limit.
		s.workers = runtime.GOMAXPROCS(0)
	}
	kind, err := chooseEngine(o.Engine)
	if err != nil {
		return nil, err
	}
	sockets := 0
	for _, c := range services {
		for _, l := range c.Listeners {
			sockets += kind.sockets(l, s.workers)
		}
	}
	most, note := deriveMaxConns(o.MaxConns, sockets, s.workers)
	if most <= 0 {
		return nil, fmt.Errorf("descriptor limit: %s", note)
	}
	s.maxConns = int64(most)
	s.notes = []string{kind.note, fmt.Sprintf("workers %d", s.workers), note}
	if note := portsNote(services, most); note != "" {
		s.notes = append(s.notes, note)
	}

	e, err := kind.make(s)
	if err != nil {
		return nil, err
	}
	s.engine = e

	for _, c := range services {
		svc := s.newService(c)
		svc.Listeners = nil
		for _, l := range c.Listeners {
			bound, err := e.listen(svc, l)
			if err != nil {
				e.stop()
				return nil, fmt.Errorf("service %s: %w", c.Name, err)
			}
			if l.Network != "unix" && l.Addr.Port() == 0 && len(bound) > 0 {
				l.Addr = bound[0]
			}
			svc.Listeners = append(svc.Listeners, l)
		}
		s.services = append(s.services, svc)
	}
	if o.AccessLog {
		s.access = newAccessLog(s.log)
	}
	return s, nil
}

// newService readies a service to be served.
func (s *Server) newService(c ServiceConfig) *Service {
	svc := &Service{ServiceConfig: c, learns: c.Pool.Learns(), located: c.Pool.LooksAtLocal()}
	svc.follows = svc.learns || c.Witness != nil
	svc.queue.most = int64(c.QueueLength)
	if c.Persist.On {
		if s.affinity == nil {
			s.affinity = conntrack.NewAffinity[Service, balancer.Backend](maxClients)
		}
		svc.affinity = s.affinity
	}
	return svc
}

// maxClients bounds the clients that a server keeps at their backends. Memory is taken
// as they come.
const maxClients = 1 << 20

// Start begins to accept.
func (s *Server) Start() {
	s.running.Lock()
	defer s.running.Unlock()
	s.engine.start()
	if s.affinity != nil {
		s.house.Go(s.keepHouse)
	}
}

// Shutdown stops accepting and waits for the flows to end. Those left when ctx
// ends are cut, and counted as drained. It returns when every socket is closed
// and every goroutine and thread has ended; the error is ctx's if flows were cut.
// Once the server is shut down, it does nothing. Calls wait for each other.
func (s *Server) Shutdown(ctx context.Context) error {
	s.stopping.Lock()
	defer s.stopping.Unlock()
	if s.stopped {
		return nil
	}
	s.stopped = true
	s.draining.Store(true)
	s.engine.drain()
	var err error
	for s.open.Load() > 0 && err == nil {
		select {
		case <-s.idle:
		case <-ctx.Done():
			err = fmt.Errorf("drain: %d flows cut: %w", s.open.Load(), context.Cause(ctx))
		}
	}
	s.running.Lock()
	s.halted = true
	s.running.Unlock()
	s.engine.stop()
	close(s.done)
	s.house.Wait()
	s.access.close()
	return err
}

// Close cuts all flows at once.
func (s *Server) Close() {
	ctx, cancel := context.WithCancelCause(context.Background())
	cancel(errors.New("closed"))
	_ = s.Shutdown(ctx)
}

// Services returns the services in the order given, with their listeners as bound.
func (s *Server) Services() []*Service { return s.services }

// Notes returns lines worth telling at start: which engine and why, how many
// workers, how many flows at most and why, and what else bounds them.
func (s *Server) Notes() []string { return s.notes }

// Procs returns the GOMAXPROCS that the workers need. An event loop keeps a P to
// itself, also while it waits for events: without two more for all else, the
// runtime would take a loop's P away at each wait, and checks and signals would
// starve. The portable engine's workers are the Ps themselves. Setting it is left
// to the program, for it is the whole process's.
func (s *Server) Procs() int { return s.engine.procs() }

// Forget has clients forget a backend that was removed: nothing holds it in memory but
// its flows. Those of one that is down keep it, and go back there if they come when it
// is up again; who comes before gets another one.
func (s *Server) Forget(b *balancer.Backend) {
	if s.affinity != nil {
		s.affinity.Drop(b)
	}
}

// CutBackend ends the flows of a backend that is down or was removed, as how says. The
// pool must know of it before: flows that are still connecting choose another one. When
// it returns they end, and carry nothing more; any goroutine may call it at any time.
func (s *Server) CutBackend(b *balancer.Backend, how Cut) {
	s.running.RLock()
	defer s.running.RUnlock()
	if !s.halted && how != Keep {
		s.engine.cutBackend(b, how)
	}
}

// Clients returns which backends the clients of services that persist have.
func (s *Server) Clients() iter.Seq[Client] {
	if s.affinity == nil {
		return func(func(Client) bool) {}
	}
	return s.affinity.Rows(s.Now())
}

// keepHouse takes back the room of persistence that has ended.
func (s *Server) keepHouse() {
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
			s.affinity.Expire(s.Now())
		case <-s.done:
			return
		}
	}
}

// Open returns the number of flows at present.
func (s *Server) Open() int { return int(s.open.Load()) }

// Now is the time on the data path's clock, for the ages of rows.
func (s *Server) Now() time.Duration { return time.Since(s.epoch) }

// Flows returns a snapshot of the connection tables. It never holds up a flow;
// flows that come or go meanwhile may be missing.
func (s *Server) Flows() iter.Seq[Row] { return s.engine.rows() }

// admit makes room for a client of svc. Without room the client is counted as
// refused, and the engine resets it.
func (s *Server) admit(svc *Service) bool {
	svc.accepted.Add(1)
	return s.place(svc)
}

// place takes a place for a flow of svc, if neither the server nor the service is
// full.
func (s *Server) place(svc *Service) bool {
	if s.open.Add(1) > s.maxConns {
		s.leave()
		return false
	}
	if n := svc.active.Add(1); svc.UDP.MaxFlows > 0 && n > int64(svc.UDP.MaxFlows) {
		svc.active.Add(-1)
		s.leave()
		return false
	}
	return true
}

// crowded reports whether svc has as many flows as it may; nil: whether the server has.
func (s *Server) crowded(svc *Service) bool {
	if svc == nil {
		return s.open.Load() >= s.maxConns
	}
	most := svc.UDP.MaxFlows
	return most > 0 && svc.Active() >= int64(most)
}

// refuse accounts for a client that admit turned away.
func (s *Server) refuse(svc *Service, from netip.AddrPort) {
	svc.ended[LimitReached].Add(1)
	s.access.add(accessRecord{svc: svc, client: from, connect: -1, outcome: LimitReached})
}

// settle closes the accounts of an admitted flow: once, after its sockets are
// closed. The engine then removes its row and calls leave, in this order: a place
// in the server stands for a row in the table.
func (s *Server) settle(f *flow, o Outcome, now time.Duration) {
	if s.access != nil {
		r := accessRecord{
			svc: f.svc, backend: f.backend, client: f.client, connect: -1,
			duration: now - f.accepted, up: f.ent.Up(), down: f.ent.Down(),
			tries: f.tries, outcome: o,
		}
		if f.phase == relaying {
			r.connect = f.connected - f.accepted
		}
		s.access.add(r)
	}
	f.account(o, now)
}

// settleSession is settle for a UDP flow.
func (s *Server) settleSession(x *session, o Outcome, now time.Duration) {
	up, down := x.ent.Up(), x.ent.Down()
	s.access.add(accessRecord{
		svc: x.svc, backend: x.backend, client: x.client, connect: -1,
		duration: now - x.opened, up: up, down: down, tries: x.tries(), outcome: o,
	})
	x.svc.ended[o].Add(1)
	x.svc.up.Add(up)
	x.svc.down.Add(down)
	x.svc.active.Add(-1)
}

// leave gives back the place of a flow whose row is gone.
func (s *Server) leave() {
	if s.open.Add(-1) == 0 && s.draining.Load() {
		select {
		case s.idle <- struct{}{}:
		default:
		}
	}
}
