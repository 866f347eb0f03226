package main

import (
	"fmt"
	"strings"
)

// reloadConfig says how large the study is.
type reloadConfig struct {
	services, backends int
	changes            int // of each kind that a round averages over
}

var reloadStudy = reloadConfig{services: 10_000, backends: 10, changes: 20}

// changedService and changedBackend are where a file changes: in the middle.
func (c reloadConfig) changedService() int { return c.services / 2 }
func (c reloadConfig) changedBackend() int { return c.backends / 2 }

// reloadFile is what usher.yaml says in one step of the study.
type reloadFile struct {
	reloadConfig
	weight int // of the changed backend
	first  int // weight of the first backend of each service
	extra  int // services more
}

func (f reloadFile) text() []byte {
	var b strings.Builder
	b.WriteString("workers: 1\nlog-level: warn\nservices:\n")
	for i := range f.services + f.extra {
		fmt.Fprintf(&b, "  %s:\n    listen: %s:%d\n    health: off\n    backends:\n", serviceName(i), ipv4(127<<24+1<<16+uint32(i)), reloadPort)
		for j := range f.backends {
			weight := 1
			switch {
			case i == f.changedService() && j == f.changedBackend():
				weight = f.weight
			case j == 0:
				weight = f.first
			}
			fmt.Fprintf(&b, "      - %s@%d\n", f.backend(i, j), weight)
		}
	}
	return []byte(b.String())
}

// reloadPort is that of all listeners: each has an address of its own.
const reloadPort = 9000

func serviceName(i int) string { return fmt.Sprintf("service-%05d", i) }

func (c reloadConfig) backend(service, backend int) string {
	return fmt.Sprintf("%s:%d", ipv4(10<<24+uint32(service)), 8000+backend)
}

// What is measured.
const (
	atStart     = "start"
	unchanged   = "reload: nothing changed"
	oneInFile   = "reload: one backend changed"
	reading     = "of which: reading that file"
	beyond      = "of which: all else"
	oneMore     = "reload: one service and listener more"
	allInFile   = "reload: every service changed"
	oneByAPI    = "command: one backend changed"
	override    = "command: one backend drained"
	addByAPI    = "command: one service and listener added"
	removeByAPI = "command: that service removed"
)

// reloadSteps are in the order of the report.
var reloadSteps = [...]string{atStart, unchanged, oneInFile, reading, beyond, oneMore, allInFile, oneByAPI, override, addByAPI, removeByAPI}

// reloadResults is what the study found: by the step, one figure a round.
type reloadResults struct {
	reloadConfig
	files     uint64               // limit of descriptors
	cpu, wall map[string][]float64 // in ms
	memory    map[string][]float64 // resident afterwards, in MB
	fileBytes int

	mostAtStart, most []float64 // resident at most until the start was done, and in the whole round, in MB
}

func newReloadResults(c reloadConfig, files uint64) *reloadResults {
	return &reloadResults{
		reloadConfig: c, files: files, cpu: make(map[string][]float64), wall: make(map[string][]float64), memory: make(map[string][]float64),
	}
}

func (r *reloadResults) text(o studyOptions) []byte {
	var b strings.Builder
	writeStudyHead(&b, "The cost of a change among many services", o)
	fmt.Fprintf(&b, "- limit of descriptors: %s\n", grouped(int(r.files)))
	fmt.Fprintf(&b, "\nMedian of %s, each with a process of its own: %s services of %s, checks off, one listener each, one worker, "+
		"in a file of %s KB. A change that is repeated is the mean of %d. "+
		"CPU time is that of usher's process, user and kernel, all its threads and what garbage collection they cause; "+
		"it ends once a question on the control socket shows the change, which is part of it. "+
		"Reading the file is measured in this process, with the same code and the file before to compare with. "+
		"Commands are sent by the client that the commands use, to the control socket.\n\n",
		count(o.rounds, "round"), grouped(r.services), count(r.backends, "backend"), grouped(r.fileBytes>>10), r.changes)
	rows := [][]string{{"step", "CPU ms", "wall ms", "resident MB"}}
	for _, step := range reloadSteps {
		rows = append(rows, []string{step, spreadOf(r.cpu[step]).String(), spreadOf(r.wall[step]).String(), spreadOf(r.memory[step]).middle()})
	}
	writeTable(&b, 1, rows)
	fmt.Fprintf(&b, "\nResident at most (VmHWM), in MB: %s after the start, %s in the whole round.\n", spreadOf(r.mostAtStart), spreadOf(r.most))
	return []byte(b.String())
}
