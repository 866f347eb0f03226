package main

import (
	"strings"
	"testing"
)

func TestUpgradeReport(t *testing.T) {
	t.Parallel()
	r := newUpgradeResults(upgradeConfig{flows: []int{0, 10_000}, upgrades: 3}, 20_000)
	if got := r.fit(10_000); got != 9500 {
		t.Errorf("%d flows fit", got)
	}
	if got := r.fit(50); got != 50 {
		t.Errorf("%d flows of 50 fit", got)
	}
	for _, n := range r.flows {
		r.open[n] = r.fit(n)
		for i, figures := range []map[int][]float64{r.pause, r.gap, r.command, r.cpuTimes} {
			figures[n] = []float64{float64(10*i + 1), float64(10*i + 3)}
		}
	}
	text := string(r.text(studyOptions{rounds: 2, command: "the command", revision: "the revision"}))
	for _, want := range []string{"2 rounds of 3 upgrades", "20,000", "`the command`", "9,500", "2.00 (1.00–3.00)", "32.0 (31.0–33.0)"} {
		if !strings.Contains(text, want) {
			t.Errorf("the text has no %q:\n%s", want, text)
		}
	}
}

func TestLastPause(t *testing.T) {
	t.Parallel()
	if _, err := lastPauseOf(`{"msg":"serving"}`); err == nil {
		t.Error("no upgrade, but a pause")
	}
	got, err := lastPauseOf("{\"msg\":\"upgraded\",\"pause_ms\":7}\n{\"level\":\"info\",\"msg\":\"upgraded\",\"pause_ms\":1.5}\n{\"msg\":\"x\"}")
	if err != nil || got != 1.5 {
		t.Errorf("%v, %v", got, err)
	}
}
