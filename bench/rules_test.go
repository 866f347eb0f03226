package main

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"usher/internal/config"
	"usher/internal/iptables"
)

// TestRuleLists: each form has the rules that it says, in words that usher takes.
func TestRuleLists(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		form          string
		n, chains     int
		inputs, rules int
		has           string
	}{
		{noneFits, 3, 1, 3, 3, "-A INPUT -s 10.0.2.0/24 -p tcp --dport 9002 -j REJECT"},
		{lastFits, 3, 1, 3, 3, "-A INPUT -s 127.0.0.0/8 -p tcp -j ACCEPT"},
		{inChains, 6, 2, 2, 8, "-A chain-01 -s 10.0.3.0/24 -p tcp --dport 9003 -j REJECT"},
	} {
		lines := ruleLines(tt.n, tt.form, tt.chains)
		text := strings.Join(lines, "\n")
		if n := strings.Count(text, "-A INPUT "); n != tt.inputs {
			t.Errorf("%q: %d rules in INPUT", tt.form, n)
		}
		if n := strings.Count(text, "-A "); n != tt.rules || !strings.Contains(text, tt.has) {
			t.Errorf("%q: %d rules:\n%s", tt.form, n, text)
		}
		if _, err := iptables.Build(lines); err != nil {
			t.Errorf("%q: %v", tt.form, err)
		}
		if _, err := config.ParseRules("", lines); err != nil {
			t.Errorf("%q: %v", tt.form, err)
		}
		restore := restoreText(lines)
		if strings.Contains(restore, "-N ") || strings.Count(restore, "\n:") != strings.Count(text, "-N ")+1 || !strings.HasSuffix(restore, "COMMIT\n") {
			t.Errorf("%q: iptables-restore gets\n%s", tt.form, restore)
		}
	}
	if file := ruleFile([]string{`-A INPUT -j DROP`}); file != "rules:\n  - \"-A INPUT -j DROP\"\n" {
		t.Errorf("a file %q", file)
	}
	if file, lines := aclFile(2), aclLines(2); file != "10.0.0.0/24\n10.0.1.0/24\n" ||
		lines[1] != "tcp-request connection reject if { src 10.0.1.0/24 } { dst_port 9001 }" {
		t.Errorf("HAProxy: a file %q and lines %q", file, lines)
	}
}

func TestDecisionSubjects(t *testing.T) {
	t.Parallel()
	subjects, err := decisionSubjects([]int{1, 200})
	if err != nil || len(subjects) != 4 {
		t.Fatalf("%d subjects, %v", len(subjects), err)
	}
	for _, s := range subjects {
		s.run(1000) // panics where a client is refused
	}
}

func TestRulesReport(t *testing.T) {
	t.Parallel()
	c := rulesConfig{sizes: []int{1, 1000}, lists: []int{1, 10}, chains: 10}
	r := &rulesResults{rulesConfig: c, costs: make(map[string][]float64), times: make(timings), notes: []string{"a note"}}
	for _, by := range []string{byUsher, byFile, byLines, byNFT} { // iptables of the old kind is not there
		r.costs[r.without(by).String()] = []float64{10, 10, 10}
		for i, k := range r.columns(by) {
			r.costs[k.String()] = []float64{10 + float64(i), 20, 10}
		}
	}
	for i, n := range c.lists {
		r.times[timingKey{decision, n}] = []float64{50}
		r.times[timingKey{listWalk, n}] = []float64{float64(25 + 75*i)}
	}
	text := string(r.text(studyOptions{rounds: 3, slot: time.Second, command: "the command"}))
	for _, want := range []string{
		"# A new connection past 1,000 rules costs usher 1.10 times as much as without; iptables, nf_tables: 1.10", "a note", "`the command`",
		"1,000 in 10 chains", byFile, byNFT, "A walk past 1 would add 0.25 %, 10 would add 1.00 %. The decision adds 0.5 % at most.", "](rules.svg)",
	} {
		if !strings.Contains(text, want) {
			t.Errorf("the text has no %q:\n%s", want, text)
		}
	}
	if strings.Contains(text, byLegacy) || strings.Contains(text, "NaN") || strings.Contains(text, "Inf") {
		t.Errorf("a figure is empty:\n%s", text)
	}
}

func TestFloodReport(t *testing.T) {
	t.Parallel()
	r := &floodResults{calm: make(map[string]*floodFigures), busy: make(map[string]*floodFigures)}
	for i, by := range []string{"usher", "haproxy"} {
		name := floodName(by, rejects)
		r.names = append(r.names, name)
		r.calm[name], r.busy[name] = new(floodFigures), new(floodFigures)
		for round := range 6 {
			r.calm[name].note(turn{measurement: measurement{p99: 100 + float64(round), proxyBusy: 10}})
			r.busy[name].note(turn{measurement: measurement{p99: 150 + float64(round+100*i), proxyBusy: 20}, flooded: 5000})
		}
	}
	text := string(r.text(studyOptions{rounds: 6}))
	for _, want := range []string{"by 50.0 µs at usher, by 150 at HAProxy", "50.0 [50.0–50.0]", "5000", "0.002", "20.0 [20.0–20.0]"} {
		if !strings.Contains(text, want) {
			t.Errorf("the text has no %q:\n%s", want, text)
		}
	}
}

func TestDoorReport(t *testing.T) {
	t.Parallel()
	r := &doorResults{costs: make(map[string][]float64), works: workloads(1, 1)[:1]}
	for i, who := range []string{earlier, unguarded, guarded} {
		r.costs[doorName("crr", who)] = []float64{10, 10 + float64(i), 10 + float64(i)}
	}
	text := string(r.text(studyOptions{rounds: 3}))
	for _, want := range []string{"1.10 times as much where nothing is configured, 1.09 times with", fmt.Sprintf("%d rules", doorRules), "µs/conn"} {
		if !strings.Contains(text, want) {
			t.Errorf("the text has no %q:\n%s", want, text)
		}
	}
	delete(r.costs, doorName("crr", earlier))
	if text := string(r.text(studyOptions{})); !strings.HasPrefix(text, "# What the front door costs, 1.09 times") || strings.Contains(text, "NaN") {
		t.Errorf("without an earlier revision:\n%s", text)
	}
}
