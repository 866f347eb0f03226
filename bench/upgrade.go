package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
)

// upgradeConfig says how large the study is.
type upgradeConfig struct {
	flows    []int // that are idle, in the order of the report
	upgrades int   // that a round makes with each number of flows
}

var upgradeStudy = upgradeConfig{flows: []int{0, 1000, 10_000}, upgrades: 5}

// upgradeResults is what the study found: by the number of flows, one figure an upgrade.
type upgradeResults struct {
	upgradeConfig
	files                         uint64 // limit of descriptors
	open                          map[int]int
	pause, gap, command, cpuTimes map[int][]float64 // in ms
}

func newUpgradeResults(c upgradeConfig, files uint64) *upgradeResults {
	return &upgradeResults{
		upgradeConfig: c, files: files, open: make(map[int]int),
		pause: make(map[int][]float64), gap: make(map[int][]float64), command: make(map[int][]float64), cpuTimes: make(map[int][]float64),
	}
}

// fit returns how many of the wanted flows the limit has room for: usher has two descriptors for each and some for itself,
// and so has this process, which is the clients and the backend.
func (r *upgradeResults) fit(wanted int) int {
	const others = 1000
	return min(wanted, max(0, (int(r.files)-others)/2))
}

func (r *upgradeResults) text(o studyOptions) []byte {
	var b strings.Builder
	writeStudyHead(&b, "The pause of an upgrade", o)
	fmt.Fprintf(&b, "- limit of descriptors: %s\n", grouped(int(r.files)))
	fmt.Fprintf(&b, "\nMedian, and in parentheses the range, of %s of %s each, with two workers. "+
		"The flows are idle TCP connections; there are as many as the limit of descriptors has room for, at two a flow. "+
		"The pause is what usher logs: from before the event loops stop until those of the next image run. "+
		"The gap is what a client sees beside them: the longest time between two answers to 64 bytes, which it asks for again after half a "+
		"millisecond, from before the command until after it. The command is the whole of it, with the child that looks at the state "+
		"first. CPU time is that of usher's process, user and kernel, in the same time.\n\n",
		count(o.rounds, "round"), count(r.upgrades, "upgrade"))
	rows := [][]string{{"flows", "pause ms", "gap ms", "command ms", "CPU ms"}}
	for _, n := range r.flows {
		rows = append(rows, []string{
			grouped(r.open[n]), spreadOf(r.pause[n]).String(), spreadOf(r.gap[n]).String(), spreadOf(r.command[n]).String(), spreadOf(r.cpuTimes[n]).String(),
		})
	}
	writeTable(&b, 0, rows)
	return []byte(b.String())
}

// lastPauseOf reads the pause of the last upgrade in a log, in ms.
func lastPauseOf(log string) (float64, error) {
	at := strings.LastIndex(log, `"msg":"upgraded"`)
	if at < 0 {
		return 0, errors.New("usher has logged no upgrade")
	}
	line, _, _ := strings.Cut(log[strings.LastIndexByte(log[:at], '\n')+1:], "\n")
	var is struct {
		Pause float64 `json:"pause_ms"`
	}
	err := json.Unmarshal([]byte(line), &is)
	return is.Pause, err
}
