package main

import (
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"runtime"
	"runtime/debug"
	"time"

	"golang.org/x/sys/unix"

	"usher/bench/load"
)

// contest is proxies that all run for the whole of a study, each before a load of its own. They
// have turns of a fraction of a second, so what else the machine does meets all of them alike.
// The proxies share one CPU, of which those without a turn take nothing. The load is this
// thread, on another CPU.
type contest struct {
	runner
	contenders []contender
	workload   map[string]workload
}

// contender is a proxy and its load.
type contender struct {
	name  string
	turn  func() (turn, error)
	close func()
}

// newContest prepares a study that starts proxies. The caller has to close it.
func newContest(ctx context.Context, progress io.Writer) (*contest, findOptions, error) {
	runtime.LockOSThread() // see start; and the load is this thread
	c := &contest{runner: runner{progress: progress}, workload: make(map[string]workload)}
	var f findOptions
	var err error
	if c.proxyCPU, c.loadCPU, err = twoCPUs(); err != nil {
		return nil, f, err
	}
	if c.files, c.dir, f.usher, err = prepareStudy(ctx); err != nil {
		return nil, f, err
	}
	for _, w := range workloads(1, 1) {
		c.workload[w.name] = w
	}
	f.conns, f.flows = min(connsWithin(c.files, 3), maxPeerConns), maxPeerConns
	return c, f, nil
}

// close ends the proxies, after their loads, so that they have nothing left to drain.
func (c *contest) close() {
	for _, x := range c.contenders {
		x.close()
	}
	_ = os.RemoveAll(c.dir)
}

// enter starts a proxy, with more in its configuration, and has it compete in a work. It returns the
// load, which the contest owns.
func (c *contest) enter(ctx context.Context, name string, p proxy, work string, config load.Config, more ...string) (*load.Generator, error) {
	w := c.workload[work]
	g, err := load.New(config)
	if err != nil {
		return nil, err
	}
	proc, target, err := c.startProxy(ctx, p, service{network: w.network(), backends: g.Backends(), more: more})
	if err != nil {
		g.Close()
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	x := contender{name: name}
	x.close = func() {
		g.Close() // first, so that the proxy has nothing left to drain
		proc.stop()
	}
	x.turn = func() (turn, error) {
		m := meter{group: proc.group()}
		r, err := g.Run(target, m.begin, m.end)
		if err != nil {
			return turn{}, fmt.Errorf("%s: %w %s", name, err, proc.output)
		}
		if r.Errors > 0 {
			fmt.Fprintf(c.progress, "%s: %s failed; first error: %s\n", name, count(int(r.Errors), "connection"), r.Error)
		}
		d := loadDone{Result: r, Proxy: m.proxy, CPU: m.own}
		return turn{measure(&w, &d), float64(r.Flooded) / r.Elapsed.Seconds()}, nil
	}
	c.contenders = append(c.contenders, x)
	return g, nil
}

// rounds has each contender take one turn a round, in another order each time.
func (c *contest) rounds(ctx context.Context, n int, note func(name string, t turn)) error {
	var cpus unix.CPUSet
	cpus.Set(c.loadCPU)
	if err := unix.SchedSetaffinity(0, &cpus); err != nil {
		return fmt.Errorf("pin to CPU %d: %w", c.loadCPU, err)
	}
	defer debug.SetGCPercent(debug.SetGCPercent(-1)) // see main
	random := rand.New(rand.NewPCG(3, 4))
	for round := range n {
		for _, i := range random.Perm(len(c.contenders)) {
			if err := context.Cause(ctx); err != nil {
				return err
			}
			x := &c.contenders[i]
			t, err := x.turn()
			if err != nil {
				return err
			}
			note(x.name, t)
		}
		fmt.Fprintf(c.progress, "round %d of %d\n", round+1, n)
	}
	return nil
}

// config is the load of a work, for turns of a length.
func (c *contest) config(work string, slot time.Duration) load.Config {
	w := c.workload[work]
	return w.config(slot/4, slot)
}
