package main

import (
	"fmt"
	"strings"
)

// dialectConfig says how large the study is.
type dialectConfig struct {
	reloadConfig
	chains int // services that are written as kube-proxy writes them
}

var dialectStudy = dialectConfig{reloadConfig: reloadConfig{services: 10_000, backends: 10, changes: 20}, chains: 1000}

// virtual is where a service listens: each has an address of its own.
func (c dialectConfig) virtual(service int) string {
	return fmt.Sprintf("%s:%d", ipv4(127<<24+1<<16+uint32(service)), reloadPort)
}

// ipvsLines are all services as ipvsadm -S -n writes them.
func (c dialectConfig) ipvsLines() string {
	var b strings.Builder
	for i := range c.services {
		fmt.Fprintf(&b, "-A -t %s -s rr\n", c.virtual(i))
		for j := range c.backends {
			fmt.Fprintf(&b, "-a -t %s -r %s -m -w 1\n", c.virtual(i), c.backend(i, j))
		}
	}
	return b.String()
}

// natLines are some services as kube-proxy writes them for iptables-restore: a chain for each service and each backend.
func (c dialectConfig) natLines(services int) string {
	var b strings.Builder
	b.WriteString("*nat\n:KUBE-SERVICES - [0:0]\n")
	for i := range services {
		fmt.Fprintf(&b, ":KUBE-SVC-%05d - [0:0]\n", i)
		for j := range c.backends {
			fmt.Fprintf(&b, ":KUBE-SEP-%05d-%d - [0:0]\n", i, j)
		}
	}
	b.WriteString("-A PREROUTING -m comment --comment \"kubernetes service portals\" -j KUBE-SERVICES\n")
	b.WriteString("-A OUTPUT -m comment --comment \"kubernetes service portals\" -j KUBE-SERVICES\n")
	for i := range services {
		address, port, _ := strings.Cut(c.virtual(i), ":")
		fmt.Fprintf(&b, "-A KUBE-SERVICES -d %s/32 -p tcp -m comment --comment \"default/%s cluster IP\" -m tcp --dport %s -j KUBE-SVC-%05d\n",
			address, serviceName(i), port, i)
		for j := range c.backends {
			share := ""
			if left := c.backends - j; left > 1 {
				share = fmt.Sprintf("-m statistic --mode random --probability %.11f ", 1/float64(left))
			}
			fmt.Fprintf(&b, "-A KUBE-SVC-%05d %s-j KUBE-SEP-%05d-%d\n", i, share, i, j)
			fmt.Fprintf(&b, "-A KUBE-SEP-%05d-%d -p tcp -m tcp -j DNAT --to-destination %s\n", i, j, c.backend(i, j))
		}
	}
	b.WriteString("COMMIT\n")
	return b.String()
}

// What is measured. A step of the real iptables has no process beside its own.
const (
	ipvsRestore  = "usher ipvsadm -R, 10,000 services"
	ipvsList     = "usher ipvsadm -Ln"
	ipvsStats    = "usher ipvsadm -Ln --stats"
	ipvsSave     = "usher ipvsadm -S -n"
	ipvsAdd      = "usher ipvsadm -A, one service more"
	ipvsServer   = "usher ipvsadm -a, its first server"
	ipvsClear    = "usher ipvsadm -C"
	tableRestore = "usher iptables-restore, 1,000 services"
	tableSave    = "usher iptables-save"
	realAll      = "iptables-restore, 10,000 services"
	realRestore  = "iptables-restore, 1,000 services"
	realSave     = "iptables-save"
)

// dialectSteps are in the order of the report.
var dialectSteps = [...]string{
	ipvsRestore, realAll, ipvsList, ipvsStats, ipvsSave, ipvsAdd, ipvsServer, ipvsClear, tableRestore, realRestore, tableSave, realSave,
}

// dialectResults is what the study found: by the step, one figure a round.
type dialectResults struct {
	dialectConfig
	files                  uint64 // limit of descriptors
	wall, command, process map[string][]float64
	memory                 map[string][]float64 // resident afterwards, in MB
	hasReal                bool                 // the real iptables was measured, too
}

func newDialectResults(c dialectConfig, files uint64) *dialectResults {
	return &dialectResults{
		dialectConfig: c, files: files, wall: make(map[string][]float64), command: make(map[string][]float64),
		process: make(map[string][]float64), memory: make(map[string][]float64),
	}
}

// note adds the times of a round, in ms.
func (r *dialectResults) note(name string, wall, command float64) {
	r.wall[name] = append(r.wall[name], wall)
	r.command[name] = append(r.command[name], command)
}

func (r *dialectResults) text(o studyOptions) []byte {
	var b strings.Builder
	writeStudyHead(&b, "Thousands of services by ipvsadm and iptables", o)
	fmt.Fprintf(&b, "- limit of descriptors: %s\n", grouped(int(r.files)))
	fmt.Fprintf(&b, "\nMedian of %s, each with a process of its own: services of %s, one worker. "+
		"Wall time is that of the whole command, as a shell sees it; a step for one service is the mean of %d. "+
		"iptables-restore reads what kube-proxy writes, a chain for each service and each backend. "+
		"The real one runs in a network namespace of its own, and what it costs includes the kernel's part.\n\n",
		count(o.rounds, "round"), count(r.backends, "backend"), r.changes)
	rows := [][]string{{"step", "wall ms", "CPU ms of the command", "CPU ms of usher", "resident MB of usher"}}
	for _, step := range dialectSteps {
		if len(r.wall[step]) == 0 {
			continue
		}
		row := []string{step, spreadOf(r.wall[step]).String(), spreadOf(r.command[step]).String(), "–", "–"}
		if len(r.process[step]) > 0 {
			row[3], row[4] = spreadOf(r.process[step]).String(), spreadOf(r.memory[step]).middle()
		}
		rows = append(rows, row)
	}
	writeTable(&b, 1, rows)
	if !r.hasReal {
		b.WriteString("\nThe real iptables was not measured: it needs root.\n")
	}
	return []byte(b.String())
}
