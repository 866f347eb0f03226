package doctor

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"time"

	"usher/internal/api"
	"usher/internal/config"
	"usher/internal/control"
	"usher/internal/reach"
	"usher/proxy"
)

// maxAnswer bounds the time that a child process and each running usher have to answer.
const maxAnswer = 2 * time.Second

// Probe reads what this machine gives. An error is one of the question.
func Probe(ctx context.Context, q Question) (*Facts, error) {
	f := &Facts{
		OS: runtime.GOOS, Arch: runtime.GOARCH, IsRoot: os.Geteuid() == 0, PageSize: int64(os.Getpagesize()),
		AllowedCPUs: runtime.NumCPU(), Sysctls: make(map[string][]int64), Ushers: []api.Process{},
		MaxConnsWanted:  q.Options.MaxConns,
		SoftDescriptors: inheritedDescriptors(ctx), // before Predict raises the limit
	}
	f.Program, _ = os.Executable()
	var all []proxy.Listener
	for _, s := range q.Services {
		all = append(all, control.Listeners(s.Listeners)...)
		for _, l := range s.Listeners {
			f.HasUDP = f.HasUDP || l.Network == config.UDP
			f.Listeners = append(f.Listeners, probeListener(s.Name, l))
		}
	}
	var err error
	if f.Forecast, err = proxy.Predict(q.Options, all); err != nil {
		return nil, err
	}
	f.probeReach()
	f.probeSystem(ctx)
	f.Ushers = append(f.Ushers, running(ctx)...)
	return f, nil
}

// inheritedDescriptors returns the soft limit that this process was started with; 0 is unknown. The Go runtime raises the
// limit before main, and gives child processes the one before.
func inheritedDescriptors(ctx context.Context) int {
	if runtime.GOOS == "windows" {
		return 0
	}
	ctx, cancel := context.WithTimeout(ctx, maxAnswer)
	defer cancel()
	out, err := exec.CommandContext(ctx, "sh", "-c", "ulimit -n").Output()
	if err != nil {
		return 0
	}
	n, _ := strconv.Atoi(strings.TrimSpace(string(out))) // "unlimited" is 0, too
	return n
}

// probeListener asks whether a socket can have the listener's address. It takes another port: usher may run already.
func probeListener(service string, l config.Addr) Listener {
	one := Listener{Service: service, Address: l.String(), Port: int(l.Port)}
	if l.Network == config.Unix || !l.IP.IsValid() {
		return one
	}
	socket, err := net.ListenUDP("udp", net.UDPAddrFromAddrPort(netip.AddrPortFrom(l.IP, 0)))
	switch {
	case err == nil:
		_ = socket.Close()
	case errors.Is(err, syscall.EADDRNOTAVAIL):
		one.Error = "no interface of this machine has that address"
	default:
		one.Error = err.Error()
	}
	return one
}

// probeReach asks for addresses and ports that are not in every machine's reach.
func (f *Facts) probeReach() {
	loopback, cluster := netip.MustParseAddr("127.77.7.7"), netip.MustParseAddr("10.96.0.1")
	f.LowPort = int(reach.LowPort())
	f.HasLoopback = reach.Probe(loopback) == reach.Local
	f.HasClusterIPs = reach.Probe(cluster) == reach.Local
	f.ClusterIPRoute = reach.RouteCommand(cluster)
}

// running returns the ushers of this user that answer.
func running(ctx context.Context) (all []api.Process) {
	found, err := api.Instances(ctx)
	if err != nil {
		return nil
	}
	for _, one := range found {
		short, cancel := context.WithTimeout(ctx, maxAnswer)
		p, err := api.NewClient(one.Path).Process(short)
		cancel()
		if err == nil {
			p.Name = one.Name
			all = append(all, p)
		}
	}
	return all
}
