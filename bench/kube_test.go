package main

import (
	"strings"
	"testing"
)

func TestQuantile(t *testing.T) {
	t.Parallel()
	values := make([]float64, 200)
	for i := range values {
		values[i] = float64(len(values) - i) // 200 … 1
	}
	for _, tt := range []struct {
		values     []float64
		part, want float64
	}{
		{values, 0.5, 100}, {values, 0.99, 198}, {values, 1, 200}, {[]float64{7}, 0.5, 7}, {[]float64{7}, 0.99, 7}, {[]float64{3, 1, 2}, 0.5, 2},
	} {
		if got := quantile(tt.values, tt.part); got != tt.want {
			t.Errorf("%v of %d values: %v, want %v", tt.part, len(tt.values), got, tt.want)
		}
	}
}

// TestKubeResults has a value for each figure, and none of one trial.
func TestKubeResults(t *testing.T) {
	t.Parallel()
	r := newKubeResults(kubeConfig{sizes: []int{20, 10}, endpoints: 3}, 20_000)
	for _, trial := range r.trials()[:3] {
		for _, f := range kubeFigures {
			for i := range 100 {
				r.add(trial, f.name, float64(trial.services*(i+1)))
			}
		}
	}
	text := string(r.text(studyOptions{rounds: 2, command: "go run ./bench kube"}))
	for _, want := range []string{"20 services of an API server", "10 services of a folder", "ms, p99", "1980", "–", "issue 138073", "](kube-change.svg)"} {
		if !strings.Contains(text, want) {
			t.Errorf("no %q in\n%s", want, text)
		}
	}
}

// TestKubeManifest holds what the folder of the study has to what its reader wants.
func TestKubeManifest(t *testing.T) {
	t.Parallel()
	text, err := kubeManifest(7, kubeStudy.endpointsOf(7))
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"apiVersion: v1\nkind: Service\n", "clusterIP: 10.96.0.8\n", "---\n", "kind: EndpointSlice\n", "kubernetes.io/service-name: service-00007\n", "- 10.128.0.71\n"} {
		if !strings.Contains(string(text), want) {
			t.Errorf("no %q in\n%s", want, text)
		}
	}
}
