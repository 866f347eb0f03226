// Package app runs a Config: it makes the pools, the monitors, the name look-ups and the server, tells what it does, and
// ends all of it in order.
package app

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"runtime"
	"time"

	"go.uber.org/zap"

	"usher/balancer"
	"usher/conntrack"
	"usher/health"
	"usher/internal/config"
	"usher/internal/discovery"
	"usher/proxy"
)

// Env is what a run finds around itself.
type Env struct {
	Stdout, Stderr io.Writer          // logs go to Stderr; neither is ever waited for
	Names          discovery.Resolver // the zero value is the machine's own
}

// Run serves until a signal or the end of ctx, drains, and returns nil; a second signal cuts what is left. An error means
// that the start failed and that nothing is left running.
func Run(ctx context.Context, cfg *config.Config, env Env) error {
	// A log reader that goes away must not take the service with it.
	defer ignorePipe()()
	log, out := openLog(cfg.Process, env.Stderr)
	defer out.close()
	// net/http tells the standard logger of servers that break its rules. A backend under checks may do so at will.
	if restore, err := zap.RedirectStdLogAt(log, zap.DebugLevel); err == nil {
		defer restore()
	}
	stop := watchSignals(ctx, func() { log.Warn("nothing to reload: there is no config file") })
	defer stop.release()

	run, err := start(stop.drain, cfg, log, env.Names)
	if err != nil {
		if stop.drain.Err() != nil {
			return nil // told to end before the start was done
		}
		return explain(err, cfg.Services)
	}
	<-stop.drain.Done()
	run.end(stop.cut)
	return nil
}

// running is a started Config.
type running struct {
	process config.Process
	server  *proxy.Server
	keepers []*keeper
	names   *discovery.Watcher
	log     *zap.Logger
	journal journal // of keepers and names
	drops   *drops  // nil before the server runs
}

// start brings everything up: sockets first, because whether they can be had is the answer that people wait for, then
// names and one round of health checks, and last the clients. If ctx ends before that, so does start.
func start(ctx context.Context, cfg *config.Config, log *zap.Logger, names discovery.Resolver) (*running, error) {
	r := &running{process: cfg.Process, log: log}
	if err := resolveListeners(ctx, cfg.Services, names, log); err != nil {
		return nil, err
	}
	services := make([]proxy.ServiceConfig, len(cfg.Services))
	slots := health.NewSlots(checksAtOnce)
	for i, s := range cfg.Services {
		k, err := newKeeper(s, log, &r.journal, slots)
		if err != nil {
			r.closeKeepers()
			return nil, err
		}
		r.keepers = append(r.keepers, k)
		persist, err := persistence(s.Persist)
		if err != nil {
			r.closeKeepers()
			return nil, fmt.Errorf("service %s: %w", s.Name, err)
		}
		services[i] = proxy.ServiceConfig{
			Name:             s.Name,
			Listeners:        listeners(s.Listeners),
			Pool:             k.pool,
			ConnectTimeout:   s.ConnectTimeout,
			IdleTimeout:      s.IdleTimeout,
			QueueLength:      s.Queue.Length,
			QueueTimeout:     s.Queue.Timeout,
			MaxAge:           s.MaxAge.Max,
			MaxAgeJitter:     float64(s.MaxAge.Jitter) / 100,
			Persist:          persist,
			Witness:          k.witness(),
			HalfCloseTimeout: s.HalfCloseTimeout,
			Wait:             s.Wait,
			UDP:              udpConfig(s.UDP),
		}
	}
	var err error
	r.server, err = proxy.New(proxy.Options{
		Engine:    cfg.Process.Engine,
		Workers:   cfg.Process.Workers,
		MaxConns:  cfg.Process.MaxConns,
		Logger:    log,
		AccessLog: cfg.Process.AccessLog,
	}, services)
	if err != nil {
		r.closeKeepers()
		return nil, err
	}
	routes := newRoutes(bound(cfg.Services, r.server.Services()))
	for i, k := range r.keepers {
		k.cuts, k.forget = newCuts(r.server.CutBackend), r.server.Forget
		k.admit = func(b []config.Backend) ([]config.Backend, []error) { return routes.admit(i, b) }
	}
	r.resolveNames(ctx, names)
	for _, k := range r.keepers {
		k.apply()
	}
	r.firstChecks(ctx)
	if ctx.Err() != nil {
		r.server.Close()
		r.close()
		return nil, context.Cause(ctx)
	}
	r.tell()
	r.journal.begin()
	if n := r.server.Procs(); n > 0 {
		runtime.GOMAXPROCS(n)
	}
	r.server.Start()
	log.Info("serving")
	r.drops = newDrops(r.server.Services(), log)
	return r, nil
}

// udpConfig is what the data path takes of a udp service's options.
func udpConfig(u config.UDPOptions) proxy.UDPConfig {
	return proxy.UDPConfig{
		IdleTimeout:      u.IdleTimeout,
		UnrepliedTimeout: u.UnrepliedTimeout,
		Replies:          u.Replies,
		OnePacket:        u.OnePacket,
		MaxFlows:         u.MaxFlows,
		MaxClientFlows:   u.MaxClientFlows,
	}
}

// persistence is what the data path takes of how clients are kept at their backends.
func persistence(p config.Persist) (proxy.Persist, error) {
	mask, err := conntrack.NewMask(cmp.Or(p.Bits4, 32), cmp.Or(p.Bits6, 128))
	return proxy.Persist{
		On:          p.Timeout > 0,
		Persistence: conntrack.Persistence{Timeout: p.Timeout, Mask: mask},
		Allow:       balancer.Stickiness{Quiesced: !p.LeaveQuiesced, Overloaded: !p.LeaveOverloaded},
	}, err
}

// checksAtOnce bounds the checks under way in all services together, and with them the descriptors that they take from
// the data path.
const checksAtOnce = 256

// firstRound bounds how long silent backends may hold up the start of all services.
const firstRound = 2 * time.Second

// firstChecks waits for the first result of every check and the first word of every agent, so that the first choice
// depends on them.
func (r *running) firstChecks(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, firstRound)
	defer cancel()
	for _, k := range r.keepers {
		if k.monitor != nil {
			k.monitor.WaitFirst(ctx)
		}
		if k.agents != nil {
			k.agents.monitor.WaitFirst(ctx)
			k.apply()
		}
	}
}

// end drains until the drain timeout or the end of cut, and stops everything.
func (r *running) end(cut context.Context) {
	timeout := config.Delay(r.process.DrainTimeout)
	ctx, cancel := context.WithTimeoutCause(cut, r.process.DrainTimeout, fmt.Errorf("drain-timeout %s passed", timeout))
	defer cancel()
	r.log.Info("draining", zap.Int("flows", r.server.Open()), zap.String("drain-timeout", timeout))
	if err := r.server.Shutdown(ctx); err != nil {
		r.log.Warn("flows cut", zap.Error(err))
	}
	r.close()
	r.log.Info("stopped")
}

// close ends what feeds the pools.
func (r *running) close() {
	r.drops.close()
	r.names.Close()
	r.closeKeepers()
}

func (r *running) closeKeepers() {
	for _, k := range r.keepers {
		k.close()
	}
}

func texts[T fmt.Stringer](values []T) []string {
	out := make([]string, len(values))
	for i, v := range values {
		out[i] = v.String()
	}
	return out
}
