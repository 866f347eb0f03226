package doctor

import (
	"bytes"
	"context"
	"os"
	"os/exec"
	"path"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// sysctls are those that the judgement looks at.
var sysctls = [...]string{
	"fs.epoll.max_user_watches", "fs.nr_open", "fs.pipe-max-size", "fs.pipe-user-pages-hard", "fs.pipe-user-pages-soft",
	"kernel.apparmor_restrict_unprivileged_userns", "kernel.unprivileged_userns_clone", "user.max_user_namespaces",
	"net.core.rmem_max", "net.core.somaxconn", "net.ipv4.ip_local_port_range", "net.ipv4.ip_nonlocal_bind",
	"net.ipv4.tcp_max_syn_backlog", "net.ipv4.tcp_mem", "net.ipv4.tcp_rmem", "net.ipv4.tcp_wmem", "net.ipv4.udp_mem",
	"net.netfilter.nf_conntrack_count", "net.netfilter.nf_conntrack_max",
}

// probeSystem reads what Linux tells.
func (f *Facts) probeSystem(ctx context.Context) {
	for _, name := range sysctls {
		if numbers := numbersOf(readText("/proc/sys/" + strings.ReplaceAll(name, ".", "/"))); len(numbers) > 0 {
			f.Sysctls[name] = numbers
		}
	}
	if ports := f.Sysctls["net.ipv4.ip_local_port_range"]; len(ports) == 2 {
		f.ReservedPorts = countReserved(readText("/proc/sys/net/ipv4/ip_local_reserved_ports"), ports[0], ports[1])
	}
	f.Kernel = readText("/proc/sys/kernel/osrelease")
	f.Container, f.Sandbox = findContainer(), findSandbox(f.Kernel)
	f.CPUs = countRange(readText("/sys/devices/system/cpu/online"))
	var info unix.Sysinfo_t
	if unix.Sysinfo(&info) == nil {
		f.Memory = int64(info.Totalram) * int64(info.Unit)
	}
	f.MemoryLimit = memoryLimit(readText("/proc/self/cgroup"), readText)
	f.IsPipeExempt = isFirstNamespace(readText("/proc/self/uid_map")) &&
		hasCapability(readText("/proc/self/status"), unix.CAP_SYS_RESOURCE, unix.CAP_SYS_ADMIN)
	f.CanGSO = canSet(unix.IPPROTO_UDP, unix.UDP_SEGMENT)
	f.CanGRO = canSet(unix.IPPROTO_UDP, unix.UDP_GRO)
	f.CanReusePort = canSet(unix.SOL_SOCKET, unix.SO_REUSEPORT)
	f.CanUnshare = canUnshare(ctx)
	const clock = "/sys/devices/system/clocksource/clocksource0/"
	f.Clock = readText(clock + "current_clocksource")
	f.HasTimeCounter = strings.Contains(readText(clock+"available_clocksource"), "tsc")
}

// readText returns a file without its last newline; empty: it cannot be read.
func readText(name string) string {
	text, err := os.ReadFile(name)
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(text))
}

// numbersOf returns the numbers of a text that has nothing else.
func numbersOf(text string) (all []int64) {
	for _, word := range strings.Fields(text) {
		n, err := strconv.ParseInt(word, 10, 64)
		if err != nil {
			return nil
		}
		all = append(all, n)
	}
	return all
}

// eachRange calls do for each range of a list such as 0-3,8.
func eachRange(list string, do func(first, last int64)) {
	for part := range strings.SplitSeq(list, ",") {
		from, to, isRange := strings.Cut(part, "-")
		first, err := strconv.ParseInt(from, 10, 64)
		last := first
		if isRange && err == nil {
			last, err = strconv.ParseInt(to, 10, 64)
		}
		if err == nil && first <= last {
			do(first, last)
		}
	}
}

func countRange(list string) (n int) {
	eachRange(list, func(first, last int64) { n += int(last - first + 1) })
	return n
}

// countReserved returns how many of the ports of a list are between from and to.
func countReserved(list string, from, to int64) (n int) {
	eachRange(list, func(first, last int64) { n += int(max(min(last, to)-max(first, from)+1, 0)) })
	return n
}

// memoryLimit returns the least limit of a process's cgroups and of those above them; 0: there is none. What is mounted
// may begin at the cgroup of the container, so that a folder on the way may be missing.
func memoryLimit(cgroups string, read func(string) string) (least int64) {
	for line := range strings.Lines(cgroups) {
		parts := strings.SplitN(strings.TrimSpace(line), ":", 3)
		if len(parts) != 3 {
			continue
		}
		var root, file string
		switch parts[1] {
		case "":
			root, file = "/sys/fs/cgroup", "memory.max"
		case "memory":
			root, file = "/sys/fs/cgroup/memory", "memory.limit_in_bytes"
		default:
			continue
		}
		for folder := path.Clean("/" + parts[2]); ; folder = path.Dir(folder) {
			n := numbersOf(read(path.Join(root, folder, file)))
			const none = 1 << 60 // the first version states a limit near 2^63 in place of none
			if len(n) == 1 && n[0] < none && (least == 0 || n[0] < least) {
				least = n[0]
			}
			if folder == "/" {
				break
			}
		}
	}
	return least
}

// hasCapability reports whether the status of a process has one of these among the effective ones.
func hasCapability(status string, wanted ...uint) bool {
	_, rest, _ := strings.Cut(status, "CapEff:")
	word, _, _ := strings.Cut(strings.TrimSpace(rest), "\n")
	have, err := strconv.ParseUint(word, 16, 64)
	for _, c := range wanted {
		if err == nil && have&(1<<c) != 0 {
			return true
		}
	}
	return false
}

// isFirstNamespace reports whether a process is in the user namespace of the kernel itself, by its uid_map. In others
// capabilities do not reach beyond what the namespace owns.
func isFirstNamespace(uidMap string) bool {
	return strings.Join(strings.Fields(uidMap), " ") == "0 0 4294967295"
}

// canSet reports whether UDP sockets know an option; nil: there is no socket.
func canSet(level, option int) *bool {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil
	}
	defer unix.Close(fd)
	can := unix.SetsockoptInt(fd, level, option, 1) == nil
	return &can
}

// canUnshare reports whether this user may have a user namespace with a network of its own; nil: there is no shell.
func canUnshare(ctx context.Context) *bool {
	shell, err := exec.LookPath("sh")
	if err != nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, maxAnswer)
	defer cancel()
	c := exec.CommandContext(ctx, shell, "-c", ":")
	c.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWUSER | syscall.CLONE_NEWNET}
	can := c.Run() == nil
	return &can
}

// findContainer returns the kind of container around this process; empty: none shows.
func findContainer() string {
	if os.Getenv("KUBERNETES_SERVICE_HOST") != "" {
		return "kubernetes"
	}
	if kind := readText("/run/systemd/container"); kind != "" {
		return kind
	}
	for file, kind := range map[string]string{"/.dockerenv": "docker", "/run/.containerenv": "podman"} {
		if _, err := os.Stat(file); err == nil {
			return kind
		}
	}
	return os.Getenv("container")
}

// findSandbox returns which other kernel stands in for Linux. gVisor says it in its log alone, and calls itself 4.4.0.
func findSandbox(release string) string {
	if strings.Contains(strings.ToLower(release), "microsoft") {
		return "WSL"
	}
	if release != "4.4.0" {
		return ""
	}
	const readAll = 3
	log := make([]byte, 16<<10)
	if n, err := unix.Klogctl(readAll, log); err == nil && bytes.Contains(log[:n], []byte("gVisor")) {
		return "gVisor"
	}
	return ""
}
