package command

import (
	"bytes"
	"math/rand/v2"
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
		{"--ops udp:53=1 --ops=dns=true --udp-replies -1", config.Words{
			Mappings: []string{"udp:53=1"},
			Options:  []config.Option{option("udp-replies", "-1"), option("ops", "true"), option("ops", "dns=true")}}},
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
		"--scheduller lc 8080=1":          "usher: unknown flag --scheduller (did you mean --scheduler? see usher --help)\n",
		"8080=1 --bogus":                  "usher: unknown flag --bogus (see usher --help)\n",
		"8080=1 --bakend=9001":            "usher: unknown flag --bakend (did you mean --backend? see usher --help)\n",
		"-x 8080=1":                       "usher: unknown flag -x (see usher --help)\n",
		"8080=1 --listen":                 "usher: flag --listen lacks its value\n",
		"--listen --backend 9001":         "usher: flag --listen lacks its value\n",
		"8080=1 --access-log=maybe":       `usher: --access-log: "maybe" is neither true nor false` + "\n",
		"demo --listen :80":               "usher: usher demo has no flag --listen\n",
		"--max-conns 3 demo":              "usher: usher demo has no flag --max-conns\n",
		"dem0":                            `usher: "dem0" is neither a command nor LISTEN=BACKEND (did you mean usher demo?)` + "\n",
		"version":                         `usher: "version" is neither a command nor LISTEN=BACKEND (did you mean usher --version?)` + "\n",
		"halp --workers 1":                `usher: "halp" is neither a command nor LISTEN=BACKEND (did you mean usher help?)` + "\n",
		"help dmeo":                       `usher: no help on "dmeo" (did you mean "demo"?)` + "\n",
		"8080=\x1b[31m9001":               `usher: 8080=\x1b[31m9001: "\x1b[31m9001" is neither an IP address nor a host name` + "\n",
		"--back\x07 1":                    `usher: unknown flag --back\a (see usher --help)` + "\n",
		"8080=\xff":                       `usher: 8080=\xff: "\xff" is neither an IP address nor a host name` + "\n",
		"8080=1 --wait 1\u200bs":          `usher: --wait 1\u200bs: "1\u200bs" is not a duration such as 500ms, 30s or 5m` + "\n",
		"demo --scheduler default=lc":     `usher: --scheduler default=lc: no service "default" (have demo)` + "\n",
		"demo more":                       `usher: demo takes no words, not "more"` + "\n",
		"demo --scheduler banana":         `usher: --scheduler banana: unknown scheduler "banana" (have rr, wrr, lc, wlc, sed, nq, fo, ovf, twos, p2c, ewma, lblc, lblcr, mh, sh, dh, ring, hrw)` + "\n",
		"8080":                            `usher: "8080" is not LISTEN=BACKEND[,BACKEND...], as in 8080=9001,9002` + "\n",
		"8080=1 --scheduler leastcon":     `usher: --scheduler leastcon: unknown scheduler "leastcon" (did you mean "lc"? have rr, wrr, lc, wlc, sed, nq, fo, ovf, twos, p2c, ewma, lblc, lblcr, mh, sh, dh, ring, hrw)` + "\n",
		"--workers 1":                     "usher: nothing to listen on: give LISTEN=BACKEND, as in 8080=9001,9002, or --listen and --backend\n",
		"udp:53=1 --udp-replies -1":       "usher: --udp-replies -1: -1 is out of range (0 to 1000000000)\n",
		"udp:53=1 --ops=perhaps":          `usher: --ops perhaps: "perhaps" is neither true nor false` + "\n",
		"udp:53=1 --ops=":                 `usher: --ops : "" is neither true nor false` + "\n",
		"8080=1 --ops":                    "usher: --ops true: this is for udp services, and there is none\n",
		"udp:53=1 --opps":                 "usher: unknown flag --opps (did you mean --ops? see usher --help)\n",
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
	for _, args := range [][]string{{"-h"}, {"help"}, {"help", "help"}, {"8080=9001", "--help"}} {
		if got := main(args...); got != page {
			t.Errorf("%v: not the same page:\n%s", args, got)
		}
	}
	for _, args := range [][]string{{"demo", "--help"}, {"help", "demo"}, {"-h", "demo"}} {
		if got := main(args...); !strings.HasPrefix(got, "usher demo starts") {
			t.Errorf("%v: %s", args, got)
		}
	}
	for topic, want := range topics() {
		got := main("help", topic)
		if got != want || strings.Count(got, "\n") > 40 {
			t.Errorf("help %s:\n%s", topic, got)
		}
		for _, line := range strings.Split(got, "\n") {
			if len(line) > 120 {
				t.Errorf("help %s has a long line: %s", topic, line)
			}
		}
	}
	for _, args := range [][]string{{"--version"}, {"-v"}} {
		if got := main(args...); !strings.HasPrefix(got, "usher version ") || strings.Count(got, "\n") != 1 {
			t.Errorf("%v: %q", args, got)
		}
	}
}

// The examples do what they say: each is understood, and where weights differ the scheduler weighs.
func TestExamples(t *testing.T) {
	t.Parallel()
	examples := 0
	_, text, _ := strings.Cut(help, "Examples\n")
	for line := range strings.Lines(text) {
		line, ok := strings.CutPrefix(line, "  usher ")
		if !ok {
			break
		}
		examples++
		line, _, _ = strings.Cut(line, "  ")
		w, err := words(t, strings.Fields(line)...)
		if err != nil {
			t.Fatal(err)
		}
		c, err := config.Parse(w)
		if err != nil {
			t.Fatal(err)
		}
		for _, s := range c.Services {
			for _, b := range s.Backends {
				if b.Weight != s.Backends[0].Weight && !slices.Contains([]string{"mh", "wrr"}, s.Scheduler.Name) {
					t.Errorf("%s: weights have no effect", line)
				}
			}
		}
	}
	if examples != 4 {
		t.Errorf("%d examples, want 4", examples)
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

// However a command line is spelled and ordered, the same words come out.
func FuzzArrange(f *testing.F) {
	f.Add("8080=9001 lc web=mh off", uint64(1))
	f.Add("demo help -x --listen = - --", uint64(2))
	f.Add("udp:53=1 true dns=true = perhaps", uint64(4))
	f.Add("{{ a=b }} 8081=1,2 --listen=x", uint64(3))
	f.Fuzz(func(t *testing.T, line string, seed uint64) {
		line = strings.ToValidUTF8(line, "") // the library's lists do not keep what is not
		random := rand.New(rand.NewPCG(seed, 0))
		all := slices.DeleteFunc(flags(), func(f cli.Flag) bool { return f.Names()[0] == "help" })
		var args []string
		want := config.Words{}
		options := make(map[string][]string)
		for _, word := range strings.Fields(line) {
			if !strings.HasPrefix(word, "-") && random.IntN(3) == 0 {
				if len(want.Mappings) == 0 {
					word += "=" // or it may be a command
				}
				args = append(args, word)
				want.Mappings = append(want.Mappings, word)
				continue
			}
			flag := all[random.IntN(len(all))]
			names := flag.Names()
			name := names[0]
			spelled := strings.Repeat("-", 1+random.IntN(2)) + names[random.IntN(len(names))]
			_, isBool := flag.(*cli.BoolFlag)
			isSwitch := slices.Contains(config.Switches(), name) // takes no word after it, but may have =VALUE
			switch {
			case isBool, isSwitch && random.IntN(2) == 0:
				args = append(args, spelled)
				word = "true"
			case isSwitch || strings.HasPrefix(word, "-") || random.IntN(2) == 0:
				args = append(args, spelled+"="+word)
			default:
				args = append(args, spelled, word)
			}
			switch {
			case name == "listen":
				want.Listen = append(want.Listen, word)
			case name == "backend":
				want.Backend = append(want.Backend, word)
			case slices.Contains(config.ProcessOptions(), name):
				options[name] = []string{word} // the last one holds
			default:
				options[name] = append(options[name], word)
			}
		}
		for _, name := range append(config.ServiceOptions(), config.ProcessOptions()...) {
			for _, value := range options[name] {
				want.Options = append(want.Options, config.Option{Name: name, Value: value})
			}
		}
		got, err := words(t, args...)
		if err != nil {
			t.Fatalf("%q: %v", args, err)
		}
		if diff := cmp.Diff(want, got, equateEmpty); diff != "" {
			t.Errorf("%q: %s", args, diff)
		}
	})
}
