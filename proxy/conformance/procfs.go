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

// Memory is the private memory of the process and its children in bytes: what
// it would give back if it ended. Kernel buffers are not in it.
func (p *Proxy) Memory() int {
	sum := 0
	for _, pid := range p.PIDs() {
		sum += 1024 * (procField(pid, "smaps_rollup", "Private_Dirty:") + procField(pid, "smaps_rollup", "Private_Clean:"))
	}
	return sum
}

// Resting reports whether no thread of the process and its children runs or
// wants to: what has come so far has been dealt with.
func (p *Proxy) Resting() bool {
	for _, pid := range p.PIDs() {
		tasks, _ := os.ReadDir(fmt.Sprintf("/proc/%d/task", pid))
		for _, task := range tasks {
			text, _ := os.ReadFile(fmt.Sprintf("/proc/%d/task/%s/stat", pid, task.Name()))
			if _, state, ok := strings.Cut(string(text), ") "); ok && !strings.HasPrefix(state, "S") {
				return false
			}
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

// SpentIn measures CPU over d while the case waits.
func (p *Proxy) SpentIn(d time.Duration) time.Duration {
	before := p.CPU()
	p.c.Pause(d)
	return p.CPU() - before
}

// LimitDescriptors changes the soft limit of the running process so that only
// spare more descriptors fit, which may need the same user or a capability.
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
		limit, free := 0, 0 // the limit is on the number, and there may be gaps
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

// States of /proc/net/tcp, as in the kernel's tcp_states.h.
const (
	stateCloseWait = "08"
	stateListen    = "0A"
)

// socket is a row of /proc/net/tcp, tcp6, udp or udp6.
type socket struct {
	local, remote netip.AddrPort
	state         string
}

// sockets calls f for each socket of a table, "tcp", "tcp6", "udp" or "udp6", of
// the machine until it returns false. The kernel lists the TCP ones that listen
// first, and takes long to find that there is nothing else.
func sockets(table string, f func(socket) bool) {
	file, err := os.Open("/proc/net/" + table)
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
		if !f(socket{hexAddr(w[1]), hexAddr(w[2]), w[3]}) {
			return
		}
	}
}

// hexAddr reads "0100007F:1F90": each 32-bit word of the address is printed in
// the byte order of the machine, which is taken to be little-endian.
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

// listening reports whether every address of p has a socket that listens, or
// takes datagrams from anybody.
func (p *Proxy) listening() bool {
	missing := make(map[string]bool, len(p.addrs))
	for _, a := range p.addrs {
		missing[a] = true
	}
	tables := []string{"tcp", "tcp6"}
	if p.udp {
		tables = []string{"udp", "udp6"}
	}
	for _, table := range tables {
		if len(missing) == 0 {
			break
		}
		sockets(table, func(s socket) bool {
			if p.udp && s.remote.Port() != 0 {
				return true // connected
			}
			if !p.udp && s.state != stateListen {
				return false
			}
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
			// HAProxy binds PATH.PID.tmp and renames it; the kernel keeps
			// telling the first name.
			if path, ok := unixPath(addr); ok && strings.HasPrefix(w[7], path) && exists(path) {
				delete(missing, addr)
			}
		}
	}
	return len(missing) == 0
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}

// CloseWait counts the sockets of p whose peer has closed and that p has not:
// those of its listeners and those to the backends.
func (p *Proxy) CloseWait(backends ...*Backend) int {
	front, back := make(map[string]bool), make(map[string]bool)
	for _, a := range p.addrs {
		front[a] = true
	}
	for _, b := range backends {
		back[b.Addr] = true
	}
	n := 0
	for _, table := range []string{"tcp", "tcp6"} {
		sockets(table, func(s socket) bool {
			if s.state == stateCloseWait && (front[s.local.String()] || back[s.remote.String()]) {
				n++
			}
			return true
		})
	}
	return n
}

// Upstreams counts the UDP sockets of the machine that are connected to one of
// the addresses: the flows that a proxy holds to these backends. The kernel
// prints its list a page at a time and can skip a socket when others come and
// go meanwhile, so the highest of a few counts is taken.
func Upstreams(backends ...string) int {
	highest := 0
	for range looks {
		n := 0
		for _, table := range udpTables {
			sockets(table, func(s socket) bool {
				if s.remote.Port() != 0 && slices.Contains(backends, s.remote.String()) {
					n++
				}
				return true
			})
		}
		highest = max(highest, n)
	}
	return highest
}

// NoUpstreams is whether Upstreams is 0, sooner known when it is not.
func NoUpstreams(backends ...string) bool {
	return !anyUDP(func(s socket) bool {
		return s.remote.Port() != 0 && slices.Contains(backends, s.remote.String())
	})
}

// looks is how often the list of UDP sockets is read, see Upstreams.
const looks = 3

var udpTables = [...]string{"udp", "udp6"}

// anyUDP is whether there is a UDP socket of that kind.
func anyUDP(kind func(socket) bool) bool {
	found := false
	for range looks {
		for _, table := range udpTables {
			sockets(table, func(s socket) bool {
				found = kind(s)
				return !found
			})
			if found {
				return true
			}
		}
	}
	return false
}

// udpPort is whether a UDP socket of the machine has that port, on either end.
func udpPort(port int) bool {
	for _, table := range udpTables {
		text, _ := os.ReadFile("/proc/net/" + table)
		if strings.Contains(string(text), fmt.Sprintf(":%04X ", port)) {
			return true
		}
	}
	return false
}
