package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// study measures parts of usher: inside this process, or with processes that it starts. It returns
// a page of results. Its name is the first argument of the program, and that of the page.
type study struct {
	name string
	run  func(context.Context, studyOptions, io.Writer) ([]byte, error)
}

// studies are those that there are.
var studies = [...]study{
	{"schedulers", func(ctx context.Context, o studyOptions, progress io.Writer) ([]byte, error) {
		return runSchedulers(ctx, schedulerStudy, o, progress)
	}},
	{"disruption", func(ctx context.Context, o studyOptions, progress io.Writer) ([]byte, error) {
		return runDisruption(ctx, disruptionStudy, o, progress)
	}},
	{"tables", func(ctx context.Context, o studyOptions, progress io.Writer) ([]byte, error) {
		return runTables(ctx, tableStudy, o, progress)
	}},
	{"reload", func(ctx context.Context, o studyOptions, progress io.Writer) ([]byte, error) {
		return runReload(ctx, reloadStudy, o, progress)
	}},
	{"upgrade", func(ctx context.Context, o studyOptions, progress io.Writer) ([]byte, error) {
		return runUpgrade(ctx, upgradeStudy, o, progress)
	}},
	{"rules", func(ctx context.Context, o studyOptions, progress io.Writer) ([]byte, error) {
		return runRules(ctx, rulesStudy, o, progress)
	}},
	{"flood", func(ctx context.Context, o studyOptions, progress io.Writer) ([]byte, error) {
		return runFlood(ctx, o, progress)
	}},
	{"door", func(ctx context.Context, o studyOptions, progress io.Writer) ([]byte, error) {
		return runDoor(ctx, o, progress)
	}},
	{"kube", func(ctx context.Context, o studyOptions, progress io.Writer) ([]byte, error) {
		return runKube(ctx, kubeStudy, o, progress)
	}},
	{"dialects", func(ctx context.Context, o studyOptions, progress io.Writer) ([]byte, error) {
		return runDialects(ctx, dialectStudy, o, progress)
	}},
}

// studyOptions are a study's flags, and where and when it runs.
type studyOptions struct {
	rounds    int
	slot      time.Duration
	out       string
	before    string // a binary of usher to compare with
	command   string // as typed
	revision  string // of usher
	machine   string
	kernel    string
	goVersion string // Go's version
	date      string
}

// lookupStudy returns the study that the program's arguments ask for, if they do.
func lookupStudy(args []string) (study, bool) {
	for _, s := range studies {
		if len(args) > 0 && args[0] == s.name {
			return s, true
		}
	}
	return study{}, false
}

func parseStudyFlags(args []string, stderr io.Writer) (studyOptions, error) {
	o := studyOptions{
		command: strings.Join(append([]string{"go run ./bench"}, args...), " "),
		machine: machine(), kernel: kernel(), goVersion: compiler(),
		date: today(),
	}
	f := flag.NewFlagSet("bench "+args[0], flag.ContinueOnError)
	f.SetOutput(stderr)
	f.IntVar(&o.rounds, "rounds", 9, "how often each subject is measured")
	f.DurationVar(&o.slot, "time", 20*time.Millisecond, "approximate time of one subject in a round")
	f.StringVar(&o.out, "out", "", "folder to write the page of results to (default: stdout alone)")
	if args[0] == "door" {
		f.StringVar(&o.before, "before", "", "usher binary of an earlier revision to compare with")
	}
	if err := f.Parse(args[1:]); err != nil {
		return studyOptions{}, err
	}
	var wrong string
	switch {
	case f.NArg() > 0:
		wrong = fmt.Sprintf("unexpected argument %q", f.Arg(0))
	case o.rounds < 1:
		wrong = "-rounds must be at least 1"
	case o.slot < time.Microsecond || o.slot > time.Minute:
		wrong = "-time must be from 1µs to 1m"
	default:
		return o, nil
	}
	fmt.Fprintln(stderr, "bench:", wrong)
	return studyOptions{}, errors.New(wrong)
}

// do runs the study and writes its page to stdout, and to the folder that is asked for.
func (s study) do(ctx context.Context, o studyOptions, stdout, stderr io.Writer) error {
	if o.out != "" { // rather now than after minutes
		if info, err := os.Stat(o.out); err != nil {
			return fmt.Errorf("folder for the results: %w", err)
		} else if !info.IsDir() {
			return fmt.Errorf("folder for the results: %s is not a folder", o.out)
		}
	}
	text, err := s.run(ctx, o, stderr)
	if err != nil {
		return fmt.Errorf("%s: %w", s.name, err)
	}
	if _, err := stdout.Write(text); err != nil || o.out == "" {
		return err
	}
	return os.WriteFile(filepath.Join(o.out, s.page()), text, 0o644)
}

// page is the name of the study's file.
func (s study) page() string { return s.name + ".md" }

// writeStudyHead writes the title of a result, and where it came about.
func writeStudyHead(b *strings.Builder, title string, o studyOptions) {
	fmt.Fprintf(b, "# %s\n\n", title)
	fmt.Fprintf(b, "- command: `%s`\n- usher: %s\n- machine: %s\n- kernel: %s\n- Go: %s\n- date: %s\n",
		o.command, o.revision, o.machine, o.kernel, o.goVersion, o.date)
}

// grouped writes a whole number with a comma between thousands.
func grouped(n int) string {
	s := fmt.Sprint(n)
	for i := len(s) - 3; i > 0; i -= 3 {
		s = s[:i] + "," + s[i:]
	}
	return s
}

// sizesHead is the head of a table with a column for each size.
func sizesHead(first string, sizes []int, more ...string) []string {
	head := []string{first}
	for _, n := range sizes {
		head = append(head, grouped(n))
	}
	return append(head, more...)
}

// fine is number with more digits below 1.
func fine(v float64) string {
	if v < 0.995 {
		return fmt.Sprintf("%.3g", v)
	}
	return number(v)
}
