package doctor

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"slices"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// asProbe has the test binary print its facts, in place of running tests.
const asProbe = "USHER_DOCTOR_PROBE"

func TestMain(m *testing.M) {
	if os.Getenv(asProbe) == "" {
		os.Exit(m.Run())
	}
	f, err := Probe(context.Background(), Question{})
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	_ = json.NewEncoder(os.Stdout).Encode(f)
}

// probeIn returns the facts of a process that a shell starts after a script. Of a private process, namespaces of its own
// for users and for the network.
func probeIn(t *testing.T, script string, isPrivate bool) *Facts {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	c := exec.CommandContext(t.Context(), "sh", "-e", "-c", script+"\nexec $via \"$0\"", self)
	c.Env = append(os.Environ(), asProbe+"=1", "XDG_RUNTIME_DIR="+t.TempDir())
	if isPrivate {
		c.SysProcAttr = &syscall.SysProcAttr{
			Cloneflags:  syscall.CLONE_NEWUSER | syscall.CLONE_NEWNET,
			UidMappings: []syscall.SysProcIDMap{{HostID: os.Geteuid(), Size: 1}},
			GidMappings: []syscall.SysProcIDMap{{HostID: os.Getegid(), Size: 1}},
		}
	}
	var failure strings.Builder
	c.Stderr = &failure
	out, err := c.Output()
	switch {
	case isPrivate && (err != nil && failure.Len() == 0 || strings.Contains(failure.String(), "/proc/sys")):
		t.Skipf("no namespaces here, or no sysctls in them: %v %s", err, failure.String())
	case strings.Contains(failure.String(), "not found"):
		t.Skip(failure.String())
	case err != nil:
		t.Fatal(err, failure.String())
	}
	var f Facts
	if err := json.Unmarshal(out, &f); err != nil {
		t.Fatal(err)
	}
	return &f
}

// TestProbeSeesDescriptors: a process that has few says so, and what remains for flows.
func TestProbeSeesDescriptors(t *testing.T) {
	t.Parallel()
	f := probeIn(t, "ulimit -Sn 100; ulimit -Hn 300", false)
	if f.SoftDescriptors != 100 || f.Forecast.Descriptors != 300 || f.Forecast.MaxConns < 50 || f.Forecast.MaxConns > 150 {
		t.Errorf("%d, raised to %d, for %d flows", f.SoftDescriptors, f.Forecast.Descriptors, f.Forecast.MaxConns)
	}
}

// TestProbeSeesAffinity: a process that may use one CPU has one worker.
func TestProbeSeesAffinity(t *testing.T) {
	t.Parallel()
	var allowed unix.CPUSet
	if err := unix.SchedGetaffinity(0, &allowed); err != nil {
		t.Skip(err)
	}
	first := 0
	for !allowed.IsSet(first) {
		first++
	}
	f := probeIn(t, fmt.Sprintf("unset GOMAXPROCS; via='taskset -c %d'", first), false)
	if f.AllowedCPUs != 1 || f.Forecast.Workers != 1 || f.CPUs > 0 && f.CPUs < allowed.Count() {
		t.Errorf("%d of %d CPUs, %d workers", f.AllowedCPUs, f.CPUs, f.Forecast.Workers)
	}
}

// TestProbeSeesSysctls sets those that a network of its own has, one value each that no system has by default.
func TestProbeSeesSysctls(t *testing.T) {
	t.Parallel()
	set := map[string][]int64{
		"net.core.somaxconn": {777}, "net.ipv4.ip_local_port_range": {40001, 40100}, "net.ipv4.ip_nonlocal_bind": {1},
		"net.ipv4.tcp_max_syn_backlog": {779}, "net.ipv4.tcp_rmem": {4097, 5001, 600001}, "net.ipv4.tcp_wmem": {4098, 5002, 600002},
	}
	var script strings.Builder
	for _, name := range slices.Sorted(maps.Keys(set)) {
		fmt.Fprintf(&script, "echo %s > /proc/sys/%s\n", strings.Trim(fmt.Sprint(set[name]), "[]"), strings.ReplaceAll(name, ".", "/"))
	}
	script.WriteString("echo 40001-40010,50000 > /proc/sys/net/ipv4/ip_local_reserved_ports\n")
	f := probeIn(t, script.String(), true)
	for name, want := range set {
		if got := f.Sysctls[name]; !slices.Equal(got, want) {
			t.Errorf("%s is %v, want %v", name, got, want)
		}
	}
	if f.ReservedPorts != 10 || f.Forecast.UDPFlows >= 100 || f.IsPipeExempt {
		t.Errorf("%d ports reserved, %d udp flows, pipes without a budget: %v", f.ReservedPorts, f.Forecast.UDPFlows, f.IsPipeExempt)
	}
}

// TestProbeSeesRoutes: before loopback is up nothing is local; then 127.0.0.0/8 is, and after a route ClusterIPs are.
func TestProbeSeesRoutes(t *testing.T) {
	t.Parallel()
	if f := probeIn(t, "", true); f.HasLoopback || f.HasClusterIPs {
		t.Errorf("nothing is up, but loopback %v, ClusterIPs %v", f.HasLoopback, f.HasClusterIPs)
	}
	if f := probeIn(t, "ip link set lo up", true); !f.HasLoopback || f.HasClusterIPs {
		t.Errorf("loopback is up, but loopback %v, ClusterIPs %v", f.HasLoopback, f.HasClusterIPs)
	}
	if f := probeIn(t, "ip link set lo up; ip route add local 10.96.0.0/12 dev lo", true); !f.HasClusterIPs {
		t.Error("ClusterIPs are routed here, but none is local")
	}
}

// TestProbeSeesLowPorts: the lowest port is the sysctl's where the process has no privilege, and any with it.
func TestProbeSeesLowPorts(t *testing.T) {
	t.Parallel()
	const start = "ip link set lo up; echo 2000 > /proc/sys/net/ipv4/ip_unprivileged_port_start\n"
	if f := probeIn(t, start, true); f.LowPort != 0 {
		t.Errorf("with privilege from %d on", f.LowPort)
	}
	if f := probeIn(t, start+"via='setpriv --bounding-set -net_bind_service'", true); f.LowPort != 2000 {
		t.Errorf("without privilege from %d on", f.LowPort)
	}
}

// TestMemoryLimit reads the files of both versions of cgroups, from the process's own up to the root.
func TestMemoryLimit(t *testing.T) {
	t.Parallel()
	files := map[string]string{
		"/sys/fs/cgroup/a/b/memory.max": "max", "/sys/fs/cgroup/a/memory.max": "5000", "/sys/fs/cgroup/c/memory.max": "7000",
		"/sys/fs/cgroup/memory/d/memory.limit_in_bytes": "9223372036854771712", "/sys/fs/cgroup/memory/e/memory.limit_in_bytes": "3000",
	}
	for cgroups, want := range map[string]int64{
		"0::/a/b\n": 5000, "0::/c/away\n": 7000, "0::/\n": 0, "9:memory:/d\n8:cpu:/e\n": 0, "9:memory:/e\n0::/a\n": 3000,
		"": 0, "nonsense": 0, "0::/../../..\n": 0,
	} {
		if got := memoryLimit(cgroups, func(name string) string { return files[name] }); got != want {
			t.Errorf("%q: %d, want %d", cgroups, got, want)
		}
	}
}

// TestTexts reads what the kernel writes, and what it does not.
func TestTexts(t *testing.T) {
	t.Parallel()
	if n := countRange("0-3,8,10-11"); n != 7 {
		t.Errorf("%d CPUs, want 7", n)
	}
	if n := countRange("") + countRange("x-3") + countRange("5-2"); n != 0 {
		t.Errorf("%d CPUs of nothing", n)
	}
	if n := countReserved("8080,32000-33000,61000-65535", 32768, 60999); n != 233 {
		t.Errorf("%d ports, want 233", n)
	}
	if got := numbersOf("4096\t131072 x"); got != nil {
		t.Errorf("%v, want none: x is not a number", got)
	}
	const status = "CapPrm:\t0000000000000400\nCapEff:\t0000000000000400\nCapBnd:\t000001ffffffffff\n"
	if !hasCapability(status, unix.CAP_NET_BIND_SERVICE) || hasCapability(status, unix.CAP_SYS_RESOURCE) || hasCapability("", 1) {
		t.Error("capabilities are misread")
	}
	if !isFirstNamespace("         0          0 4294967295\n") || isFirstNamespace("0 1000 1\n") || isFirstNamespace("") {
		t.Error("namespaces are misread")
	}
	if got := findSandbox("5.15.90.1-microsoft-standard-WSL2"); got != "WSL" {
		t.Errorf("%q, want WSL", got)
	}
}
