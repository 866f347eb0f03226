package main

import (
	"strings"
	"testing"

	"usher/internal/configfile"
)

// The files of the study say what its steps ask for.
func TestReloadFile(t *testing.T) {
	t.Parallel()
	c := reloadConfig{services: 3, backends: 4, changes: 1}
	f, err := configfile.Parse("usher.yaml", reloadFile{c, 7, 5, 1}.text(), nil)
	if err != nil {
		t.Fatal(err)
	}
	if len(f.Services) != 4 {
		t.Fatalf("%d services, want 4", len(f.Services))
	}
	for i, s := range f.Services {
		if s.Name != serviceName(i) || len(s.Listeners) != 1 || len(s.Backends) != 4 {
			t.Errorf("service %d is %s with %v and %v", i, s.Name, s.Listeners, s.Backends)
		}
		for j, b := range s.Backends {
			want := 1
			switch {
			case i == c.changedService() && j == c.changedBackend():
				want = 7
			case j == 0:
				want = 5
			}
			if b.Weight != want || b.Addr.String() != c.backend(i, j) {
				t.Errorf("backend %d of service %d is %s, want %s@%d", j, i, b, c.backend(i, j), want)
			}
		}
	}
}

func TestReloadReport(t *testing.T) {
	t.Parallel()
	r := newReloadResults(reloadConfig{services: 10_000, backends: 10, changes: 20}, 20_000)
	for i, step := range reloadSteps {
		r.cpu[step] = []float64{float64(i) + 0.25, float64(i) + 0.75}
	}
	r.memory[atStart], r.mostAtStart, r.most = []float64{200}, []float64{210}, []float64{290}
	text := string(r.text(studyOptions{rounds: 2, command: "the command", revision: "the revision"}))
	for _, want := range []string{"2 rounds", "10,000 services of 10 backends", "20,000", "`the command`", "the revision", "0.50 (0.25–0.75)", "210 after the start, 290 in"} {
		if !strings.Contains(text, want) {
			t.Errorf("the text has no %q:\n%s", want, text)
		}
	}
	if strings.Contains(text, "NaN") {
		t.Errorf("a figure is empty:\n%s", text)
	}
}
