// Command bench runs usher and its peers, HAProxy and nginx, side by side and
// reports what a unit of work costs each of them.
//
//	go run ./bench
//	go run ./bench -only crr,pingpong -rounds 9 -out bench/results/tcp.md
//	sudo go run ./bench -as-user nobody
//
// It also measures the cost of a choice and of a table as they grow, how a change of the
// backends moves their clients, what a change costs among many services, and the pause of an upgrade:
//
//	go run ./bench schedulers -out bench/results
//	go run ./bench disruption -out bench/results
//	go run ./bench tables -rounds 5
//	go run ./bench reload -rounds 5
//	go run ./bench upgrade -rounds 3
//
// And what the front door costs as rules become many, under a flood of denied clients, and at all:
//
//	sudo go run ./bench rules -rounds 30 -time 250ms
//	go run ./bench flood -rounds 9 -time 2s
//	go run ./bench door -rounds 30 -time 250ms -before BINARY
//
// And Kubernetes with thousands of services:
//
//	sudo go run ./bench kube -rounds 3 -out bench/results
//
// And the commands of ipvsadm and iptables with thousands of services, beside the real iptables:
//
//	sudo go run ./bench dialects -rounds 3 -out bench/results
//
// The pictures follow from the tables of the results. Nothing is measured to draw them anew:
//
//	go run ./bench pictures
//
// # What is measured
//
// The proxy is pinned to one CPU. Clients and backends are one process (see package
// load) pinned to another. All run on loopback. The main figure is the proxy's CPU time
// per unit of work, user and kernel, over all its processes and threads. It is read in
// nanoseconds from their CPU clocks at the beginning and the end of the measured time.
// Throughput says less: it is the proxy's own only where the proxy, not the load, is
// saturated, as the columns "busy" show. The kernel charges the work of a loopback
// packet to the sender, for every proxy alike.
//
// The idle workloads measure anonymous memory instead (Pss_Anon), before and after the
// connections or flows are opened.
//
// A UDP request without a reply in time is sent again, so the window of requests in
// flight stays full. It counts as lost unless the reply comes after all. The load's own
// sockets have room for all of it. A run in which they drop a datagram fails, so every
// loss is the proxy's.
//
// User and system parts come from the kernel's clock tick and are samples.
//
// # How it is kept fair
//
// Every run starts its proxy anew. A round runs each workload on each proxy, one right
// after the other, and each round in another order. Every proxy has one worker or
// thread, round robin over the same backends, no health checks, no logs. nginx keeps
// its defaults for buffers and accepting, and its UDP socket has reuseport. UDP flows
// end after ten minutes of silence, nginx's default. HAProxy runs twice, once free to
// splice and once made to, since neither is best at everything. It does no UDP. The
// ratio is taken within a round, against the best peer of that round in that workload.
// The result is the median over the rounds.
//
// The crr workload leaves tens of thousands of sockets in TIME_WAIT. Each run has ports
// of its own, so no port is missing. Beyond net.ipv4.tcp_max_tw_buckets the kernel drops
// such sockets early, in any run.
//
// # The studies
//
// A study runs inside this process. schedulers times a choice and the building of
// tables, and looks for choices that wait for a table. disruption counts which clients
// move. tables times the connection table beside a list. reload, on Linux, starts usher with
// 10,000 services and changes one, by its file and by commands. upgrade, on Linux, measures how
// long flows stand still while usher is upgraded. rules, flood and door, on Linux, have proxies
// run side by side and give their loads turns. rules also runs iptables in network namespaces of
// its own, if started as root. Each subject is measured in all
// rounds, for about -time, in another order each round. The text goes to stdout. With
// -out it goes to that folder as well. Studies have none of the needs
// below, but tables takes 2 GB of memory for lists and tables of a million.
//
// # Needs
//
// Linux with two CPUs. A peer that is not installed is left out. Started as root it
// raises the limit of descriptors as far as it needs. -as-user runs the proxies as an
// ordinary user, whose budget for pipes, and so for splice, is smaller than root's.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"runtime"
	"runtime/debug"
	"strings"
	"syscall"
	"time"

	"usher/internal/revision"
)

// loadRole as the only argument makes the program the load of one run. The
// runner starts itself this way and talks to it over stdin and stdout.
const loadRole = "load"

// options are the runner's flags.
type options struct {
	rounds   int
	duration time.Duration
	warmup   time.Duration
	only     string
	proxies  string
	idle     int
	udpIdle  int
	asUser   string
	usher    string
	out      string
	command  string // as typed, for the report
}

func main() {
	if len(os.Args) == 2 && os.Args[1] == loadRole {
		// The loop is the only work. With a single P the runtime would take it away in
		// each wait. Nothing is allocated, so there is no garbage to collect.
		runtime.GOMAXPROCS(2)
		debug.SetGCPercent(-1)
		if err := runLoad(os.Stdin, os.Stdout); err != nil {
			fmt.Fprintln(os.Stderr, "bench load:", err)
			os.Exit(1)
		}
		return
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if len(os.Args) > 1 && os.Args[1] == picturesCommand {
		folder, err := parsePicturesFlags(os.Args[2:], os.Stderr)
		exitUnparsed(err)
		exitFailed(drawPictures(folder))
		return
	}
	if s, ok := lookupStudy(os.Args[1:]); ok {
		o, err := parseStudyFlags(os.Args[1:], os.Stderr)
		exitUnparsed(err)
		o.revision, err = ownRevision(ctx)
		exitFailed(err)
		exitFailed(s.do(ctx, o, os.Stdout, os.Stderr))
		return
	}
	o, err := parseFlags(os.Args[1:], os.Stderr)
	exitUnparsed(err)
	exitFailed(run(ctx, o, os.Stdout, os.Stderr))
}

// ownRevision is that of the packages which the studies measure in this process.
func ownRevision(ctx context.Context) (string, error) {
	self, err := os.Executable()
	if err != nil {
		return "", err
	}
	root, _ := revision.Root(ctx) // the binary reports it itself then
	return revision.Of(ctx, self, root)
}

// exitUnparsed ends the program if its flags ask for help or are wrong. The parser has
// already printed the reason.
func exitUnparsed(err error) {
	switch {
	case errors.Is(err, flag.ErrHelp):
		os.Exit(0)
	case err != nil:
		os.Exit(2)
	}
}

func exitFailed(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

func parseFlags(args []string, stderr io.Writer) (options, error) {
	o := options{command: strings.Join(append([]string{"go run ./bench"}, args...), " ")}
	f := flag.NewFlagSet("bench", flag.ContinueOnError)
	f.SetOutput(stderr)
	f.IntVar(&o.rounds, "rounds", 5, "how often each proxy does each workload")
	f.DurationVar(&o.duration, "time", 3*time.Second, "measured time of a run")
	f.DurationVar(&o.warmup, "warmup", 500*time.Millisecond, "time before the measured time")
	f.StringVar(&o.only, "only", "", "workloads to run, separated by commas (default all)")
	f.StringVar(&o.proxies, "proxies", "usher,usher-portable,haproxy,haproxy-splice,nginx", "proxies to run, separated by commas")
	f.IntVar(&o.idle, "idle", 5000, "connections that the idle workload holds")
	f.IntVar(&o.udpIdle, "udp-idle", 10000, "flows that the udp-idle workload holds")
	f.StringVar(&o.asUser, "as-user", "", "run the proxies as this user (needs root)")
	f.StringVar(&o.usher, "usher", "", "usher binary to run (default: build it)")
	f.StringVar(&o.out, "out", "", "file to write the results to, beside stdout")
	if err := f.Parse(args); err != nil {
		return options{}, err
	}
	var wrong string
	switch {
	case f.NArg() > 0:
		wrong = fmt.Sprintf("unexpected argument %q", f.Arg(0))
	case o.rounds < 1:
		wrong = "-rounds must be at least 1"
	case o.duration < 10*time.Millisecond || o.warmup < 0:
		wrong = "-time must be at least 10ms, -warmup not negative"
	case o.idle < 1 || o.udpIdle < 1:
		wrong = "-idle and -udp-idle must be at least 1"
	default:
		return o, nil
	}
	fmt.Fprintln(stderr, "bench:", wrong)
	return options{}, errors.New(wrong)
}
