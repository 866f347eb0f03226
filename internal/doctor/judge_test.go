package doctor

import (
	"slices"
	"strings"
	"testing"

	"usher/internal/api"
	"usher/proxy"
)

// good is a machine that lacks nothing.
func good() *Facts {
	yes := true
	return &Facts{
		OS: "linux", Arch: "amd64", Kernel: "6.12.0", PageSize: 4096, Program: "/usr/bin/usher",
		Forecast: proxy.Forecast{
			Engine: "epoll", EngineReason: "engine epoll (auto: the kernel has what it needs)", Workers: 4,
			Descriptors: 1 << 20, MaxConns: 500_000, UDPFlows: 60_000, Pipes: 256, PipeSize: 1 << 20, PipeWanted: 1 << 20,
			ReceiveBuffer: 4 << 20, ReceiveWanted: 4 << 20,
		},
		SoftDescriptors: 1024, CPUs: 4, AllowedCPUs: 4, Memory: 64 << 30,
		CanGSO: &yes, CanGRO: &yes, CanReusePort: &yes, CanUnshare: &yes, HasLoopback: true, Clock: "tsc",
		ClusterIPRoute: "ip route add local 10.96.0.0/12 dev lo",
		Sysctls: map[string][]int64{
			"fs.epoll.max_user_watches": {5_000_000}, "fs.nr_open": {1 << 20}, "fs.pipe-max-size": {1 << 20},
			"fs.pipe-user-pages-soft": {16384}, "fs.pipe-user-pages-hard": {0}, "net.core.rmem_max": {4 << 20},
			"net.core.somaxconn": {4096}, "net.ipv4.ip_local_port_range": {1024, 65535}, "net.ipv4.ip_nonlocal_bind": {0},
			"net.ipv4.tcp_max_syn_backlog": {4096}, "net.ipv4.tcp_mem": {1, 2, 8 << 20}, "net.ipv4.udp_mem": {1, 2, 8 << 20},
			"net.ipv4.tcp_rmem": {4096, 131072, 6291456}, "net.ipv4.tcp_wmem": {4096, 16384, 4194304},
			"net.netfilter.nf_conntrack_count": {0}, "net.netfilter.nf_conntrack_max": {262144},
		},
	}
}

func find(t *testing.T, all []Finding, item string) Finding {
	t.Helper()
	i := slices.IndexFunc(all, func(f Finding) bool { return f.Item == item })
	if i < 0 {
		t.Fatalf("there is no finding %q in %v", item, all)
	}
	return all[i]
}

// TestAGoodMachineIsOK: nothing is to be changed but what usher kube may want.
func TestAGoodMachineIsOK(t *testing.T) {
	t.Parallel()
	for _, f := range Judge(good()) {
		if f.Level != OK || f.Is == "" || f.Means == "" || len(f.Change) > 0 && f.Item != "clusterips" {
			t.Errorf("%+v", f)
		}
	}
}

// TestAnUnknownMachineIsUnknown: nothing fails on facts that are missing, and what is missing has no level.
func TestAnUnknownMachineIsUnknown(t *testing.T) {
	t.Parallel()
	for _, system := range []string{"plan9", "linux", "darwin"} {
		all := Judge(&Facts{OS: system, HasUDP: true})
		for _, name := range []string{"memory", "clock", "descriptors", "local ports", "splice", "tcp memory", "udp buffers", "namespaces"} {
			if f := find(t, all, name); f.Level != Unknown && name != "splice" {
				t.Errorf("%s: %+v", system, f)
			}
		}
		if low := Items(all, Low); len(low) > 0 {
			t.Errorf("%s: low: %v", system, low)
		}
	}
}

// TestJudge changes one fact of a good machine.
func TestJudge(t *testing.T) {
	t.Parallel()
	no := false
	for name, test := range map[string]struct {
		change     func(*Facts)
		item       string
		level      Level
		says, line string // parts of the finding and of its lines
	}{
		"portable on Linux": {func(f *Facts) {
			f.Forecast.Engine, f.Forecast.EngineReason = "portable", "engine portable (auto: splice: function not implemented)"
		}, "engine", Note, "splice: function not implemented", ""},
		"portable elsewhere": {func(f *Facts) { f.OS, f.Forecast.Engine = "darwin", "portable" }, "engine", OK, "goroutines", ""},
		"gVisor":             {func(f *Facts) { f.Sandbox = "gVisor" }, "container", Note, "system call", ""},
		"WSL":                {func(f *Facts) { f.Sandbox = "WSL" }, "container", OK, "port forwarding", ""},
		"a container":        {func(f *Facts) { f.Container = "podman" }, "container", OK, "podman limits are those of the container", ""},
		"a CPU quota":        {func(f *Facts) { f.Forecast.Workers = 1 }, "cpus", Note, "4 CPUs, 1 worker a CPU quota", "CPUQuota=400%"},
		"many workers":       {func(f *Facts) { f.Forecast.Workers = 9 }, "cpus", Note, "more workers than CPUs", ""},
		"an affinity": {func(f *Facts) { f.AllowedCPUs, f.Forecast.Workers = 1, 1 }, "cpus", Note,
			"3 of 4 CPUs unused", "taskset -c 0-3"},
		"little memory":  {func(f *Facts) { f.Memory = 1 << 30 }, "memory", Low, "1 GiB", "--max-conns 43690"},
		"a cgroup limit": {func(f *Facts) { f.MemoryLimit = 256 << 20 }, "memory", Low, "256 MiB (limit of the cgroup)", "--max-conns"},
		"a slow clock": {func(f *Facts) { f.Clock, f.HasTimeCounter = "hpet", true }, "clock", Note, "system call",
			"echo tsc"},
		"some descriptors": {func(f *Facts) { f.Forecast.Descriptors, f.Forecast.MaxConns = 20000, 9700 }, "descriptors", Note,
			"20000 (1024, which usher raises) max-conns 9700", "sudo prlimit --pid $$ --nofile=1048576:1048576"},
		"few descriptors": {func(f *Facts) { f.Forecast.Descriptors, f.Forecast.MaxConns = 1024, 300 }, "descriptors", Low,
			"max-conns 300", "LimitNOFILE=1048576"},
		"too few descriptors": {func(f *Facts) {
			f.Forecast.Descriptors, f.Forecast.MaxConns, f.Forecast.FlowsReason = 20, 0, "20 descriptors are too few for 40 listening sockets"
		}, "descriptors", Low, "too few for 40", "prlimit"},
		"few descriptors of root": {func(f *Facts) { f.IsRoot, f.Forecast.MaxConns = true, 300 }, "descriptors", Low, "", "ulimit -n 1048576"},
		"few descriptors in a container": {func(f *Facts) { f.Container, f.Forecast.MaxConns = "docker", 300 }, "descriptors", Low, "",
			"docker run --ulimit nofile="},
		"few descriptors in a pod": {func(f *Facts) { f.Container, f.Forecast.MaxConns = "kubernetes", 300 }, "descriptors", Low, "",
			"the node's container runtime"},
		"few descriptors on macOS": {func(f *Facts) { f.OS, f.Forecast.MaxConns = "darwin", 300 }, "descriptors", Low, "",
			"sudo sysctl kern.maxfilesperproc="},
		"a bound of the kernel": {func(f *Facts) { f.Sysctls["fs.nr_open"], f.Forecast.MaxConns = []int64{5000}, 300 }, "descriptors", Low, "", "5000:5000"},
		"flows as asked for":    {func(f *Facts) { f.MaxConnsWanted, f.Forecast.MaxConns = 100, 100 }, "descriptors", OK, "as asked for", ""},
		"fewer flows than asked for": {func(f *Facts) { f.MaxConnsWanted = 600_000 }, "descriptors", Low,
			"not the 600000 that are asked for", "prlimit"},
		"few watches": {sysctl("fs.epoll.max_user_watches", 1000), "epoll watches", Low, "after the first 500",
			"fs.epoll.max_user_watches=2000000"},
		"few ports":      {sysctl("net.ipv4.ip_local_port_range", 40000, 40099), "local ports", Low, "100 connections to each backend", `ip_local_port_range="1024 65535"`},
		"default ports":  {sysctl("net.ipv4.ip_local_port_range", 32768, 60999), "local ports", Note, "28232 connections", "1024 65535"},
		"reserved ports": {func(f *Facts) { f.ReservedPorts = 64000 }, "local ports", Low, "without 64000 reserved 512 connections", ""},
		"a short queue": {sysctl("net.core.somaxconn", 128), "accept queue", Note, "128 clients, 4096 handshakes",
			"net.core.somaxconn=4096"},
		"few handshakes": {sysctl("net.ipv4.tcp_max_syn_backlog", 128), "accept queue", Note, "128 handshakes", "tcp_max_syn_backlog=4096"},
		"few pipes":      {sysctl("fs.pipe-user-pages-soft", 4096), "splice", Note, "16 pipes of 1 MiB, from a budget of 16 MiB", "fs.pipe-user-pages-soft=65536"},
		"few pages":      {sysctl("fs.pipe-user-pages-hard", 2560), "splice", Note, "10 pipes", ""},
		"few pages for one who is exempt": {func(f *Facts) { f.IsPipeExempt, f.Sysctls["fs.pipe-user-pages-soft"] = true, []int64{1} },
			"splice", OK, "256 pipes", ""},
		"small pipes": {func(f *Facts) { f.Forecast.PipeSize, f.Sysctls["fs.pipe-max-size"] = 256<<10, []int64{256 << 10} }, "splice", Note,
			"a fifth more", "fs.pipe-max-size=1048576"},
		"a used budget":         {func(f *Facts) { f.Forecast.PipeSize = 64 << 10 }, "splice", Note, "nearly used up", "fs.pipe-user-pages-soft="},
		"no pipe":               {func(f *Facts) { f.Forecast.PipeSize = 0 }, "splice", Low, "no pipe", "fs.pipe-user-pages-soft="},
		"no splice":             {func(f *Facts) { f.Forecast.PipeWanted, f.Forecast.Pipes = 0, 0 }, "splice", OK, "not used", ""},
		"small windows":         {sysctl("net.ipv4.tcp_rmem", 1, 2, 200_000), "tcp buffers", Note, "up to 8 Mbit/s", "net.ipv4.tcp_rmem="},
		"small sends":           {sysctl("net.ipv4.tcp_wmem", 1, 2, 200_000), "tcp buffers", Note, "up to 16 Mbit/s", "net.ipv4.tcp_wmem="},
		"scarce memory":         {sysctl("net.ipv4.tcp_mem", 1, 2, 100_000), "tcp memory", Note, "819 B for each of 500000", `tcp_mem="`},
		"scarce memory, no UDP": {sysctl("net.ipv4.udp_mem", 1, 2, 100), "udp memory", OK, "6 B for each of 60000", ""},
		"scarce memory of UDP": {func(f *Facts) { f.HasUDP, f.Sysctls["net.ipv4.udp_mem"] = true, []int64{1, 2, 100} }, "udp memory", Note,
			"", `udp_mem="240000 360000 480000"`},
		"small buffers":        {func(f *Facts) { f.Forecast.ReceiveBuffer = 208 << 10 }, "udp buffers", Note, "208 KiB of 4 MiB about 184 datagrams", "net.core.rmem_max=4194304"},
		"small buffers of UDP": {func(f *Facts) { f.Forecast.ReceiveBuffer, f.HasUDP = 208<<10, true }, "udp buffers", Low, "", "net.core.rmem_max"},
		"no GSO":               {func(f *Facts) { f.CanGSO = &no }, "udp bursts", Note, "GSO false, GRO true", ""},
		"no SO_REUSEPORT":      {func(f *Facts) { f.CanReusePort = &no }, "reuseport", Low, "--engine portable", ""},
		"no conntrack":         {func(f *Facts) { delete(f.Sysctls, "net.netfilter.nf_conntrack_max") }, "conntrack", OK, "not seen", ""},
		"small conntrack":      {sysctl("net.netfilter.nf_conntrack_count", 10), "conntrack", Note, "10 of 262144 entries", "nf_conntrack_max=2000000"},
		"full conntrack":       {sysctl("net.netfilter.nf_conntrack_count", 262000), "conntrack", Low, "", "nf_conntrack_max="},
		"low ports": {func(f *Facts) { f.LowPort, f.Program = 1024, "/opt/my tools/usher" }, "low ports", Note, "from 1024 on",
			"setcap cap_net_bind_service=+ep '/opt/my tools/usher'"},
		"one loopback address": {func(f *Facts) { f.OS, f.HasLoopback = "darwin", false }, "loopback", Note, "127.0.0.1 alone", "ifconfig lo0 alias"},
		"foreign addresses":    {sysctl("net.ipv4.ip_nonlocal_bind", 1), "nonlocal bind", OK, "before this machine has it", ""},
		"AnyIP":                {func(f *Facts) { f.HasClusterIPs = true }, "clusterips", OK, "as they are", ""},
		"no AnyIP":             {func(*Facts) {}, "clusterips", OK, "127.0.0.0/8", "sudo ip route add local 10.96.0.0/12 dev lo"},
		"no namespaces": {func(f *Facts) {
			f.CanUnshare, f.Sysctls["kernel.apparmor_restrict_unprivileged_userns"] = &no, []int64{1}
		},
			"namespaces", Note, "refused", "kernel.apparmor_restrict_unprivileged_userns=0"},
		"a full usher": {func(f *Facts) { f.Ushers = []api.Process{{Name: "web", PID: 7, Flows: 96, MaxConns: 100}} }, "usher web", Low,
			"96 of 100 flows: 96%", "prlimit"},
		"a busy usher":  {func(f *Facts) { f.Ushers = []api.Process{{Name: "web", Flows: 80, MaxConns: 100}} }, "usher web", Note, "80%", ""},
		"an idle usher": {func(f *Facts) { f.Ushers = []api.Process{{Name: "web", MaxConns: 100}} }, "usher web", OK, "0%", ""},
		"a listener":    {func(f *Facts) { f.Listeners = []Listener{{Service: "web", Address: ":80", Port: 80}} }, "service web", OK, ":80", ""},
		"a low listener": {func(f *Facts) { f.LowPort, f.Listeners = 1024, []Listener{{Service: "web", Address: ":80", Port: 80}} },
			"service web", Low, "ports below 1024 need privilege", "ip_unprivileged_port_start=80"},
		"a foreign listener": {func(f *Facts) {
			f.Listeners = []Listener{{Service: "web", Address: "192.0.2.1:80", Error: "no interface"}}
		},
			"service web", Low, "cannot listen there: no interface", ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := good()
			test.change(f)
			got := find(t, Judge(f), test.item)
			lines := strings.Join(got.Change, "\n")
			if says := got.Is + " " + got.Means; got.Level != test.level || !strings.Contains(strings.ReplaceAll(says, "  ", " "), test.says) ||
				!strings.Contains(lines, test.line) || test.line == "" && test.level == OK && lines != "" {
				t.Errorf("%+v, want %s with %q and a line with %q", got, test.level, test.says, test.line)
			}
		})
	}
}

// sysctl returns a change of one sysctl.
func sysctl(name string, numbers ...int64) func(*Facts) {
	return func(f *Facts) { f.Sysctls[name] = numbers }
}
