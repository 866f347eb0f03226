package proxy

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"iter"
	"maps"
	"math/rand/v2"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"go.uber.org/zap"

	"usher/balancer"
	"usher/conntrack"
	"usher/proxy/flow"
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
	// Logger gets what the data path has to say, rarely, and each flow at debug (see [Server.SetTrace]); nil is silence.
	Logger *zap.Logger
	// AccessLog writes one line to Logger for each flow that ended. Without it those of services with LogAccess have one.
	AccessLog bool
	// MaxDropped bounds the clients that a rule drops and that are held without an answer,
	// each for DropTimeout at the most. Zero is [DefaultMaxDropped] and [DefaultDropTimeout]; with a negative MaxDropped
	// none is held.
	MaxDropped  int
	DropTimeout time.Duration
	// Inherited are sockets that listen already. A server that was not made, or that was restored, owns none.
	Inherited []Inherited
}

// Server carries the flows of its services. Two servers may live in one process;
// they share nothing but the process's descriptor limit.
type Server struct {
	engine   engine
	kind     engineKind
	log      *zap.Logger
	access   atomic.Pointer[accessLog] // nil: no flow has a line
	epoch    time.Time                 // of every time.Duration on the data path
	workers  int
	wanted   int    // flows at most, as asked for; zero: as many as fit
	capacity int    // flows that the tables have room for
	seed     uint64 // of the tables of limits
	pipes    int    // that each worker may own

	admission flow.Admission
	affinity  *flow.Affinity
	expiry    sync.WaitGroup // expireAffinity
	done      chan struct{}  // closed when the engine has stopped

	applying  sync.Mutex // guards what follows
	started   bool
	expires   bool             // expireAffinity runs
	given     []*ServiceConfig // by the last Apply
	byName    map[string]*instance
	bindings  map[address]*binding
	files     map[*binding]bool     // those of unix sockets that have a file
	inherited map[address]Inherited // that no service has taken
	// Sums over all services, and what was divided among them last.
	sockets, datagrams, places, ports int

	running       atomic.Pointer[running]
	draining      atomic.Bool
	restored      Removed     // until Start
	asksInterface atomic.Bool // datagrams tell by which interface they come
	rejoins       atomic.Bool // flows were restored, and rules do not know of them: until SetRules or Start
	stopping      sync.Mutex
	stopped       bool // under stopping

	rebalancing sync.Map // of *Service
	followers   followers

	counting  sync.Mutex
	countedAt time.Duration // when CountBytes last ran; under counting

	// cutting is held to write while the engine starts and before it stops, and to
	// read while it ends flows for others.
	cutting sync.RWMutex
	hasLoop bool // the engine has started and has not stopped; under cutting
}

// running is what readers see of the last Apply.
type running struct {
	services  []*Service
	notes     []string
	shortages []string
}

// New returns a server without services; see Apply.
func New(o Options) (*Server, error) {
	s := &Server{
		log:     o.Logger,
		epoch:   time.Now(),
		workers: o.Workers,
		wanted:  o.MaxConns,
		done:    make(chan struct{}),
		seed:    rand.Uint64(),

		affinity:  conntrack.NewAffinity[Service, balancer.Backend](maxClients),
		byName:    make(map[string]*instance),
		bindings:  make(map[address]*binding),
		files:     make(map[*binding]bool),
		inherited: make(map[address]Inherited),
	}
	s.admission.Idle = make(chan struct{}, 1)
	s.admission.Seed = s.seed
	s.admission.MaxDropped.Store(int64(cmp.Or(o.MaxDropped, DefaultMaxDropped)))
	s.admission.DropTimeout = cmp.Or(o.DropTimeout, DefaultDropTimeout)
	s.running.Store(new(running))
	if s.log == nil {
		s.log = zap.NewNop()
	}
	if s.workers <= 0 {
		// The runtime reads the affinity mask and the cgroup's CPU limit.
		s.workers = runtime.GOMAXPROCS(0)
	}
	var err error
	if s.kind, err = chooseEngine(o.Engine); err != nil {
		return nil, err
	}
	share := shareDescriptors(s.wanted, consumers{workers: s.workers, pipes: s.kind.pipes})
	if share.flows <= 0 {
		return nil, fmt.Errorf("descriptor limit: %s", share.note)
	}
	s.capacity, s.pipes = share.flows, share.pipes
	zones.prime()
	if err = s.inspectInherited(o.Inherited); err != nil {
		return nil, err
	}
	if s.engine, err = s.kind.make(s); err != nil {
		return nil, err
	}
	s.admission.Record = func(r flow.Record) { s.access.Load().add(r) }
	s.admission.Trace = flow.NewTrace(s.admission.Record)
	if s.admission.RecordSome = !o.AccessLog; o.AccessLog {
		s.access.Store(newAccessLog(s.log, !s.admission.RecordSome))
	}
	s.SetTrace(s.log.Core().Enabled(zap.DebugLevel))
	if err := s.Apply(nil); err != nil { // a server without services has its limits, too
		s.Close()
		return nil, err
	}
	return s, nil
}

// SetTrace has each choice of a backend and each end of a flow logged at debug, or not. New does so if the logger's level is
// debug.
func (s *Server) SetTrace(on bool) {
	s.applying.Lock()
	defer s.applying.Unlock()
	if on && s.access.Load() == nil && !s.draining.Load() {
		s.access.Store(newAccessLog(s.log, !s.admission.RecordSome))
	}
	s.admission.Trace.Set(on)
}

// maxClients bounds the clients that a server keeps at their backends. Memory is taken
// as they come.
const maxClients = 1 << 20

// Start begins to accept.
func (s *Server) Start() {
	s.applying.Lock()
	defer s.applying.Unlock()
	if s.started || s.draining.Load() {
		return
	}
	s.restored = Removed{}
	s.rejoins.Store(false)
	s.cutting.Lock()
	s.engine.start()
	s.started, s.hasLoop = true, true
	s.cutting.Unlock()
	s.engine.serve(slices.Collect(maps.Values(s.bindings)))
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
	s.applying.Lock()
	s.draining.Store(true)
	gone := slices.Collect(maps.Values(s.bindings))
	s.bindings = nil
	s.closeBindings(gone)
	s.closeUnclaimed()
	s.admission.HoldNoMore()
	if s.started {
		s.engine.drain()
	}
	s.applying.Unlock()
	var err error
	for s.admission.Open.Load() > 0 && err == nil {
		select {
		case <-s.admission.Idle:
		case <-ctx.Done():
			err = fmt.Errorf("drain: %d flows cut: %w", s.admission.Open.Load(), context.Cause(ctx))
		}
	}
	s.cutting.Lock()
	s.hasLoop = false
	s.cutting.Unlock()
	s.engine.stop()
	flow.MustHold(&s.admission)
	close(s.done)
	s.expiry.Wait()
	s.access.Load().close()
	return err
}

// Close cuts all flows at once.
func (s *Server) Close() {
	ctx, cancel := context.WithCancelCause(context.Background())
	cancel(errors.New("closed"))
	_ = s.Shutdown(ctx)
}

// Services returns the services that run, in the order given to Apply.
func (s *Server) Services() []*Service { return s.running.Load().services }

// Notes returns what is worth logging after Apply: which engine and why, how many
// workers, how many flows at most and why, and what else bounds them.
func (s *Server) Notes() []string { return s.running.Load().notes }

// Shortages returns those of Notes that say where the machine gives less than usher asks for.
func (s *Server) Shortages() []string { return s.running.Load().shortages }

// Procs returns the GOMAXPROCS that the workers need. An event loop keeps a P to
// itself, also while it waits for events: without two more for all else, the
// runtime would take a loop's P away at each wait, and checks and signals would
// starve. The portable engine's workers are the Ps themselves. Setting it is left
// to the program, for it is the whole process's.
func (s *Server) Procs() int { return s.engine.procs() }

// Forget has clients forget a backend that was removed: nothing holds it in memory but
// its flows. Those of one that is down keep it, and go back there if they come when it
// is up again; who comes before gets another one.
func (s *Server) Forget(b *balancer.Backend) { s.affinity.Drop(b) }

// CutBackend ends the flows of a backend that is down or was removed, as how says. The
// pool must know of it before: flows that are still connecting choose another one. When
// it returns they end, and carry nothing more; any goroutine may call it at any time.
func (s *Server) CutBackend(b *balancer.Backend, how Cut) { s.cut(flow.CutTarget{Backend: b}, how) }

// CutService ends all flows of a service, as CutBackend does. Those that have no backend
// yet end as well. For a service that is gone it is called after Apply.
func (s *Server) CutService(svc *Service, how Cut) { s.cut(flow.CutTarget{Service: svc}, how) }

func (s *Server) cut(t flow.CutTarget, how Cut) {
	s.cutting.RLock()
	defer s.cutting.RUnlock()
	if s.hasLoop && how != flow.Keep {
		s.engine.cut(t, how)
	}
}

// Clients returns which backends the clients of services that persist have.
func (s *Server) Clients() iter.Seq[Client] { return s.affinity.Rows(s.Now()) }

// expireAffinity takes back the room of persistence that has ended.
func (s *Server) expireAffinity() {
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
func (s *Server) Open() int { return int(s.admission.Open.Load()) }

// Now is the time on the data path's clock, for the ages of rows.
func (s *Server) Now() time.Duration { return time.Since(s.epoch) }
