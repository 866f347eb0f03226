package app

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"sync"
	"syscall"
	"time"

	"go.uber.org/zap"

	"usher/internal/config"
	"usher/internal/demo"
	"usher/internal/discovery"
)

// demoDrain is how long clients of the demo may take to leave, and its backends to end.
const demoDrain = 2 * time.Second

// Demo runs small HTTP backends, a service in front of them, some clients, and a live view, until a signal or the end of
// ctx. Options of cfg's one service hold, its addresses are replaced.
func Demo(ctx context.Context, cfg *config.Config, env Env) error {
	defer ignorePipe()()
	screen := isTerminal(env.Stdout) && os.Getenv("TERM") != "dumb"
	// Without somebody who looks at it a demo has no purpose: a pipe whose reader has gone ends it.
	ctx, unseen := context.WithCancel(ctx)
	defer unseen()
	out := newAsyncWriter(env.Stdout, nil, func(error) { unseen() })
	defer out.close()
	stop := watchSignals(ctx, nil)
	defer stop.release()

	backends, err := demo.Start([]int{9001, 9002, 9003}) // or others, if these are taken
	if err != nil {
		return err
	}
	defer func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), demoDrain)
		defer cancel()
		backends.Close(ctx)
	}()

	var run *running
	rows := func() []demo.Row { return run.demoRows() }
	view := demo.NewView(out, screen, rows)
	if os.Getenv("NO_COLOR") != "" {
		view.NoColour()
	}
	if screen && isTerminal(env.Stderr) {
		env.Stderr = view // or the log would write into the live lines
		cfg.Process.LogFormat = "console"
	}
	cfg.Process.DrainTimeout = demoDrain
	log, logOut := openLog(cfg.Process, env.Stderr)
	defer logOut.close()
	run, err = startDemo(stop.drain, cfg, backends.Addrs(), log)
	if err != nil {
		if stop.drain.Err() != nil {
			return nil
		}
		return err
	}
	address := run.server.Services()[0].Listeners[0].String()
	fmt.Fprintf(out, demoText, len(backends.Addrs()), address, cfg.Services[0].Scheduler)

	// The view outlives the clients and the service, so that its last frame shows how it ended.
	var watching sync.WaitGroup
	viewing, blind := context.WithCancel(context.WithoutCancel(ctx))
	watching.Go(func() { view.Run(viewing) })
	demo.Traffic(stop.drain, address)
	run.end(stop.cut)
	blind()
	watching.Wait()
	return nil
}

const demoText = `%d backends behind http://%s, scheduler %s. Try, again and again:

  curl http://%[2]s

or open it in a browser. A trickle of clients is there already. Ctrl-C ends it.

`

// startDemo starts the one service of cfg on the port that the demo would like, or on one that the kernel chooses.
func startDemo(ctx context.Context, cfg *config.Config, backends []netip.AddrPort, log *zap.Logger) (*running, error) {
	s := &cfg.Services[0]
	s.Backends = nil
	for _, b := range backends {
		s.Backends = append(s.Backends, config.Backend{Weight: 1, Addr: tcpAddr(b)})
	}
	s.Listeners = []config.Addr{tcpAddr(netip.MustParseAddrPort("127.0.0.1:8080"))}
	run, err := start(ctx, cfg, log, discovery.Resolver{})
	if errors.Is(err, syscall.EADDRINUSE) || errors.Is(err, syscall.EACCES) {
		s.Listeners[0].Port = 0
		run, err = start(ctx, cfg, log, discovery.Resolver{})
	}
	return run, err
}

func tcpAddr(at netip.AddrPort) config.Addr {
	return config.Addr{Network: config.TCP, IP: at.Addr(), Port: at.Port(), Ports: 1}
}

// demoRows is what the view shows now.
func (r *running) demoRows() []demo.Row {
	backends := r.keepers[0].pool.Backends()
	rows := make([]demo.Row, len(backends))
	for i, b := range backends {
		rows[i] = demo.Row{
			Name:    fmt.Sprintf("backend-%d", i+1),
			Address: b.String(),
			Status:  b.Status().String(),
			Active:  b.Active(),
			Total:   b.Total(),
		}
	}
	return rows
}
