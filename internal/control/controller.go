package control

import (
	"context"
	"math/rand/v2"
	"net/netip"
	"runtime"
	"sync"
	"sync/atomic"

	"go.uber.org/zap"

	"usher/internal/config"
	"usher/internal/discovery"
	"usher/internal/reconcile"
	"usher/proxy"
)

// Options are what a Controller is made of.
type Options struct {
	Log       *zap.Logger
	Process   config.Process
	Names     discovery.Resolver // the zero value is the machine's own
	File      string             // the config file, for messages
	Inherited []proxy.Inherited  // sockets that listen already
	Version   string             // of the program
	IsBrief   bool               // a person reads the log: it leaves out what is as by default
}

// Controller holds the desired state and makes it run. Any goroutine may call its methods.
type Controller struct {
	log        *zap.Logger
	names      discovery.Resolver
	local      func(netip.Addr) bool
	file       string
	version    string
	isBrief    bool
	server     *proxy.Server
	reconciler *reconcile.Reconciler

	changing chan struct{} // has room for the one change that is under way, which alone writes what follows
	parts    map[Owner][]*service
	left     map[Owner]*leftOut // by ReplaceSound
	checker  *config.Checker
	started  bool
	ends     []EndState // of Restore, until Continue

	running atomic.Pointer[[]*service] // what readers see
	rules   atomic.Pointer[ruleset]    // the same
	mu      sync.RWMutex               // held for moments only
	byName  map[string]*service        // the same by name

	process atomic.Pointer[config.Process]
	cuts    delayedCuts
	events  hub
	ruleLog *ruleLog
	seed    uint64 // of the tables of rules
}

// New returns a Controller without services. Its owner calls Shutdown and Close.
func New(o Options) (*Controller, error) {
	c, err := newDetached(o)
	if err != nil {
		return nil, err
	}
	if c.server, err = proxy.New(serverOptions(o)); err != nil {
		c.release()
		return nil, err
	}
	return c, nil
}

// newDetached returns a Controller without a data path.
func newDetached(o Options) (*Controller, error) {
	c := &Controller{
		log: o.Log, names: o.Names, local: localAddrs(), file: o.File, version: o.Version, isBrief: o.IsBrief,
		changing: make(chan struct{}, 1),
		parts:    make(map[Owner][]*service),
		left:     make(map[Owner]*leftOut),
		byName:   make(map[string]*service),
		seed:     rand.Uint64(),
	}
	c.checker = config.NewChecker(c.local)
	c.running.Store(new([]*service))
	c.rules.Store(new(ruleset))
	c.process.Store(&o.Process)
	var err error
	c.reconciler, err = reconcile.New(reconcile.Options{
		Log: o.Log, Names: o.Names, Local: c.local, Checks: proxy.ChecksAtOnce(), OnTransition: c.onTransition,
	})
	if err != nil {
		return nil, err
	}
	c.ruleLog = newRuleLog(o.Log)
	return c, nil
}

// release ends what a Controller has beside its data path.
func (c *Controller) release() {
	c.reconciler.Close()
	c.ruleLog.close()
}

func serverOptions(o Options) proxy.Options {
	return proxy.Options{
		Engine:    o.Process.Engine,
		Workers:   o.Process.Workers,
		MaxConns:  o.Process.MaxConns,
		Logger:    o.Log,
		AccessLog: o.Process.AccessLog,
		Inherited: o.Inherited,

		MaxDropped:  maxDropped(&o.Process),
		DropTimeout: o.Process.DropTimeout,
	}
}

// maxDropped returns how many dropped clients may be held, as the data path takes it: there zero is its default.
func maxDropped(p *config.Process) int {
	if p.MaxDropped == 0 {
		return -1
	}
	return p.MaxDropped
}

// Start waits for one round of names and checks, logs the settings in effect, and lets clients in. If ctx ends before
// that, it returns the cause, and nobody was served.
func (c *Controller) Start(ctx context.Context) error {
	if err := c.lock(ctx); err != nil {
		return err
	}
	defer c.unlock()
	c.reconciler.WaitFirst(ctx)
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	c.logSummary()
	c.reconciler.Begin(ctx)
	if n := c.server.Procs(); n > 0 {
		runtime.GOMAXPROCS(n)
	}
	c.server.Start()
	c.started = true
	return nil
}

// Shutdown stops accepting and waits for flows to end. Those left when ctx ends are cut, and its error is returned.
func (c *Controller) Shutdown(ctx context.Context) error { return c.server.Shutdown(ctx) }

// Close cuts the flows that are left and ends everything. Changes that come later are refused.
func (c *Controller) Close() {
	c.server.Close()
	c.cuts.close()
	c.changing <- struct{}{} // no change is under way, and none follows
	c.release()
	c.events.close()
	c.unlock()
}

// lock waits for the changes that are under way.
func (c *Controller) lock(ctx context.Context) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	select {
	case c.changing <- struct{}{}:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

func (c *Controller) unlock() { <-c.changing }

// Process returns the settings of the process in effect.
func (c *Controller) Process() config.Process { return *c.process.Load() }

// SetProcess has readers see other settings of the process.
func (c *Controller) SetProcess(p config.Process) { c.process.Store(&p) }

// Server returns the data path, to be read from.
func (c *Controller) Server() *proxy.Server { return c.server }

// lookup returns the service of a name. The error is a *NotFoundError.
func (c *Controller) lookup(name string) (*service, error) {
	c.mu.RLock()
	s := c.byName[name]
	c.mu.RUnlock()
	if s == nil {
		return nil, &NotFoundError{Kind: "service", Name: name, Have: c.serviceNames()}
	}
	return s, nil
}

func (c *Controller) serviceNames() []string {
	running := *c.running.Load()
	names := make([]string, len(running))
	for i, s := range running {
		names[i] = s.given.Name
	}
	return names
}
