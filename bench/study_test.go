package main

import (
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"usher/balancer"
)

func TestParseStudyFlags(t *testing.T) {
	t.Parallel()
	o, err := parseStudyFlags([]string{"tables", "-rounds", "3", "-time=1ms", "-out", "x"}, io.Discard)
	if err != nil {
		t.Fatal(err)
	}
	if o.rounds != 3 || o.slot != time.Millisecond || o.out != "x" || o.machine == "" || o.kernel == "" || o.goVersion == "" || o.date == "" {
		t.Errorf("got %+v", o)
	}
	if want := "go run ./bench tables -rounds 3 -time=1ms -out x"; o.command != want {
		t.Errorf("command %q, want %q", o.command, want)
	}
	for _, args := range []string{"-rounds 0", "-time 0s", "-time 2m", "-speed 9", "crr"} {
		var said strings.Builder
		if o, err := parseStudyFlags(append([]string{"tables"}, strings.Fields(args)...), &said); err == nil {
			t.Errorf("%s: got %+v, want an error", args, o)
		}
		if said.Len() == 0 {
			t.Errorf("%s: nothing said", args)
		}
	}
}

func TestLookupStudy(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"schedulers", "disruption", "tables", "reload", "upgrade", "rules", "flood", "door", "kube"} {
		if s, ok := lookupStudy([]string{name, "-rounds", "1"}); !ok || s.name != name {
			t.Errorf("%s: got %q, %v", name, s.name, ok)
		}
	}
	for _, args := range [][]string{nil, {"-rounds", "1"}, {"load"}, {"-only", "tables"}} {
		if s, ok := lookupStudy(args); ok {
			t.Errorf("%v: got %q, want none", args, s.name)
		}
	}
}

// TestStudies runs each study in small, through to its page.
func TestStudies(t *testing.T) {
	t.Parallel()
	small := []form{{scheduler: "rr"}, {scheduler: "mh"}}
	for _, tt := range []struct {
		study
		pictures []string
		says     []string
	}{
		{
			study{"schedulers", func(ctx context.Context, o studyOptions, progress io.Writer) ([]byte, error) {
				return runSchedulers(ctx, schedulersConfig{
					sizes: []int{1, 10}, baseSize: 10, tableSizes: []int{2, 5}, stallAmong: 5,
					schedulers: balancer.Algorithms(), tableForms: small,
				}, o, progress)
			}},
			[]string{"scheduler-cost.svg", "table-build.svg"},
			append(balancer.Schedulers(), scanName, packedName, here.String()),
		},
		{
			study{"disruption", func(ctx context.Context, o studyOptions, progress io.Writer) ([]byte, error) {
				return runDisruption(ctx, disruptionConfig{
					forms: disruptionStudy.forms[2:5], sizes: []int{1, 2}, movers: 100, spreaders: 200, trials: 2, tableForms: small,
				}, o, progress)
			}},
			[]string{"disruption.svg", "spread.svg"},
			[]string{"mh,ipvs", "ring @100", "one backend joins"},
		},
		{
			study{"tables", func(ctx context.Context, o studyOptions, progress io.Writer) ([]byte, error) {
				return runTables(ctx, tablesConfig{sizes: []int{10, 100}, bearable: 10}, o, progress)
			}},
			[]string{"tables.svg"},
			[]string{"## Find", "## Replace", inLump},
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			o := studyOptions{
				rounds: 2, slot: 20 * time.Microsecond, out: t.TempDir(), command: "the command", machine: "the machine",
				kernel: "the kernel", goVersion: "go1", revision: "the revision", date: "2026-01-02",
			}
			var stdout strings.Builder
			if err := tt.do(t.Context(), o, &stdout, io.Discard); err != nil {
				t.Fatal(err)
			}
			content, err := os.ReadFile(filepath.Join(o.out, tt.page()))
			if err != nil || string(content) != stdout.String() {
				t.Errorf("%s is not what stdout has: %v", tt.page(), err)
			}
			for _, name := range tt.pictures {
				if !strings.Contains(stdout.String(), "]("+name+")") {
					t.Errorf("the text does not show %s", name)
				}
			}
			for _, word := range append(tt.says, "`the command`", "the revision", "the machine", "the kernel", "go1", "2026-01-02", "2 rounds") {
				if !strings.Contains(stdout.String(), word) {
					t.Errorf("the text has no %q:\n%s", word, &stdout)
				}
			}
			if strings.Contains(stdout.String(), "NaN") || strings.Contains(stdout.String(), "%!") {
				t.Errorf("a figure is empty:\n%s", &stdout)
			}
		})
	}
}

func TestStudyFails(t *testing.T) {
	t.Parallel()
	ran := false
	s := study{"x", func(context.Context, studyOptions, io.Writer) ([]byte, error) {
		ran = true
		return nil, errors.New("no luck")
	}}
	for out, want := range map[string]string{
		"": "x: no luck", "/nonexistent/folder": "folder for the results", "study_test.go": "study_test.go is not a folder",
	} {
		ran = false
		err := s.do(t.Context(), studyOptions{out: out}, io.Discard, io.Discard)
		if err == nil || !strings.Contains(err.Error(), want) || ran != (out == "") {
			t.Errorf("-out %q: got %v, ran: %v; want %q", out, err, ran, want)
		}
	}
}

// TestStudiesEnd: an interrupt ends each of them.
func TestStudiesEnd(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	o := studyOptions{rounds: 1000, slot: time.Second}
	small := []form{{scheduler: "mh"}}
	_, err1 := runSchedulers(ctx, schedulersConfig{sizes: []int{1}, tableSizes: []int{1}, tableForms: small}, o, io.Discard)
	_, err2 := runDisruption(ctx, disruptionConfig{forms: small, sizes: []int{1}, tableForms: small}, o, io.Discard)
	_, err3 := runTables(ctx, tablesConfig{sizes: []int{10}}, o, io.Discard)
	_, err4 := measureStalls(ctx, 1, o, io.Discard)
	for i, err := range []error{err1, err2, err3, err4} {
		if err == nil || err.Error() != "interrupted" {
			t.Errorf("study %d: %v", i, err)
		}
	}
}

func TestGrouped(t *testing.T) {
	t.Parallel()
	for n, want := range map[int]string{0: "0", 999: "999", 1000: "1,000", 131072: "131,072", 1048576: "1,048,576"} {
		if got := grouped(n); got != want {
			t.Errorf("grouped(%d) = %q, want %q", n, got, want)
		}
	}
}

func TestFine(t *testing.T) {
	t.Parallel()
	for v, want := range map[float64]string{0.00123456: "0.00123", 0.5: "0.5", 0.996: "1.00", 12.34: "12.3"} {
		if got := fine(v); got != want {
			t.Errorf("fine(%v) = %q, want %q", v, got, want)
		}
	}
}
