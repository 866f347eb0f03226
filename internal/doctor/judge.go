package doctor

import (
	"fmt"
	"strings"
)

// item is one thing that is judged. A judge that returns the zero value has nothing that this system tells.
type item struct {
	name  string
	judge func(*Facts) Finding
}

// items are all of them, in the order of the table.
var items = [...]item{
	{"engine", judgeEngine},
	{"container", judgeContainer},
	{"cpus", judgeCPUs},
	{"memory", judgeMemory},
	{"clock", judgeClock},
	{"descriptors", judgeDescriptors},
	{"epoll watches", judgeWatches},
	{"local ports", judgePorts},
	{"accept queue", judgeBacklog},
	{"splice", judgePipes},
	{"tcp buffers", judgeTCPBuffers},
	{"tcp memory", judgeTCPMemory},
	{"udp buffers", judgeUDPBuffers},
	{"udp memory", judgeUDPMemory},
	{"udp bursts", judgeOffload},
	{"reuseport", judgeReusePort},
	{"conntrack", judgeConntrack},
	{"low ports", judgeLowPorts},
	{"loopback", judgeLoopback},
	{"nonlocal bind", judgeNonlocal},
	{"clusterips", judgeClusterIPs},
	{"namespaces", judgeNamespaces},
}

// Judge returns what the facts mean: one finding an item, then one a running usher and one a listener of the question.
func Judge(f *Facts) []Finding {
	var all []Finding
	for _, i := range items {
		finding := i.judge(f)
		if finding.Level == "" {
			finding.Level = Unknown
		}
		finding.Item = i.name
		all = append(all, finding)
	}
	all = append(all, judgeUshers(f)...)
	return append(all, judgeListeners(f)...)
}

// Items returns the names of the findings with a level.
func Items(all []Finding, level Level) (names []string) {
	for _, f := range all {
		if f.Level == level {
			names = append(names, f.Item)
		}
	}
	return names
}

// setSysctl is the line that sets a sysctl until the next boot.
func setSysctl(name string, value any) string {
	text := fmt.Sprint(value)
	if strings.Contains(text, " ") {
		text = `"` + text + `"`
	}
	return fmt.Sprintf("sudo sysctl -w %s=%s", name, text)
}

// inUnit is a line of a systemd unit.
func inUnit(line string) string { return line + "   # [Service] in usher's unit" }

// sizeText formats bytes with the greatest unit that leaves at least one.
func sizeText(n int64) string {
	units := []string{"B", "KiB", "MiB", "GiB", "TiB"}
	size, i := float64(n), 0
	for ; size >= 1024 && i < len(units)-1; i++ {
		size /= 1024
	}
	if size >= 100 || size == float64(int64(size)) {
		return fmt.Sprintf("%.0f %s", size, units[i])
	}
	return fmt.Sprintf("%.1f %s", size, units[i])
}
