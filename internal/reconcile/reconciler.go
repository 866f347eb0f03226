package reconcile

import (
	"context"
	"net/netip"
	"reflect"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"go.uber.org/zap"

	"usher/balancer"
	"usher/health"
	"usher/internal/config"
	"usher/internal/discovery"
	"usher/proxy"
)

// Server is what a Reconciler needs of a proxy.Server.
type Server interface {
	// CutBackend ends the flows of a backend, and Forget has clients forget one that was removed.
	CutBackend(*balancer.Backend, proxy.Cut)
	Forget(*balancer.Backend)
}

// Options are what a Reconciler finds around itself.
type Options struct {
	Log    *zap.Logger
	Names  discovery.Resolver
	Local  func(netip.Addr) bool // whether an address is one of this machine
	Checks int                   // that may be under way at once, those by programs apart
	// OnTransition, if set, takes the transitions of a service in their order, in batches, at one time for one service and
	// at any time for others. It should return soon: the service goes on afterwards. Before Begin there are none, and what
	// has happened until then comes there.
	OnTransition func([]Transition)
}

// Reconciler keeps the pools of all services. Its owner closes it.
type Reconciler struct {
	log          *zap.Logger
	onTransition func([]Transition) // nil: nobody follows them
	local        func(netip.Addr) bool
	epoch        time.Time
	queue        *queue
	names        *names
	slots        *health.Slots
	connects     *health.ConnectLoop
	newMonitor   func(health.Checker, health.Policy, health.Report) *health.Monitor // health.NewMonitor, but in tests
	begun        atomic.Bool
	routes       *routes

	setting sync.Mutex // makes Set and Close one at a time
	server  Server     // set before a service runs
	desired []Desired
	round   uint64 // counts calls of Set
}

// New returns a Reconciler without services.
func New(o Options) (*Reconciler, error) {
	connects, err := health.NewConnectLoop()
	if err != nil {
		return nil, err
	}
	return newReconciler(o, connects), nil
}

func newReconciler(o Options, connects *health.ConnectLoop) *Reconciler {
	r := &Reconciler{
		log: o.Log, onTransition: o.OnTransition, local: o.Local, epoch: time.Now(),
		queue: newQueue(max(2, runtime.GOMAXPROCS(0)/2)), slots: health.NewSlots(o.Checks), connects: connects,
		newMonitor: health.NewMonitor,
	}
	r.names = newNames(o.Names, r.queue, o.Log)
	r.routes = newRoutes(o.Local)
	return r
}

// Desired is a service that shall run, and what it shall be. All but its name and its network may change. A Config is
// immutable: the same pointer is no change. One that Check refuses changes nothing.
type Desired struct {
	Service *Service
	Config  *config.Service
}

// Set makes desired the services that run. Those that stay go on as they were, and only those are reconciled that have
// changed, or may have backends at a listener that comes or goes. Those that are gone end, with their checks. Once Begin
// was called, a service waits with what is new until its names have had an answer, for as long as a start may take or until
// ctx ends: clients are not left without a backend meanwhile. When Set returns, new flows follow it.
func (r *Reconciler) Set(ctx context.Context, server Server, desired []Desired) {
	r.setting.Lock()
	defer r.setting.Unlock()
	if r.server == nil {
		r.server = server
	}
	changes := r.compare(desired)
	again, leads := r.routes.change(changes)
	r.names.change(changes)
	if r.begun.Load() && r.names.lack(changes) {
		r.names.waitFirst(ctx)
	}
	for _, c := range changes {
		if c.now != nil {
			r.names.configure(c)
		}
	}
	for _, s := range again {
		s.observe(lookAgain)
	}
	if leads != nil && len(changes) < len(desired) {
		for _, d := range desired {
			if d.Service.changed != r.round && leads.MayHave(&d.Service.targets) && leads.Has(d.Config) {
				d.Service.observe(lookAgain)
			}
		}
	}
	var follow []*job
	for _, c := range changes {
		if c.now == nil {
			c.service.close()
		} else {
			follow = append(follow, c.service.job)
		}
	}
	r.queue.flush(context.Background(), follow...)
	r.desired = append(r.desired[:0], desired...)
	clear(r.desired[len(desired):cap(r.desired)])
}

// serviceChange is a service that comes, goes or changes: before is nil for one that comes, now for one that goes.
type serviceChange struct {
	service     *Service
	before, now *config.Service
}

// moves reports whether the listeners are others.
func (c serviceChange) moves() bool {
	return c.before == nil || c.now == nil || !slices.Equal(c.before.Listeners, c.now.Listeners)
}

// compare returns what is not as in the last call. Its cost is that of a pass over pointers, apart from what has changed.
func (r *Reconciler) compare(desired []Desired) (changes []serviceChange) {
	r.round++
	for i, d := range desired {
		if i < len(r.desired) && r.desired[i] == d {
			continue
		}
		s := d.Service
		s.placed = r.round
		if before := s.desired; before == nil || before != d.Config && !reflect.DeepEqual(before, d.Config) {
			s.changed = r.round
			s.targets = config.NewTargets(d.Config, r.routes.local)
			changes = append(changes, serviceChange{s, before, d.Config})
		}
		s.desired = d.Config
	}
	for i, d := range r.desired {
		if (i >= len(desired) || desired[i] != d) && d.Service.placed != r.round {
			d.Service.changed = r.round
			changes = append(changes, serviceChange{d.Service, d.Service.desired, nil})
			d.Service.desired = nil
		}
	}
	return changes
}

// firstRound bounds how long silent backends may hold up the start of all services.
const firstRound = 2 * time.Second

// WaitFirst waits for the first answer for every name, the first result of every check and the first report of every
// agent, so that the first choice depends on them; for each not longer than a start may take.
func (r *Reconciler) WaitFirst(ctx context.Context) {
	r.names.waitFirst(ctx)
	r.flush(ctx)
	round, cancel := context.WithTimeout(ctx, firstRound)
	defer cancel()
	for _, d := range r.desired {
		d.Service.waitFirst(round)
	}
	r.flush(ctx)
}

// flush returns when all services follow what was observed.
func (r *Reconciler) flush(ctx context.Context) {
	jobs := make([]*job, len(r.desired))
	for i, d := range r.desired {
		jobs[i] = d.Service.job
	}
	r.queue.flush(ctx, jobs...)
}

// Begin logs what was held back, service by service, and lets later lines through.
func (r *Reconciler) Begin(ctx context.Context) {
	r.begun.Store(true)
	r.names.begin()
	for _, d := range r.desired {
		if d.Service.holdsBack.Load() {
			d.Service.enqueue()
		}
		r.queue.flush(ctx, d.Service.job)
	}
}

// Close ends all services, and waits for what is under way.
func (r *Reconciler) Close() {
	r.setting.Lock()
	defer r.setting.Unlock()
	r.names.watcher.Close()
	r.queue.close()
	for _, d := range r.desired {
		d.Service.close()
	}
	if r.connects != nil {
		r.connects.Close()
	}
}
