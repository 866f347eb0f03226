package command

import (
	"bytes"
	"io"
	"iter"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/urfave/cli/v2"

	"usher/internal/config"
	"usher/internal/flags"
)

// words runs a command line up to the point where its words are gathered.
func words(t *testing.T, args ...string) (got flags.Words, err error) {
	t.Helper()
	root := newRoot(new(bytes.Buffer), new(bytes.Buffer))
	root.Action = func(c *cli.Context) error {
		got = gather(c)
		return nil
	}
	l, err := arrange(args, root)
	if err != nil {
		return got, err
	}
	return got, l.run(t.Context())
}

func TestWords(t *testing.T) {
	t.Parallel()
	option := func(name, value string) flags.Option { return flags.Option{Name: name, Value: value} }
	for _, tt := range []struct {
		args string
		want flags.Words
	}{
		{"8080=9001,9002", flags.Words{Mappings: []string{"8080=9001,9002"}}},
		{"8080=9001 --scheduler lc 8081=9002", flags.Words{
			Mappings: []string{"8080=9001", "8081=9002"}, Options: []flags.Option{option("scheduler", "lc")}}},
		{"-l :80 --listen=web=:81 -b 9001@3 --backend web=9002,9003 -s=web=mh --scheduler rr", flags.Words{
			Listen: []string{":80", "web=:81"}, Backend: []string{"9001@3", "web=9002,9003"},
			Options: []flags.Option{option("scheduler", "web=mh"), option("scheduler", "rr")}}},
		{"--health tcp,interval=1s,rise=2 8080=1 --access-log --workers 2 --workers 3", flags.Words{
			Mappings: []string{"8080=1"},
			Options:  []flags.Option{option("health", "tcp,interval=1s,rise=2"), option("workers", "3"), option("access-log", "true")}}},
		{"--access-log=false -- 8080=1 --not-a-flag", flags.Words{
			Mappings: []string{"8080=1", "--not-a-flag"}, Options: []flags.Option{option("access-log", "false")}}},
		{"--idle-timeout -1s 8080=1", flags.Words{Mappings: []string{"8080=1"}, Options: []flags.Option{option("idle-timeout", "-1s")}}},
		{"-listen :80 -backend 1", flags.Words{Listen: []string{":80"}, Backend: []string{"1"}}},
		{"--ops udp:53=1 --ops=dns=true --udp-replies -1", flags.Words{
			Mappings: []string{"udp:53=1"},
			Options:  []flags.Option{option("udp-replies", "-1"), option("ops", "true"), option("ops", "dns=true")}}},
		{"--wait= 8080=1", flags.Words{Mappings: []string{"8080=1"}, Options: []flags.Option{option("wait", "")}}},
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
		"demo --port 80":                  "usher: unknown flag --port (see usher demo --help)\n",
		"demo --listen :80":               "usher: usher demo has no flag --listen\n",
		"--max-conns 3 demo":              "usher: usher demo has no flag --max-conns\n",
		"dem0":                            `usher: "dem0" is neither a command nor LISTEN=BACKEND (did you mean usher demo?)` + "\n",
		"logs":                            `usher: "logs" is neither a command nor LISTEN=BACKEND (the log is on stderr of the running usher)` + "\n",
		"halp --workers 1":                `usher: "halp" is neither a command nor LISTEN=BACKEND (did you mean usher help?)` + "\n",
		"help dmeo":                       `usher: no help on "dmeo" (did you mean "demo"? have ` + topicNames() + ")\n",
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
		"8080=1 --ops":                    "usher: --ops true: only udp services have this option, and there is none here\n",
		"udp:53=1 --opps":                 "usher: unknown flag --opps (did you mean --ops? see usher --help)\n",
		"8080=1 --watch-config":           "usher: --watch-config has no effect without --config FILE\n",
		"--config= 8080=1":                "usher: --config lacks the path of the file\n",
		"-c none.yaml --scheduler lc":     "usher: --scheduler lc: there is no service here for this option (that of a service in a file stands there, with it)\n",
		"8080=1 --log-level= --workers 1": `usher: --log-level : unknown value "" (have debug, info, warn, error)` + "\n",
	} {
		var stdout, stderr bytes.Buffer
		status := Main(t.Context(), append([]string{"usher"}, strings.Fields(args)...), &stdout, &stderr)
		if status != 2 || stdout.Len() > 0 || stderr.String() != want {
			t.Errorf("usher %s: status %d, stdout %q, stderr\n%swant\n%s", args, status, &stdout, &stderr, want)
		}
	}
}

// topicNames are the pages of the help.
func topicNames() string {
	all := names(newRoot(io.Discard, io.Discard))
	for t := range topics() {
		all = append(all, t)
	}
	slices.Sort(all)
	return strings.Join(slices.Compact(all), ", ")
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
	if lines := strings.Count(page, "\n"); lines > 46 {
		t.Errorf("help has %d lines, more than a screen", lines)
	}
	for _, line := range strings.Split(page, "\n") {
		if len(line) > 120 {
			t.Errorf("help has a long line: %s", line)
		}
	}
	for _, f := range allFlags() {
		if !strings.Contains(page, "--"+f.Names()[0]) {
			t.Errorf("help lacks --%s", f.Names()[0])
		}
	}
	health := func(network string) string { s := config.NewService("", network); return s.Health.Kind }
	if want := "default " + health(config.TCP) + ", of udp " + health(config.UDP); !strings.Contains(page, want) {
		t.Errorf("help lacks the default checks: %s", want)
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
		if got := main(args...); !strings.HasPrefix(got, "usher demo: three built-in backends") {
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
	for c, path := range commandsBelow(newRoot(io.Discard, io.Discard)) {
		args := append(strings.Fields(path), "--help")
		if findDialect(append([]string{"usher"}, args...)) != nil {
			args = []string{"help", path} // --help is a word of the program itself
			if _, isTopic := topics()[path]; isTopic {
				continue
			}
		}
		got := main(args...)
		if !strings.HasPrefix(got, "usher "+path+": "+c.Usage+"\n\nUsage\n") || strings.Count(got, "\n") > 50 {
			t.Errorf("%s --help:\n%s", path, got)
		}
		for _, line := range strings.Split(got, "\n") {
			if len(line) > 120 || strings.HasSuffix(line, " ") {
				t.Errorf("%s --help has a long line, or one with a blank at its end: %q", path, line)
			}
		}
	}
	for _, args := range [][]string{{"--version"}, {"-v"}} {
		if got := main(args...); !strings.HasPrefix(got, "usher version ") || strings.Count(got, "\n") != 1 {
			t.Errorf("%v: %q", args, got)
		}
	}
}

// commandsBelow yields all commands with the names that lead to them.
func commandsBelow(c *cli.Command) iter.Seq2[*cli.Command, string] {
	return func(yield func(*cli.Command, string) bool) {
		for _, sub := range c.Subcommands {
			if !yield(sub, sub.Name) {
				return
			}
			for deeper, path := range commandsBelow(sub) {
				if !yield(deeper, sub.Name+" "+path) {
					return
				}
			}
		}
	}
}

// The examples of the help are valid, and where weights differ the scheduler weighs.
func TestExamples(t *testing.T) {
	t.Parallel()
	examples := 0
	_, text, _ := strings.Cut(rootTail, "Examples\n")
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
		c, err := flags.Parse(w)
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

// Any spelling and order of a command line yields the same words.
func FuzzArrange(f *testing.F) {
	f.Add("8080=9001 lc web=mh off", uint64(1))
	f.Add("demo help -x --listen = - --", uint64(2))
	f.Add("udp:53=1 true dns=true = perhaps", uint64(4))
	f.Add("{{ a=b }} 8081=1,2 --listen=x", uint64(3))
	f.Fuzz(func(t *testing.T, line string, seed uint64) {
		line = strings.ToValidUTF8(line, "") // the library's lists do not keep what is not
		random := rand.New(rand.NewPCG(seed, 0))
		all := allFlags()
		var args []string
		want := flags.Words{}
		options := make(map[string][]string)
		for _, word := range strings.Fields(line) {
			if isFile(word) {
				continue // or --access-log would refuse it
			}
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
			_, takesNone := impliedValue(name) // takes no word after it, but may have =VALUE
			switch {
			case isBool, takesNone && random.IntN(2) == 0:
				args = append(args, spelled)
				word = "true"
			case takesNone || strings.HasPrefix(word, "-") || random.IntN(2) == 0:
				args = append(args, spelled+"="+word)
			default:
				args = append(args, spelled, word)
			}
			switch {
			case name == "listen":
				want.Listen = append(want.Listen, word)
			case name == "backend":
				want.Backend = append(want.Backend, word)
			case name == "rule":
				want.Rules = append(want.Rules, word)
			case name == "policy":
				want.Policy = word // the last one holds
			case name == "config":
				want.File = word
			case config.IsProcessOption(config.Field(name)):
				options[name] = []string{word} // the last one holds
			default:
				options[name] = append(options[name], word)
			}
		}
		for _, f := range all {
			for _, value := range options[f.Names()[0]] {
				want.Options = append(want.Options, flags.Option{Name: f.Names()[0], Value: value})
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
