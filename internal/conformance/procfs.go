//go:build linux

package conformance

import (
	"bufio"
	"encoding/hex"
	"fmt"
	"net/netip"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// PIDs returns the process and its children (workers).
func (p *Proxy) PIDs() []int {
	pid := p.cmd.Process.Pid
	pids := []int{pid}
	children, _ := os.ReadFile(fmt.Sprintf("/proc/%d/task/%d/children", pid, pid))
	for f := range strings.FieldsSeq(string(children)) {
		if child, err := strconv.Atoi(f); err == nil {
			pids = append(pids, child)
		}
	}
	return pids
}

// Descriptors counts what the process and its children hold open.
type Descriptors struct{ Sockets, All int }

func (p *Proxy) Descriptors() Descriptors {
	var d Descriptors
	for _, pid := range p.PIDs() {
		dir := fmt.Sprintf("/proc/%d/fd", pid)
		entries, _ := os.ReadDir(dir)
		for _, e := range entries {
			d.All++
			if link, _ := os.Readlink(dir + "/" + e.Name()); strings.HasPrefix(link, "socket:") {
				d.Sockets++
			}
		}
	}
	return d
}

// Memory is the private memory of the process and its children in bytes, without
// kernel buffers.
func (p *Proxy) Memory() int {
	sum := 0
	for _, pid := range p.PIDs() {
		sum += 1024 * (procField(pid, "smaps_rollup", "Private_Dirty:") + procField(pid, "smaps_rollup", "Private_Clean:"))
	}
	return sum
}

// IsResting reports whether no thread of the process and its children runs or is
// runnable. All that has arrived is processed then.
func (p *Proxy) IsResting() bool {
	return !slices.ContainsFunc(p.PIDs(), func(pid int) bool { return !isResting(pid) })
}

func isResting(pid int) bool {
	tasks, _ := os.ReadDir(fmt.Sprintf("/proc/%d/task", pid))
	for _, task := range tasks {
		text, _ := os.ReadFile(fmt.Sprintf("/proc/%d/task/%s/stat", pid, task.Name()))
		if _, state, ok := strings.Cut(string(text), ") "); ok && !strings.HasPrefix(state, "S") {
			return false
		}
	}
	return true
}

// Threads counts the threads of the process and its children.
func (p *Proxy) Threads() int {
	sum := 0
	for _, pid := range p.PIDs() {
		sum += procField(pid, "status", "Threads:")
	}
	return sum
}

func procField(pid int, file, key string) int {
	text, _ := os.ReadFile(fmt.Sprintf("/proc/%d/%s", pid, file))
	for line := range strings.Lines(string(text)) {
		if rest, ok := strings.CutPrefix(line, key); ok {
			n, _ := strconv.Atoi(strings.Fields(rest)[0])
			return n
		}
	}
	return 0
}

// CPU is the processor time that the process and its children have used.
func (p *Proxy) CPU() time.Duration {
	const tick = 10 * time.Millisecond // USER_HZ is 100 on every Linux that Go runs on
	var sum time.Duration
	for _, pid := range p.PIDs() {
		text, _ := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
		_, rest, _ := strings.Cut(string(text), ") ") // the name may hold anything
		f := strings.Fields(rest)
		if len(f) < 13 {
			continue
		}
		user, _ := strconv.Atoi(f[11])
		system, _ := strconv.Atoi(f[12])
		sum += time.Duration(user+system) * tick
	}
	return sum
}

// Spins watches an idle process and its children for a window. It reports whether they
// run, and how much processor time they used. On a busy machine a spinning process
// also has to wait for a processor. So do the many threads of an idle one that wake up
// now and then, but those run for next to nothing.
func (p *Proxy) Spins(window time.Duration) (spins bool, spent time.Duration) {
	cpu := p.CPU()
	ran, waited := p.scheduled()
	p.c.Sleep(window)
	spent = p.CPU() - cpu
	nowRan, nowWaited := p.scheduled()
	ran, waited = nowRan-ran, nowWaited-waited
	return spent > window/4 || ran > window/50 && ran+waited > window*3/4, max(spent, ran)
}

// scheduled is how long the threads of the process and its children ran, and how long
// they were runnable without a processor. It is zero where the kernel does not count that.
func (p *Proxy) scheduled() (ran, waited time.Duration) {
	for _, pid := range p.PIDs() {
		tasks, _ := os.ReadDir(fmt.Sprintf("/proc/%d/task", pid))
		for _, task := range tasks {
			text, _ := os.ReadFile(fmt.Sprintf("/proc/%d/task/%s/schedstat", pid, task.Name()))
			if f := strings.Fields(string(text)); len(f) == 3 {
				r, _ := strconv.Atoi(f[0])
				w, _ := strconv.Atoi(f[1])
				ran, waited = ran+time.Duration(r), waited+time.Duration(w)
			}
		}
	}
	return ran, waited
}

// LimitDescriptors changes the soft limit of the running process so that only spare
// more descriptors fit. That may need the same user or a capability.
func (p *Proxy) LimitDescriptors(spare int) error {
	for _, pid := range p.PIDs() {
		entries, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", pid))
		if err != nil {
			return err
		}
		used := make(map[string]bool)
		for _, e := range entries {
			used[e.Name()] = true
		}
		limit, free := 0, 0 // the limit is on the number, and numbers may have gaps
		for ; free < spare; limit++ {
			if !used[strconv.Itoa(limit)] {
				free++
			}
		}
		var old unix.Rlimit
		if err := unix.Prlimit(pid, unix.RLIMIT_NOFILE, nil, &old); err != nil {
			return err
		}
		if err := unix.Prlimit(pid, unix.RLIMIT_NOFILE, &unix.Rlimit{Cur: uint64(limit), Max: old.Max}, nil); err != nil {
			return err
		}
	}
	return nil
}

// socket is one of TCP or UDP. An unconnected one has a remote port of zero.
type socket struct {
	local, remote netip.AddrPort
	state         int
}

// sockets calls f for each socket of the machine that passes l until f returns false.
// When other sockets come and go meanwhile, it may report one twice and miss another.
func sockets(l look, f func(socket) bool) {
	if dump(l, f) {
		return
	}
	file, err := os.Open("/proc/net/" + l.table)
	if err != nil {
		return // no IPv6
	}
	defer file.Close()
	lines := bufio.NewScanner(file)
	for lines.Scan() {
		w := strings.Fields(lines.Text())
		if len(w) < 4 || w[0] == "sl" {
			continue
		}
		state, err := strconv.ParseInt(w[3], 16, 0)
		if err != nil || l.states&(1<<state) == 0 {
			continue
		}
		if !f(socket{hexAddr(w[1]), hexAddr(w[2]), int(state)}) {
			return
		}
	}
}

// hexAddr reads "0100007F:1F90". Each 32-bit word of the address is printed in the
// byte order of the machine, assumed to be little-endian.
func hexAddr(s string) netip.AddrPort {
	host, port, _ := strings.Cut(s, ":")
	b, _ := hex.DecodeString(host)
	for i := 0; i+4 <= len(b); i += 4 {
		slices.Reverse(b[i : i+4])
	}
	addr, _ := netip.AddrFromSlice(b)
	n, _ := strconv.ParseUint(port, 16, 16)
	return netip.AddrPortFrom(addr.Unmap(), uint16(n))
}

// isListening reports whether every address of p has a socket that listens, or an
// unconnected UDP socket.
func (p *Proxy) isListening() bool {
	missing := make(map[string]bool, len(p.addrs))
	for _, a := range p.addrs {
		missing[a] = true
	}
	tables, states := tcpTables, uint32(1<<stateListen)
	if p.udp {
		tables, states = udpTables, 1<<stateClose
	}
	for _, table := range tables {
		if len(missing) == 0 {
			break
		}
		sockets(look{table: table, states: states}, func(s socket) bool {
			delete(missing, s.local.String())
			if port := s.local.Port(); s.local.Addr().IsUnspecified() {
				delete(missing, fmt.Sprintf("127.0.0.1:%d", port))
				if s.local.Addr().Is6() {
					delete(missing, fmt.Sprintf("[::1]:%d", port))
				}
			}
			return len(missing) > 0
		})
	}
	if len(missing) == 0 || p.udp {
		return len(missing) == 0
	}
	text, _ := os.ReadFile("/proc/net/unix")
	for line := range strings.Lines(string(text)) {
		const accepting = "00010000" // __SO_ACCEPTCON
		w := strings.Fields(line)
		if len(w) != 8 || w[3] != accepting {
			continue
		}
		for addr := range missing {
			// HAProxy binds PATH.PID.tmp and renames it; the kernel keeps the first
			// name.
			if path, ok := unixPath(addr); ok && strings.HasPrefix(w[7], path) && isThere(path) {
				delete(missing, addr)
			}
		}
	}
	return len(missing) == 0
}

func isThere(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}

// CloseWait counts the sockets of p in CLOSE_WAIT: those of its listeners and those to
// the backends.
func (p *Proxy) CloseWait(backends ...*Backend) int {
	front, back := make(map[string]bool), make(map[string]bool)
	for _, a := range p.addrs {
		front[a] = true
	}
	for _, b := range backends {
		back[b.Addr] = true
	}
	n := 0
	for _, table := range tcpTables {
		sockets(look{table: table, states: 1 << stateCloseWait}, func(s socket) bool {
			if front[s.local.String()] || back[s.remote.String()] {
				n++
			}
			return true
		})
	}
	return n
}

// Upstreams counts the UDP sockets of the machine that are connected to one of the
// addresses. These are the flows that a proxy holds to those backends. The kernel can
// skip a socket when others come and go, so Upstreams merges several looks.
func Upstreams(backends ...string) int {
	found := make(map[netip.AddrPort]bool)
	for range looks {
		connected(backends, func(s socket) bool {
			found[s.local] = true
			return true
		})
	}
	return len(found)
}

// HasNoUpstreams reports whether Upstreams is 0. It returns false sooner.
func HasNoUpstreams(backends ...string) bool {
	return !hasConnected(backends, func(socket) bool { return true })
}

// hasConnected reports whether a UDP socket connected to one of the addresses is of
// that kind.
func hasConnected(backends []string, kind func(socket) bool) (found bool) {
	for range looks {
		connected(backends, func(s socket) bool {
			found = kind(s)
			return !found
		})
		if found {
			return true
		}
	}
	return false
}

// looks is how often Upstreams reads the UDP sockets.
const looks = 3

var (
	tcpTables = []string{"tcp", "tcp6"}
	udpTables = []string{"udp", "udp6"}
)

// connected calls f for each UDP socket that is connected to one of the addresses,
// until it returns false.
func connected(backends []string, f func(socket) bool) {
	for _, b := range backends {
		at, err := netip.ParseAddrPort(b)
		if err != nil {
			continue
		}
		for _, table := range udpTables {
			more := true
			sockets(look{table: table, states: 1 << stateEstablished, remote: at.Port()}, func(s socket) bool {
				if s.remote == at {
					more = f(s)
				}
				return more
			})
			if !more {
				return
			}
		}
	}
}

// isBound reports whether a UDP socket has that address as its own.
func isBound(addr string) (found bool) {
	at, err := netip.ParseAddrPort(addr)
	if err != nil {
		return false
	}
	for range looks {
		for _, table := range udpTables {
			sockets(look{table: table, states: anyUDPState, local: at.Port()}, func(s socket) bool {
				found = s.local == at
				return !found
			})
			if found {
				return true
			}
		}
	}
	return false
}

const anyUDPState = 1<<stateEstablished | 1<<stateClose

// isUDPPortTaken reports whether a UDP socket of the machine has one of n ports from first on,
// on either end.
func isUDPPortTaken(first, n int) (taken bool) {
	has := func(a netip.AddrPort) bool { return int(a.Port()) >= first && int(a.Port()) < first+n }
	for _, table := range udpTables {
		sockets(look{table: table, states: anyUDPState}, func(s socket) bool {
			taken = taken || has(s.local) || has(s.remote)
			return !taken
		})
	}
	return taken
}
