package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

const (
	startLimit = 10 * time.Second // for a proxy to listen
	runLimit   = time.Minute      // for a run, beside its measured time
	wantFiles  = 1 << 17          // descriptors
)

// runner is what all runs share.
type runner struct {
	options
	self              string // this program, to be started as the load
	dir               string // scratch
	files             uint64 // limit of descriptors of every process
	proxyCPU, loadCPU int
	credential        *syscall.Credential // nil: run proxies as this user
	progress          io.Writer
}

// run runs all workloads. It writes the report to stdout and the progress to stderr.
func run(ctx context.Context, o options, stdout, stderr io.Writer) error {
	runtime.LockOSThread() // see start
	r := &runner{options: o, progress: stderr}
	var err error
	if r.self, err = os.Executable(); err != nil {
		return err
	}
	if r.proxyCPU, r.loadCPU, err = twoCPUs(); err != nil {
		return err
	}
	if o.asUser != "" {
		if r.credential, err = credential(o.asUser); err != nil {
			return err
		}
	}
	if r.files, err = raiseFileLimit(wantFiles); err != nil {
		return err
	}
	chosen, err := choose(workloads(o.idle, o.udpIdle), o.only)
	if err != nil {
		return err
	}
	if r.dir, err = os.MkdirTemp("", "bench-"); err != nil {
		return err
	}
	defer os.RemoveAll(r.dir)
	if err := r.shareDir(); err != nil {
		return err
	}

	proxies, skipped, err := r.find(ctx)
	if err != nil {
		return err
	}
	s := setup{
		machine: machine(), kernel: kernel(), compiler: compiler(), date: today(),
		skipped: skipped, user: r.userName(), command: o.command, rounds: o.rounds, duration: o.duration,
		files: r.files,
	}
	res := &results{workloads: chosen, rounds: o.rounds, runs: make(map[runKey]measurement)}
	for _, p := range proxies {
		s.proxies = append(s.proxies, p.name+": "+p.version)
		res.proxies = append(res.proxies, p.name)
		for _, w := range chosen {
			if !p.canServe(&w) {
				note := fmt.Sprintf("%s: does no %s", p.name, strings.ToUpper(w.network()))
				if !slices.Contains(s.notes, note) {
					s.notes = append(s.notes, note)
				}
				continue
			}
			if n := r.conns(&p, &w); n < w.load.Conns {
				s.notes = append(s.notes, fmt.Sprintf("%s with %s: %s instead of %d, for the limit of descriptors",
					w.name, p.name, w.clients(n), w.load.Conns))
			}
		}
	}
	for _, line := range skipped {
		fmt.Fprintln(stderr, "skipped", line)
	}
	for _, line := range s.notes {
		fmt.Fprintln(stderr, line)
	}
	if len(proxies) == 0 {
		return errors.New("no proxy to run")
	}
	if err := r.rounds(ctx, proxies, res); err != nil {
		return err
	}
	if err := writeReport(stdout, s, res); err != nil {
		return err
	}
	if o.out == "" {
		return nil
	}
	f, err := os.Create(o.out)
	if err != nil {
		return err
	}
	return errors.Join(writeReport(f, s, res), f.Close())
}

// shareDir lets the proxies' user read the scratch directory and write to
// runDir within.
func (r *runner) shareDir() error {
	if err := os.Chmod(r.dir, 0o755); err != nil {
		return err
	}
	dir := filepath.Join(r.dir, runDir)
	if err := os.Mkdir(dir, 0o755); err != nil || r.credential == nil {
		return err
	}
	return os.Chown(dir, int(r.credential.Uid), int(r.credential.Gid))
}

// find sets up the selected proxies. It skips a peer that is not installed; usher is
// required.
func (r *runner) find(ctx context.Context) (found []proxy, skipped []string, err error) {
	f := findOptions{
		usher: r.usher,
		conns: min(connsWithin(r.files, 3), maxPeerConns),
		flows: min(connsWithin(r.files, 1), maxPeerConns),
	}
	if f.usher != "" {
		if f.usher, err = filepath.Abs(f.usher); err != nil {
			return nil, nil, err
		}
	}
	for name := range strings.SplitSeq(r.proxies, ",") {
		name = strings.TrimSpace(name)
		i := slices.IndexFunc(finders, func(f finder) bool { return f.name == name })
		if i < 0 {
			return nil, nil, fmt.Errorf("unknown proxy %q", name)
		}
		peer := slices.Contains(peers, name)
		if !peer && f.usher == "" {
			if f.usher, f.root, err = buildUsher(ctx, r.dir); err != nil {
				return nil, nil, err
			}
		}
		p, err := finders[i].find(ctx, f)
		switch {
		case err != nil && peer:
			skipped = append(skipped, name+": "+err.Error())
		case err != nil:
			return nil, nil, fmt.Errorf("%s: %w", name, err)
		default:
			p.name = name
			found = append(found, p)
		}
	}
	return found, skipped, nil
}

// rounds fills res. It logs a run that fails and leaves it out.
func (r *runner) rounds(ctx context.Context, proxies []proxy, res *results) error {
	for round := range r.options.rounds {
		for _, w := range res.workloads {
			for i := range proxies {
				p := proxies[(i+round)%len(proxies)]
				if !p.canServe(&w) {
					continue
				}
				name := fmt.Sprintf("round %d, %s, %s", round+1, w.name, p.name)
				m, err := r.once(ctx, p, w)
				if ctx.Err() != nil {
					return errors.New("interrupted")
				}
				if err != nil {
					res.failures = append(res.failures, name+": "+err.Error())
					fmt.Fprintf(r.progress, "%s: failed: %v\n", name, err)
					continue
				}
				res.runs[runKey{w.name, p.name, round}] = m
				fmt.Fprintf(r.progress, "%s: %s %s\n", name, number(m.cost), w.cost)
			}
		}
	}
	return nil
}

// conns is how many connections or flows of w the proxy can take.
func (r *runner) conns(p *proxy, w *workload) int {
	return min(w.load.Conns, connsWithin(r.files, p.perFlow[w.network()]))
}

// once is one run: the load opens its backends, the proxy starts before them, the load
// runs.
func (r *runner) once(ctx context.Context, p proxy, w workload) (measurement, error) {
	ctx, cancel := context.WithTimeout(ctx, runLimit+r.warmup+r.duration)
	defer cancel()

	cmd := exec.Command(r.self, loadRole)
	stdin, err := cmd.StdinPipe()
	if err != nil {
		return measurement{}, err
	}
	fromLoad, stdout := io.Pipe()
	cmd.Stdout = stdout
	l, err := start(cmd, r.loadCPU, nil)
	if err != nil {
		return measurement{}, fmt.Errorf("start the load: %w", err)
	}
	defer l.stop()
	go func() { <-l.done; stdout.Close() }()
	stopOnCancel := context.AfterFunc(ctx, l.stop)
	defer stopOnCancel()

	in, out := json.NewEncoder(stdin), json.NewDecoder(fromLoad)
	config := w.config(r.warmup, r.duration)
	config.Conns = r.conns(&p, &w)
	var ready loadReady
	if err := errors.Join(in.Encode(config), out.Decode(&ready)); err != nil {
		return measurement{}, fmt.Errorf("load: %w %s", err, l.output)
	}
	proxy, target, err := r.startProxy(ctx, p, service{network: w.network(), backends: ready.Backends})
	if err != nil {
		return measurement{}, err
	}
	defer func() {
		l.stop() // first, so that the proxy has nothing left to drain
		proxy.stop()
	}()

	var done loadDone
	if err := errors.Join(in.Encode(loadStart{target, proxy.group()}), out.Decode(&done)); err != nil {
		return measurement{}, fmt.Errorf("load: %w %s", err, l.output)
	}
	if done.Error != "" {
		return measurement{}, fmt.Errorf("%s %s", done.Error, proxy.output)
	}
	if result := done.Result; result.Errors > 0 {
		fmt.Fprintf(r.progress, "%s failed; first error: %s\n", count(int(result.Errors), "connection"), result.Error)
	}
	return measure(&w, &done), nil
}

// startProxy starts p on a free port and waits until it listens there. If another
// process takes the port first, startProxy tries another one.
func (r *runner) startProxy(ctx context.Context, p proxy, s service) (*process, netip.AddrPort, error) {
	var err error
	for range 3 {
		if s.listen, err = freePort(s.network); err != nil {
			break
		}
		var cmd *exec.Cmd
		if cmd, err = p.command(r.dir, s); err != nil {
			break
		}
		var proc *process
		if proc, err = start(cmd, r.proxyCPU, r.credential); err != nil {
			break
		}
		if err = waitListen(ctx, proc, s); err == nil {
			return proc, s.listen, nil
		}
		proc.stop()
	}
	return nil, netip.AddrPort{}, fmt.Errorf("start %s: %w", p.name, err)
}

func freePort(network string) (netip.AddrPort, error) {
	if network == "udp" {
		c, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
		if err != nil {
			return netip.AddrPort{}, err
		}
		defer c.Close()
		return c.LocalAddr().(*net.UDPAddr).AddrPort(), nil
	}
	ln, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		return netip.AddrPort{}, err
	}
	defer ln.Close()
	return ln.Addr().(*net.TCPAddr).AddrPort(), nil
}

// listening returns nil if a socket serves s. Over TCP it accepts a connection, over
// UDP it is bound to the port. A datagram would make a flow, which would be measured
// too.
func listening(s service) error {
	if s.network == "udp" {
		// The main thread, whose table /proc/net is, may be in a namespace that a study has made.
		table, err := os.ReadFile("/proc/thread-self/net/udp")
		if err == nil && !udpBound(table, s.listen) {
			err = fmt.Errorf("no socket is bound to UDP %s", s.listen)
		}
		return err
	}
	conn, err := net.Dial("tcp4", s.listen.String())
	if err != nil {
		return err
	}
	return conn.Close()
}

// waitListen returns when the proxy is listening.
func waitListen(ctx context.Context, p *process, s service) error {
	ctx, cancel := context.WithTimeout(ctx, startLimit)
	defer cancel()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for {
		err := listening(s)
		if err == nil {
			return nil
		}
		select {
		case <-p.done:
			return fmt.Errorf("the process ended (%s): %s", p.cmd.ProcessState, p.output)
		case <-ctx.Done():
			return fmt.Errorf("%w: %s", err, p.output)
		case <-tick.C:
		}
	}
}

// measure makes figures of the load's counts.
func measure(w *workload, d *loadDone) measurement {
	if w.isMemory() {
		return measurement{cost: float64(d.Proxy.Anonymous) / float64(d.Result.Units) * w.costScale}
	}
	seconds := d.Result.Elapsed.Seconds()
	units := float64(d.Result.Units) / w.rateScale
	m := measurement{
		rate:      units / seconds,
		cost:      d.Proxy.CPU.Seconds() / units * w.costScale,
		p50:       micros(d.Result.P50),
		p99:       micros(d.Result.P99),
		proxyBusy: 100 * d.Proxy.CPU.Seconds() / seconds,
		loadBusy:  100 * d.CPU.Seconds() / seconds,
		errors:    d.Result.Errors,
	}
	if asked := d.Result.Units + d.Result.Lost; asked > 0 {
		m.lost = 100 * float64(d.Result.Lost) / float64(asked)
	}
	if ticks := d.Proxy.User + d.Proxy.Sys; ticks > 0 {
		m.user = m.cost * float64(d.Proxy.User) / float64(ticks)
		m.sys = m.cost - m.user
	}
	return m
}

func micros(d time.Duration) float64 { return float64(d) / float64(time.Microsecond) }

func kernel() string {
	var u unix.Utsname
	if err := unix.Uname(&u); err != nil {
		return "unknown"
	}
	return unix.ByteSliceToString(u.Sysname[:]) + " " + unix.ByteSliceToString(u.Release[:])
}

func (r *runner) userName() string {
	if r.asUser != "" {
		return r.asUser
	}
	if os.Geteuid() == 0 {
		return "root"
	}
	return "an ordinary user"
}
