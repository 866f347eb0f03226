package health_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"usher/health"
)

// newExec returns a check that runs this binary as a program.
func newExec(t testing.TB, words ...string) *health.Exec {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	c, err := health.NewExec(append([]string{self, asProgram}, words...))
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func TestNewExec(t *testing.T) {
	t.Parallel()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		name string
		args []string
		want []string
	}{
		{"a path", []string{self}, nil},
		{"a name", []string{"go", "version"}, nil},
		{"none", nil, []string{"no program"}},
		{"empty", []string{""}, []string{"no program"}},
		{"unknown name", []string{"usher-no-such-program"}, []string{"usher-no-such-program", "not found"}},
		{"unknown path", []string{"/nowhere/check.sh"}, []string{`"/nowhere/check.sh"`, "no such file"}},
		{"directory", []string{t.TempDir()}, []string{"program "}},
		{"not a program", []string{file(t, []byte("text"))}, []string{"ca.pem"}},
		{"zero byte", []string{self, "a\x00b"}, []string{"zero byte"}},
		{"giant", []string{self, strings.Repeat("x", 70_000)}, []string{"bytes, more than"}},
	} {
		if tt.name == "a name" {
			if _, err := health.NewExec(tt.args); err != nil {
				t.Logf("there is no go in PATH: %v", err)
			}
			continue
		}
		_, err := health.NewExec(tt.args)
		expectRefusal(t, tt.name, err, tt.want)
	}
}

var execTarget = health.Target{Name: "b", Network: "tcp", Address: "[::1]:9001"}

func TestExec(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name  string
		words []string
		waits bool
		want  string
	}{
		{name: "good", words: []string{"exit=0"}},
		{name: "bad", words: []string{"exit=1"}, want: "exit status 1"},
		{name: "worse", words: []string{"exit=255"}, want: "exit status 255"},
		{name: "with a reason", words: []string{"say=", "say=  disk is full", "say=and more", "exit=2"}, want: "exit status 2: disk is full"},
		{name: "words do not matter", words: []string{"say=disk is full", "print=no", "exit=0"}},
		{name: "a reason for a terminal", words: []string{"say=\x1b[31mred\x07" + strings.Repeat("é", 500), "exit=3"}, want: "exit status 3:  [31mred"},
		{name: "a reason that hides", words: []string{"say=a\u202eb\u009bc\u2028d\u200be", "exit=3"}, want: "exit status 3: a b c d e"},
		{name: "bytes", words: []string{"say=\xff\xfe", "exit=3"}, want: "exit status 3: ?"},
		{name: "no input", words: []string{"input", "exit=0"}},
		{name: "much output", words: []string{"flood=out", "exit=0"}},
		{name: "much error output", words: []string{"flood=err", "say=late", "exit=4"}, want: "exit status 4: 00000"},
		{name: "slow", words: []string{"say=waiting", "sleep"}, waits: true, want: "not done in time"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			err := check(t, newExec(t, tt.words...), execTarget, tt.waits)
			expectError(t, err, tt.want)
			if tt.name == "with a reason" && err != nil && !strings.HasSuffix(err.Error(), tt.want) {
				t.Errorf("%v says more than the first line", err)
			}
			if err != nil && !strings.Contains(err.Error(), execTarget.Address) {
				t.Errorf("%v does not name the target", err)
			}
		})
	}
}

func TestExecEnvironment(t *testing.T) {
	t.Setenv("USHER_TEST_SECRET", "do not tell")
	t.Setenv("HOME", "/home/of/test")
	for _, tt := range []struct {
		target health.Target
		want   []string
	}{
		{health.Target{Network: "tcp", Address: "10.0.0.1:80"}, []string{"10.0.0.1:80", "10.0.0.1", "80", "tcp"}},
		{health.Target{Network: "udp", Address: "[::1]:53"}, []string{"[::1]:53", "::1", "53", "udp"}},
		{health.Target{Network: "unix", Address: "/run/a:1"}, []string{"/run/a:1", "", "", "unix"}},
	} {
		path := filepath.Join(t.TempDir(), "environment")
		arguments := []string{"environment=" + path, "a b", "$HOME", "*", `"`, ""}
		expectError(t, check(t, newExec(t, arguments...), tt.target, false), "")
		got, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		want := []string{
			"USHER_BACKEND=" + tt.want[0], "USHER_BACKEND_HOST=" + tt.want[1],
			"USHER_BACKEND_PORT=" + tt.want[2], "USHER_BACKEND_NETWORK=" + tt.want[3],
			"PATH=" + os.Getenv("PATH"), "HOME=/home/of/test",
		}
		lines := strings.Split(string(got), "\n")
		lines = slices.DeleteFunc(lines, func(l string) bool { return strings.HasPrefix(strings.ToUpper(l), "SYSTEMROOT=") })
		if !slices.Equal(lines, append(want, arguments...)) {
			t.Errorf("the program saw %q, want %q", lines, append(want, arguments...))
		}
	}
}

func TestExecEndsWithItsContext(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "me")
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	result := make(chan error, 1)
	c := newExec(t, "me="+path, "sleep")
	go func() { result <- c.Check(ctx, execTarget) }()
	if !eventually(func() bool { _, err := os.Stat(path); return err == nil }) {
		t.Error("the program does not run")
	}
	cancel()
	select {
	case err := <-result:
		if !errors.Is(err, context.Canceled) {
			t.Errorf("check: %v", err)
		}
	case <-time.After(time.Minute):
		t.Fatal("the check outlives its context")
	}
	if err := c.Check(ctx, execTarget); !errors.Is(err, context.Canceled) {
		t.Errorf("check that starts too late: %v", err)
	}
}

// A missing program says nothing about targets.
func TestExecProgramGone(t *testing.T) {
	t.Parallel()
	if runtime.GOOS == "windows" {
		t.Skip("a script is no program there")
	}
	path := filepath.Join(t.TempDir(), "check")
	if err := os.WriteFile(path, []byte("#!/bin/sh\nexit 0\n"), 0o700); err != nil {
		t.Fatal(err)
	}
	c, err := health.NewExec([]string{path})
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	if err := check(t, c, execTarget, false); !errors.Is(err, health.ErrInconclusive) || !strings.Contains(err.Error(), path) {
		t.Errorf("check: %v, want an inconclusive one that names %s", err, path)
	}
}
