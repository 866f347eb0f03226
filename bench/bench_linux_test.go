package main

import (
	"encoding/json"
	"io"
	"math"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"usher/bench/load"
)

// TestRunLoad plays the runner until it ends its processes. A process that does
// nothing replaces the proxy: the clients talk to a backend directly.
func TestRunLoad(t *testing.T) {
	t.Parallel()
	chosen, err := choose(workloads(1, 1), "pingpong,udp-128")
	if err != nil {
		t.Fatal(err)
	}
	for _, w := range chosen {
		t.Run(w.name, func(t *testing.T) {
			t.Parallel()
			testRunLoad(t, &w)
		})
	}
}

func testRunLoad(t *testing.T, w *workload) {
	sleep, err := exec.LookPath("sleep")
	if err != nil {
		t.Skip(err)
	}
	runtime.LockOSThread() // see start
	defer runtime.UnlockOSThread()
	cpu := lastCPU(t)
	proxy, err := start(exec.Command(sleep, "600"), cpu, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer proxy.stop()
	var set unix.CPUSet
	if err := unix.SchedGetaffinity(proxy.group(), &set); err != nil {
		t.Fatal(err)
	}
	if set.Count() != 1 || !set.IsSet(cpu) {
		t.Errorf("it may run on %d CPUs, want CPU %d alone", set.Count(), cpu)
	}

	fromRunner, toLoad := io.Pipe()
	fromLoad, toRunner := io.Pipe()
	var role sync.WaitGroup
	role.Go(func() {
		if err := runLoad(fromRunner, toRunner); err != nil {
			t.Error(err)
		}
		toRunner.Close()
	})
	t.Cleanup(func() { toLoad.Close(); fromLoad.Close(); role.Wait() })

	in, out := json.NewEncoder(toLoad), json.NewDecoder(fromLoad)
	if err := in.Encode(w.config(0, 50*time.Millisecond)); err != nil {
		t.Fatal(err)
	}
	var ready loadReady
	if err := out.Decode(&ready); err != nil {
		t.Fatal(err)
	}
	if len(ready.Backends) != len(backends) {
		t.Fatalf("%d backends, want %d", len(ready.Backends), len(backends))
	}
	if err := in.Encode(loadStart{ready.Backends[0], proxy.group()}); err != nil {
		t.Fatal(err)
	}
	var done loadDone
	if err := out.Decode(&done); err != nil {
		t.Fatal(err)
	}
	if done.Error != "" {
		t.Fatal(done.Error)
	}
	m := measure(w, &done)
	if m.rate <= 0 || m.p99 < m.p50 || m.p50 <= 0 || m.errors != 0 || m.lost != 0 {
		t.Errorf("got %+v of %+v", m, done)
	}
	if done.CPU <= 0 || done.Proxy.CPU > done.CPU {
		t.Errorf("the load took %v of CPU time, a sleeping process %v", done.CPU, done.Proxy.CPU)
	}

	proxy.stop()
	if pids, err := processGroup(proxy.group()); err == nil {
		t.Errorf("processes %v are still there", pids)
	}
	proxy.stop() // once more does no harm
}

// lastCPU is one that this thread may use.
func lastCPU(t *testing.T) int {
	t.Helper()
	var set unix.CPUSet
	if err := unix.SchedGetaffinity(0, &set); err != nil {
		t.Fatal(err)
	}
	last := -1
	for cpu := range len(set) * 64 {
		if set.IsSet(cpu) {
			last = cpu
		}
	}
	return last
}

func TestProcessClock(t *testing.T) {
	t.Parallel()
	read := func(id int32) time.Duration {
		d, err := cpuClock(id)
		if err != nil {
			t.Fatal(err)
		}
		return d
	}
	before := read(unix.CLOCK_PROCESS_CPUTIME_ID)
	got := read(processClock(os.Getpid()))
	after := read(unix.CLOCK_PROCESS_CPUTIME_ID)
	if got < before || got > after {
		t.Errorf("the clock by pid says %v, the process's own %v before and %v after", got, before, after)
	}
	if d, err := cpuClock(processClock(math.MaxInt32 >> 4)); err == nil {
		t.Errorf("the clock of no process says %v", d)
	}
}

func TestReadUsage(t *testing.T) {
	t.Parallel()
	pids, err := processGroup(syscall.Getpgrp())
	if err != nil {
		t.Fatal(err)
	}
	u, err := readUsage([]int{os.Getpid()}, true)
	if err != nil {
		t.Fatal(err)
	}
	if !slices.Contains(pids, os.Getpid()) || u.CPU <= 0 || u.Anonymous < 64<<10 {
		t.Errorf("process %d of %v: %+v", os.Getpid(), pids, u)
	}
	if pids, err := processGroup(math.MaxInt32); err == nil {
		t.Errorf("no such group has processes %v", pids)
	}
}

func TestMeasure(t *testing.T) {
	t.Parallel()
	all := workloads(100, 100)
	r := load.Result{Elapsed: 2 * time.Second, Units: 20000, P50: time.Millisecond, P99: 3 * time.Millisecond, Errors: 4}
	got := measure(&all[0], &loadDone{Result: r, CPU: time.Second, Proxy: usage{CPU: 1600 * time.Millisecond, User: 40, Sys: 120}})
	want := measurement{rate: 10000, cost: 80, user: 20, sys: 60, p50: 1000, p99: 3000, proxyBusy: 80, loadBusy: 50, errors: 4}
	if got != want {
		t.Errorf("crr: got %+v, want %+v", got, want)
	}
	r = load.Result{Elapsed: 2 * time.Second, Units: 5e9}
	got = measure(&all[3], &loadDone{Result: r, Proxy: usage{CPU: 2 * time.Second}})
	want = measurement{rate: 20, cost: 50, proxyBusy: 100}
	if got != want {
		t.Errorf("bulk: got %+v, want %+v", got, want)
	}
	r = load.Result{Elapsed: time.Second, Units: 100}
	got = measure(&all[5], &loadDone{Result: r, Proxy: usage{CPU: time.Second, Anonymous: 200 << 10}})
	if want = (measurement{cost: 2}); got != want {
		t.Errorf("idle: got %+v, want %+v", got, want)
	}
	r = load.Result{Elapsed: time.Second, Units: 99000, Lost: 1000}
	got = measure(&all[6], &loadDone{Result: r, Proxy: usage{CPU: 495 * time.Millisecond}})
	if want = (measurement{rate: 99000, cost: 5, proxyBusy: 49.5, lost: 1}); got != want {
		t.Errorf("udp: got %+v, want %+v", got, want)
	}
}

// TestListening asks for listeners of both networks, before, while and after
// they are there.
func TestListening(t *testing.T) {
	t.Parallel()
	for _, network := range []string{"tcp", "udp"} {
		t.Run(network, func(t *testing.T) {
			t.Parallel()
			// An address of its own: no other test takes the port meanwhile.
			at := netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 0, 3, 7}), 0)
			var c io.Closer
			if network == "udp" {
				u, err := net.ListenUDP("udp4", net.UDPAddrFromAddrPort(at))
				if err != nil {
					t.Fatal(err)
				}
				at, c = u.LocalAddr().(*net.UDPAddr).AddrPort(), u
			} else {
				l, err := net.ListenTCP("tcp4", net.TCPAddrFromAddrPort(at))
				if err != nil {
					t.Fatal(err)
				}
				at, c = l.Addr().(*net.TCPAddr).AddrPort(), l
			}
			s := service{network: network, listen: at}
			// The kernel gives its table page by page, and finds its place again by
			// counting: a socket of somebody else that is closed meanwhile hides one.
			err := listening(s)
			for limit := time.Now().Add(10 * time.Second); err != nil && time.Now().Before(limit); {
				err = listening(s)
			}
			if err != nil {
				t.Errorf("somebody does: %v", err)
			}
			if err := c.Close(); err != nil {
				t.Fatal(err)
			}
			if err := listening(s); err == nil {
				t.Error("no socket listens, want an error")
			}
			free, err := freePort(network)
			if err != nil {
				t.Fatal(err)
			}
			if free.Port() == 0 || !free.Addr().IsLoopback() {
				t.Errorf("free port %s", free)
			}
		})
	}
}

// TestCommands looks at the proxies' command lines and configuration files.
func TestCommands(t *testing.T) {
	t.Parallel()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	at := func(s string) netip.AddrPort { return netip.MustParseAddrPort(s) }
	tcp := service{"tcp", at("127.0.0.1:8000"), []netip.AddrPort{at("127.0.1.1:9000"), at("127.0.1.2:9000")}, nil}
	udp := tcp
	udp.network = "udp"
	options := findOptions{usher: self, conns: 10, flows: 20}

	usher, err := findUsher(t.Context(), options, "epoll")
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		service service
		want    string
	}{
		{tcp, " --listen tcp://127.0.0.1:8000 --backend 127.0.1.1:9000 --backend 127.0.1.2:9000"},
		{udp, " --listen udp://127.0.0.1:8000 --udp-idle-timeout 10m --drain-timeout 0s --max-client-flows off --backend 127.0.1.1:9000 --backend 127.0.1.2:9000"},
	} {
		cmd, err := usher.command("", tt.service)
		if err != nil {
			t.Fatal(err)
		}
		if got := strings.Join(cmd.Args, " "); !strings.HasSuffix(got, tt.want) {
			t.Errorf("usher: %q, want it to end in %q", got, tt.want)
		}
	}

	nginx, err := findNginx(t.Context(), options)
	if err != nil {
		t.Skip(err)
	}
	for _, tt := range []struct {
		service service
		want    []string
	}{
		{tcp, []string{"listen 127.0.0.1:8000 backlog=4096;", "worker_connections 120;", "server 127.0.1.2:9000 max_fails=0;"}},
		{udp, []string{"listen 127.0.0.1:8000 udp reuseport;", "worker_connections 140;", "server 127.0.1.2:9000 max_fails=0;"}},
	} {
		dir := t.TempDir()
		if _, err := nginx.command(dir, tt.service); err != nil {
			t.Fatal(err)
		}
		text, err := os.ReadFile(dir + "/nginx.conf")
		if err != nil {
			t.Fatal(err)
		}
		for _, line := range tt.want {
			if !strings.Contains(string(text), " "+line+"\n") {
				t.Errorf("nginx: no line %q in\n%s", line, text)
			}
		}
	}
}

func TestServes(t *testing.T) {
	t.Parallel()
	all := workloads(1, 1)
	p := proxy{perFlow: map[string]int{"tcp": 3}}
	for _, w := range all {
		if got, want := p.canServe(&w), !strings.HasPrefix(w.name, "udp"); got != want {
			t.Errorf("a TCP proxy serves %s: %v", w.name, got)
		}
	}
}

func TestTail(t *testing.T) {
	t.Parallel()
	var l tail
	long := strings.Repeat("x", outputKept)
	for _, s := range []string{"gone ", long, "\nlast words\n"} {
		if n, err := l.Write([]byte(s)); n != len(s) || err != nil {
			t.Fatalf("wrote %d of %d bytes: %v", n, len(s), err)
		}
	}
	got := l.String()
	if len(got) > outputKept || strings.Contains(got, "gone") || !strings.HasSuffix(got, "last words") {
		t.Errorf("kept %d bytes that end in %q", len(got), got[max(0, len(got)-20):])
	}
}

func TestNginxModule(t *testing.T) {
	t.Parallel()
	if got, err := nginxModule("configure arguments: --prefix=/x --with-stream --with-http_v2_module"); got != "" || err != nil {
		t.Errorf("built in: %q, %v, want no line", got, err)
	}
	dir := t.TempDir()
	if err := os.WriteFile(dir+"/ngx_stream_module.so", nil, 0o644); err != nil {
		t.Fatal(err)
	}
	want := "load_module " + dir + "/ngx_stream_module.so;"
	if got, err := nginxModule("--with-stream=dynamic --modules-path=" + dir); got != want || err != nil {
		t.Errorf("dynamic: %q, %v, want %q", got, err, want)
	}
}

// TestNetfilter connects past a rule of iptables, where there may be one.
func TestNetfilter(t *testing.T) {
	t.Parallel()
	n, err := newNetfilter("iptables-restore", restoreText(ruleLines(1, noneFits, 1)), lastCPU(t))
	if err != nil {
		n.close()
		t.Skip(err)
	}
	defer n.close()
	if cost, err := n.turn(10 * time.Millisecond); err != nil || cost <= 0 {
		t.Errorf("a connection took %v µs, %v", cost, err)
	}
}
