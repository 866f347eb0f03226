package doctor

import (
	"fmt"
	"strings"
)

const (
	fewPorts       = 1000      // local ports
	widePorts      = 60_000    // as wide as the range should be made
	shortBacklog   = 1024      // clients that may wait to be accepted
	smallWindow    = 1 << 20   // bytes of a TCP buffer
	fewPipes       = 64        // of full size
	scarceMemory   = 16 << 10  // bytes of socket memory for each flow
	memoryOfPacket = 2304      // bytes that the kernel counts for a datagram of 1,200 from a network card
	entriesOfFlow  = 2         // in the kernel's connection table: the client's connection, and that to the backend
	inverseRTT     = 10        // round trips of 100 ms in a second
	bitsOfByte     = 8         //
	megabit        = 1_000_000 //
)

func judgePorts(f *Facts) Finding {
	const name = "net.ipv4.ip_local_port_range"
	first, _ := f.sysctl(name, 0)
	last, ok := f.sysctl(name, 1)
	if !ok {
		return Finding{}
	}
	ports := int(last-first) + 1 - f.ReservedPorts
	found := Finding{
		Level: OK, Is: fmt.Sprintf("%d-%d", first, last),
		Means: fmt.Sprintf("%d connections to each backend at a time, and %d UDP flows in all", ports, min(f.Forecast.UDPFlows, ports)),
	}
	if f.ReservedPorts > 0 {
		found.Is += fmt.Sprintf(" without %d reserved", f.ReservedPorts)
	}
	switch {
	case ports < fewPorts:
		found.Level = Low
	case ports < f.Forecast.MaxConns && ports < widePorts:
		found.Level = Note
	}
	if found.Level != OK {
		found.Change = []string{setSysctl(name, "1024 65535")}
	}
	return found
}

func judgeBacklog(f *Facts) Finding {
	have, ok := f.sysctl("net.core.somaxconn", 0)
	if !ok {
		return Finding{}
	}
	found := Finding{
		Level: OK, Is: fmt.Sprintf("%d clients", have), Means: "may wait at each listening socket until usher accepts them",
	}
	if have < shortBacklog {
		found.Level, found.Means = Note, "in a burst of more, clients wait 1 s and try again"
		found.Change = []string{setSysctl("net.core.somaxconn", 4096)}
	}
	if syn, ok := f.sysctl("net.ipv4.tcp_max_syn_backlog", 0); ok {
		found.Is += fmt.Sprintf(", %d handshakes", syn)
		if syn < shortBacklog {
			found.Level = Note
			found.Change = append(found.Change, setSysctl("net.ipv4.tcp_max_syn_backlog", 4096))
		}
	}
	return found
}

func judgePipes(f *Facts) Finding {
	want := int64(f.Forecast.PipeWanted)
	if want == 0 {
		return Finding{Level: OK, Is: "not used", Means: "this engine copies, or leaves it to Go"}
	}
	pipes := int64(f.Forecast.Pipes)
	found := Finding{Level: OK, Is: fmt.Sprintf("%d pipes of %s", pipes, sizeText(int64(f.Forecast.PipeSize)))}
	if budget := f.pipeBudget(); budget > 0 && budget/want < pipes {
		pipes = budget / want
		found.Is = fmt.Sprintf("%d pipes of %s, from a budget of %s", pipes, sizeText(int64(f.Forecast.PipeSize)), sizeText(budget))
	}
	found.Means = fmt.Sprintf("%d bulk transfers move inside the kernel at a time; usher copies others", pipes)
	switch most, ok := f.sysctl("fs.pipe-max-size", 0); {
	case f.Forecast.PipeSize == 0:
		found.Level, found.Is = Low, "no pipe is to be had"
		found.Means = "usher copies bulk transfers, which costs more CPU time; the budget of pipe pages is used up, or too small"
	case int64(f.Forecast.PipeSize) < want && ok && most < want:
		found.Level, found.Means = Note, "pipes are small: a bulk transfer costs a fifth more CPU time"
		found.Change = []string{setSysctl("fs.pipe-max-size", want)}
	case int64(f.Forecast.PipeSize) < want:
		found.Level, found.Means = Note, "the budget of pipe pages is nearly used up: new pipes are small"
	case pipes < fewPipes && f.pipeBudget() > 0:
		found.Level = Note
	}
	if found.Level != OK && len(found.Change) == 0 {
		found.Change = []string{setSysctl("fs.pipe-user-pages-soft", 4*fewPipes*want/f.PageSize)}
	}
	return found
}

// pipeBudget returns the bytes of pipes that this user may have; 0: there is no bound.
func (f *Facts) pipeBudget() (bytes int64) {
	if f.IsPipeExempt {
		return 0
	}
	for _, name := range []string{"fs.pipe-user-pages-soft", "fs.pipe-user-pages-hard"} {
		if pages, ok := f.sysctl(name, 0); ok && pages > 0 && (bytes == 0 || pages*f.PageSize < bytes) {
			bytes = pages * f.PageSize
		}
	}
	return bytes
}

func judgeTCPBuffers(f *Facts) Finding {
	read, ok := f.sysctl("net.ipv4.tcp_rmem", 2)
	write, hasWrite := f.sysctl("net.ipv4.tcp_wmem", 2)
	if !ok || !hasWrite {
		return Finding{}
	}
	// Half of a receive buffer is the kernel's bookkeeping.
	window := min(read/2, write)
	found := Finding{
		Level: OK, Is: fmt.Sprintf("up to %s in, %s out", sizeText(read), sizeText(write)),
		Means: fmt.Sprintf("one connection carries up to %d Mbit/s where a round trip takes 100 ms", window*bitsOfByte*inverseRTT/megabit),
	}
	if read < smallWindow {
		found.Level, found.Change = Note, []string{setSysctl("net.ipv4.tcp_rmem", "4096 131072 6291456")}
	}
	if write < smallWindow {
		found.Level, found.Change = Note, append(found.Change, setSysctl("net.ipv4.tcp_wmem", "4096 16384 4194304"))
	}
	return found
}

func judgeTCPMemory(f *Facts) Finding {
	return f.judgeSocketMemory("net.ipv4.tcp_mem", f.Forecast.MaxConns, f.Forecast.MaxConns > 0)
}

func judgeUDPMemory(f *Facts) Finding {
	return f.judgeSocketMemory("net.ipv4.udp_mem", f.Forecast.UDPFlows, f.HasUDP)
}

// judgeSocketMemory judges what all sockets of a protocol may keep in their buffers together, for so many flows.
func (f *Facts) judgeSocketMemory(name string, flows int, matters bool) Finding {
	pages, ok := f.sysctl(name, 2)
	if !ok || flows == 0 {
		return Finding{}
	}
	most := pages * f.PageSize
	found := Finding{
		Level: OK, Is: sizeText(most) + " for all sockets",
		Means: fmt.Sprintf("%s for each of %d flows; beyond it the kernel drops", sizeText(most/int64(flows)), flows),
	}
	if matters && most/int64(flows) < scarceMemory {
		want := int64(flows) * 2 * scarceMemory / f.PageSize
		found.Level, found.Change = Note, []string{setSysctl(name, fmt.Sprintf("%d %d %d", want/2, want*3/4, want))}
	}
	return found
}

func judgeUDPBuffers(f *Facts) Finding {
	granted, wanted := int64(f.Forecast.ReceiveBuffer), int64(f.Forecast.ReceiveWanted)
	if granted == 0 {
		return Finding{}
	}
	found := Finding{
		Level: OK, Is: fmt.Sprintf("%s of %s", sizeText(granted), sizeText(wanted)),
		// The kernel doubles what is granted, for its bookkeeping.
		Means: fmt.Sprintf("about %d datagrams of 1,200 bytes may wait at a socket; more are lost", 2*granted/memoryOfPacket),
	}
	if granted >= wanted {
		return found
	}
	if found.Level = Note; f.HasUDP {
		found.Level = Low
	}
	found.Change = []string{setSysctl("net.core.rmem_max", wanted)}
	return found
}

func judgeOffload(f *Facts) Finding {
	switch {
	case f.CanGSO == nil || f.CanGRO == nil:
		return Finding{}
	case *f.CanGSO && *f.CanGRO:
		return Finding{Level: OK, Is: "GSO and GRO", Means: "many datagrams of one flow move in one piece"}
	}
	return Finding{
		Level: Note, Is: fmt.Sprintf("GSO %v, GRO %v", *f.CanGSO, *f.CanGRO), Means: "a UDP flow in bulk costs more CPU time; a kernel from 5.0 on has both",
	}
}

func judgeReusePort(f *Facts) Finding {
	switch {
	case f.CanReusePort == nil:
		return Finding{}
	case *f.CanReusePort:
		return Finding{Level: OK, Is: "yes", Means: "each worker accepts from a socket of its own"}
	}
	return Finding{Level: Low, Is: "no", Means: "the engine epoll cannot listen: usher --engine portable"}
}

func judgeConntrack(f *Facts) Finding {
	most, hasMost := f.sysctl("net.netfilter.nf_conntrack_max", 0)
	now, hasNow := f.sysctl("net.netfilter.nf_conntrack_count", 0)
	switch {
	case !hasMost || !hasNow:
		if f.OS != "linux" {
			return Finding{}
		}
		return Finding{Level: OK, Is: "not seen", Means: "the kernel tracks no connections here, or does not say"}
	case now == 0:
		return Finding{Level: OK, Is: "empty", Means: "the kernel tracks no connections here"}
	}
	found := Finding{
		Level: OK, Is: fmt.Sprintf("%d of %d entries", now, most),
		Means: "the kernel tracks each packet, and a flow takes two entries; when it is full, packets are dropped",
	}
	need := int64(f.Forecast.MaxConns) * entriesOfFlow
	switch {
	case now >= most-most/10:
		found.Level = Low
	case most < need:
		found.Level = Note
	}
	if found.Level != OK {
		found.Change = []string{setSysctl("net.netfilter.nf_conntrack_max", max(need, most)*2)}
	}
	return found
}

func judgeLowPorts(f *Facts) Finding {
	if f.LowPort == 0 {
		return Finding{Level: OK, Is: "from 1 on", Means: "this user may listen on every port"}
	}
	return Finding{
		Level: Note, Is: fmt.Sprintf("from %d on", f.LowPort), Means: "this user may not listen below, as on ports 53, 80 and 443",
		Change: f.lowerPorts(53),
	}
}

// lowerPorts returns the lines that allow ports from the given one on.
func (f *Facts) lowerPorts(from int) (lines []string) {
	if f.OS != "linux" {
		return nil
	}
	if f.Program != "" {
		lines = append(lines, "sudo setcap cap_net_bind_service=+ep "+quoted(f.Program))
	}
	return append(lines, setSysctl("net.ipv4.ip_unprivileged_port_start", from), inUnit("AmbientCapabilities=CAP_NET_BIND_SERVICE"))
}

// quoted returns a path as a shell takes it.
func quoted(path string) string {
	if strings.ContainsAny(path, " \t\n'\"\\$&;|<>()*?`#~") {
		return "'" + strings.ReplaceAll(path, "'", `'\''`) + "'"
	}
	return path
}

func judgeLoopback(f *Facts) Finding {
	if f.HasLoopback {
		return Finding{Level: OK, Is: "all of 127.0.0.0/8", Means: "services may have an address each, as 127.1.2.3:80"}
	}
	found := Finding{Level: Note, Is: "127.0.0.1 alone", Means: "other addresses of 127.0.0.0/8 are to be added one by one"}
	switch f.OS {
	case "darwin", "freebsd":
		found.Change = []string{"sudo ifconfig lo0 alias 127.0.0.2"}
	case "linux":
		found.Change = []string{"sudo ip link set lo up"}
	}
	return found
}

func judgeNonlocal(f *Facts) Finding {
	switch may, ok := f.sysctl("net.ipv4.ip_nonlocal_bind", 0); {
	case !ok:
		return Finding{}
	case may == 0:
		return Finding{Level: OK, Is: "off", Means: "usher listens on addresses that this machine has; a standby needs it on"}
	}
	return Finding{Level: OK, Is: "on", Means: "usher may listen on an address before this machine has it"}
}

func judgeClusterIPs(f *Facts) Finding {
	if f.HasClusterIPs {
		return Finding{Level: OK, Is: "10.96.0.0/12 is local", Means: "usher kube listens on ClusterIPs as they are"}
	}
	found := Finding{Level: OK, Is: "10.96.0.0/12 is not local", Means: "usher kube stands in for ClusterIPs on 127.0.0.0/8"}
	if f.OS == "linux" {
		found.Change = []string{"sudo " + f.ClusterIPRoute}
	}
	return found
}

// judgeListeners has a finding for each listener of the question.
func judgeListeners(f *Facts) (all []Finding) {
	for _, l := range f.Listeners {
		found := Finding{Level: OK, Item: "service " + l.Service, Is: l.Address, Means: "this user may listen there"}
		switch {
		case l.Error != "":
			found.Level, found.Means = Low, "usher cannot listen there: "+l.Error
		case l.Port > 0 && l.Port < f.LowPort:
			found.Level, found.Means = Low, fmt.Sprintf("usher cannot listen there: ports below %d need privilege", f.LowPort)
			found.Change = f.lowerPorts(l.Port)
		}
		all = append(all, found)
	}
	return all
}
