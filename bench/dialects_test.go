package main

import (
	"strings"
	"testing"
)

// What the study feeds to the commands has every service and every backend.
func TestDialectLines(t *testing.T) {
	t.Parallel()
	c := dialectConfig{reloadConfig: reloadConfig{services: 3, backends: 4, changes: 1}, chains: 2}
	ipvs := c.ipvsLines()
	if n := strings.Count(ipvs, "\n"); n != 3*(1+4) || !strings.Contains(ipvs, "-a -t 127.1.0.2:9000 -r 10.0.0.2:8003 -m -w 1\n") {
		t.Errorf("%d lines:\n%s", n, ipvs)
	}
	nat := c.natLines(2)
	for _, want := range []struct {
		line string
		n    int
	}{{"\n:KUBE-", 1 + 2*(1+4)}, {"\n-A KUBE-SERVICES ", 2}, {" -j DNAT --to-destination ", 8}, {" --probability 0.25000000000 ", 2}, {"COMMIT\n", 1}} {
		if n := strings.Count(nat, want.line); n != want.n {
			t.Errorf("%d times %q, want %d:\n%s", n, want.line, want.n, nat)
		}
	}
}

func TestDialectReport(t *testing.T) {
	t.Parallel()
	r := newDialectResults(dialectStudy, 20_000)
	for i, step := range dialectSteps {
		r.note(step, 0, 0)
		r.wall[step][0] = float64(i) + 0.25
	}
	r.process[ipvsRestore], r.memory[ipvsRestore] = []float64{200}, []float64{210}
	text := string(r.text(studyOptions{rounds: 1, command: "the command", revision: "the revision"}))
	for _, want := range []string{"1 round", "10 backends", "20,000", "`the command`", "the revision", "0.25", "needs root"} {
		if !strings.Contains(text, want) {
			t.Errorf("the text has no %q:\n%s", want, text)
		}
	}
	if strings.Contains(text, "NaN") {
		t.Errorf("a figure is empty:\n%s", text)
	}
}
