package main

import (
	"io"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestParseFlags(t *testing.T) {
	t.Parallel()
	o, err := parseFlags([]string{"-time", "1s", "-rounds=9", "-only", "crr"}, io.Discard)
	if err != nil {
		t.Fatal(err)
	}
	if o.duration != time.Second || o.rounds != 9 || o.only != "crr" {
		t.Errorf("got %+v", o)
	}
	if want := "go run ./bench -time 1s -rounds=9 -only crr"; o.command != want {
		t.Errorf("command %q, want %q", o.command, want)
	}
	for _, args := range []string{"-rounds 0", "-time 1ms", "-warmup -1s", "-idle 0", "-udp-idle 0", "-speed 9", "crr"} {
		var said strings.Builder
		if o, err := parseFlags(strings.Fields(args), &said); err == nil {
			t.Errorf("%s: got %+v, want an error", args, o)
		}
		if said.Len() == 0 {
			t.Errorf("%s: nothing said", args)
		}
	}
}

func TestChoose(t *testing.T) {
	t.Parallel()
	all := workloads(10, 20)
	names := func(list []workload) (s []string) {
		for _, w := range list {
			s = append(s, w.name)
		}
		return s
	}
	for list, want := range map[string][]string{
		"":              {"crr", "pingpong", "pingpong-1k", "bulk-up", "bulk-down", "idle", "udp-128", "udp-1200", "udp-idle"},
		"idle":          {"idle"},
		"bulk-up, crr ": {"crr", "bulk-up"},
	} {
		got, err := choose(all, list)
		if err != nil {
			t.Errorf("%q: %v", list, err)
		}
		if diff := cmp.Diff(want, names(got)); diff != "" {
			t.Errorf("%q (-want +got):\n%s", list, diff)
		}
	}
	if _, err := choose(all, "crr,flood"); err == nil || !strings.Contains(err.Error(), `"flood"`) {
		t.Errorf(`got %v, want an error that names "flood"`, err)
	}
}
