package command

import (
	"bytes"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/urfave/cli/v2"

	"usher/internal/config"
)

// words runs a command line up to the point where its words are gathered.
func words(t *testing.T, args ...string) (config.Words, error) {
	t.Helper()
	var got config.Words
	app := newApp(new(bytes.Buffer), new(bytes.Buffer))
	app.Action = func(c *cli.Context) error {
		got = gather(c)
		return nil
	}
	arranged, err := arrange(args, app)
	if err != nil {
		return got, err
	}
	return got, app.RunContext(t.Context(), append([]string{"usher"}, arranged...))
}

func TestWords(t *testing.T) {
	t.Parallel()
	option := func(name, value string) config.Option { return config.Option{Name: name, Value: value} }
	for _, tt := range []struct {
		args string
		want config.Words
	}{
		{"8080=9001,9002", config.Words{Mappings: []string{"8080=9001,9002"}}},
		{"8080=9001 --scheduler lc 8081=9002", config.Words{
			Mappings: []string{"8080=9001", "8081=9002"}, Options: []config.Option{option("scheduler", "lc")}}},
		{"-l :80 --listen=web=:81 -b 9001@3 --backend web=9002,9003 -s=web=mh --scheduler rr", config.Words{
			Listen: []string{":80", "web=:81"}, Backend: []string{"9001@3", "web=9002,9003"},
			Options: []config.Option{option("scheduler", "web=mh"), option("scheduler", "rr")}}},
		{"--health tcp,interval=1s,rise=2 8080=1 --access-log --workers 2 --workers 3", config.Words{
			Mappings: []string{"8080=1"},
			Options:  []config.Option{option("health", "tcp,interval=1s,rise=2"), option("workers", "3"), option("access-log", "true")}}},
		{"--access-log=false -- 8080=1 --not-a-flag", config.Words{
			Mappings: []string{"8080=1", "--not-a-flag"}, Options: []config.Option{option("access-log", "false")}}},
		{"--idle-timeout -1s 8080=1", config.Words{Mappings: []string{"8080=1"}, Options: []config.Option{option("idle-timeout", "-1s")}}},
		{"-listen :80 -backend 1", config.Words{Listen: []string{":80"}, Backend: []string{"1"}}},
		{"--wait= 8080=1", config.Words{Mappings: []string{"8080=1"}, Options: []config.Option{option("wait", "")}}},
	} {
		got, err := words(t, strings.Fields(tt.args)...)
		if err != nil {
			t.Errorf("%s: %v", tt.args, err)
		} else if diff := cmp.Diff(tt.want, got, equateEmpty); diff != "" {
			t.Errorf("%s: %s", tt.args, diff)
		}
	}
}

var equateEmpty = cmp.Comparer(func(a, b []string) bool { return slices.Equal(a, b) })

func TestMistakes(t *testing.T) {
	t.Parallel()
	for args, want := range map[string]string{
		"--scheduller lc 8080=1":          "usher: unknown flag --scheduller (did you mean --scheduler?) (see usher --help)\n",
		"8080=1 --bogus":                  "usher: unknown flag --bogus (see usher --help)\n",
		"8080=1 --bakend=9001":            "usher: unknown flag --bakend (did you mean --backend?) (see usher --help)\n",
		"-x 8080=1":                       "usher: unknown flag -x (see usher --help)\n",
		"8080=1 --listen":                 "usher: flag --listen lacks its value\n",
		"--listen --backend 9001":         "usher: flag --listen lacks its value\n",
		"8080=1 --access-log=maybe":       `usher: --access-log: "maybe" is neither true nor false` + "\n",
		"demo --listen :80":               "usher: usher demo has no flag --listen\n",
		"--max-conns 3 demo":              "usher: usher demo has no flag --max-conns\n",
		"demo more":                       `usher: demo takes no words, not "more"` + "\n",
		"demo --scheduler banana":         `usher: --scheduler banana: unknown scheduler "banana" (have rr, lc, mh)` + "\n",
		"8080":                            `usher: "8080" is not LISTEN=BACKEND[,BACKEND...], as in 8080=9001,9002` + "\n",
		"8080=1 --scheduler leastcon":     `usher: --scheduler leastcon: unknown scheduler "leastcon" (did you mean "lc"? have rr, lc, mh)` + "\n",
		"--workers 1":                     "usher: nothing to listen on: give LISTEN=BACKEND, as in 8080=9001,9002, or --listen and --backend\n",
		"8080=1 --config usher.yaml":      "usher: unknown flag --config (see usher --help)\n",
		"8080=1 --log-level= --workers 1": `usher: --log-level : unknown value "" (have debug, info, warn, error)` + "\n",
	} {
		var stdout, stderr bytes.Buffer
		status := Main(t.Context(), append([]string{"usher"}, strings.Fields(args)...), &stdout, &stderr)
		if status != 2 || stdout.Len() > 0 || stderr.String() != want {
			t.Errorf("usher %s: status %d, stdout %q, stderr\n%swant\n%s", args, status, &stdout, &stderr, want)
		}
	}
}

func TestHelp(t *testing.T) {
	t.Parallel()
	main := func(args ...string) string {
		var stdout, stderr bytes.Buffer
		if status := Main(t.Context(), append([]string{"usher"}, args...), &stdout, &stderr); status != 0 || stderr.Len() > 0 {
			t.Errorf("%v: status %d, stderr %q", args, status, &stderr)
		}
		return stdout.String()
	}
	page := main("--help")
	if lines := strings.Count(page, "\n"); lines > 40 {
		t.Errorf("help has %d lines, more than a screen", lines)
	}
	for _, line := range strings.Split(page, "\n") {
		if len(line) > 120 {
			t.Errorf("help has a long line: %s", line)
		}
	}
	for _, f := range flags() {
		if !strings.Contains(page, "--"+f.Names()[0]) {
			t.Errorf("help does not tell of --%s", f.Names()[0])
		}
	}
	if !strings.Contains(page, "'{{ GetPrivateIP }}:8080'") || strings.Contains(page, "<") {
		t.Errorf("help is not what it should be:\n%s", page)
	}
	for _, args := range [][]string{{"-h"}, {"help"}, {"8080=9001", "--help"}} {
		if got := main(args...); got != page {
			t.Errorf("%v: not the same page:\n%s", args, got)
		}
	}
	for _, args := range [][]string{{"demo", "--help"}, {"help", "demo"}, {"-h", "demo"}} {
		if got := main(args...); !strings.HasPrefix(got, "usher demo starts") {
			t.Errorf("%v: %s", args, got)
		}
	}
	for _, args := range [][]string{{"--version"}, {"-v"}} {
		if got := main(args...); !strings.HasPrefix(got, "usher version ") || strings.Count(got, "\n") != 1 {
			t.Errorf("%v: %q", args, got)
		}
	}
}

func TestNoWords(t *testing.T) {
	t.Parallel()
	var stdout, stderr bytes.Buffer
	status := Main(t.Context(), []string{"usher"}, &stdout, &stderr)
	if status != 2 || stdout.Len() > 0 || strings.Count(stderr.String(), "\n") > 6 || !strings.Contains(stderr.String(), "usher 8080=9001,9002") {
		t.Errorf("status %d, stdout %q, stderr %q", status, &stdout, &stderr)
	}
}

func FuzzArrange(f *testing.F) {
	f.Add("8080=9001 --scheduler lc -- -x")
	f.Add("demo -s=lc --engine auto")
	f.Add("--listen - -b --=1 -= ---x")
	f.Fuzz(func(t *testing.T, line string) {
		// Every word survives, and what comes out parses.
		args := strings.Fields(line)
		app := newApp(new(bytes.Buffer), new(bytes.Buffer))
		ran := false
		app.Action = func(c *cli.Context) error {
			ran = true
			gather(c)
			return nil
		}
		app.Commands[0].Action = app.Action
		arranged, err := arrange(args, app)
		if err != nil {
			return
		}
		err = app.RunContext(t.Context(), append([]string{"usher"}, arranged...))
		wantsHelp := slices.ContainsFunc(arranged, func(w string) bool {
			return strings.HasPrefix(w, "--help") || strings.HasPrefix(w, "--version") || w == "help" || w == "h"
		})
		if !wantsHelp && (err != nil || !ran) {
			t.Errorf("%q became %q, which did not run: %v", args, arranged, err)
		}
	})
}
