//go:build linux

package conformance_test

import (
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"usher/internal/conformance"
	"usher/internal/race"
	"usher/internal/revision"
)

var seed = flag.Uint64("seed", 0, "play the cases with the `seed` that a failed run has logged")

var changes = flag.Int("soak.changes", 0, "make `n` random changes, under the full load; 0: few, under a light one")

// outEnv names a file that gets the table of the run. Peers run only with it: they are
// reported, not judged, and take half a minute.
const outEnv = "USHER_CONFORMANCE_OUT"

// binaryEnv names the binary to test, in place of one built for it.
const binaryEnv = "USHER_BINARY"

var build = struct {
	once sync.Once
	dir  string
	path string
	err  error
}{}

func TestMain(m *testing.M) {
	conformance.BackendMain()
	if order := os.Getenv(forwarderEnv); order != "" {
		runForwarder(order)
		return
	}
	keepToItself()
	overlap()
	code := m.Run()
	if build.dir != "" {
		os.RemoveAll(build.dir)
	}
	os.Exit(code)
}

// keepToItself sets close-on-exec on inherited descriptors, such as that of a lock
// file. The suite counts the descriptors of the processes that it starts.
func keepToItself() {
	open, _ := os.ReadDir("/proc/self/fd") // none without procfs
	for _, e := range open {
		if fd, err := strconv.Atoi(e.Name()); err == nil && fd > 2 {
			syscall.CloseOnExec(fd)
		}
	}
}

// overlap runs all tests of the package in parallel, even on a small machine, unless
// -parallel is given. They mostly wait.
func overlap() {
	flag.Parse()
	given := false
	flag.Visit(func(f *flag.Flag) { given = given || f.Name == "test.parallel" })
	if !given {
		flag.Set("test.parallel", "8")
	}
}

// usher builds the binary of this module once, where any user may run it. Under the
// race detector it has the detector and the invariant checks too. A user without a Go
// installation sets binaryEnv.
func usher(t *testing.T) string {
	t.Helper()
	if path := os.Getenv(binaryEnv); path != "" {
		return path
	}
	build.once.Do(func() {
		if build.dir, build.err = os.MkdirTemp("", "usher"); build.err != nil {
			return
		}
		if build.err = os.Chmod(build.dir, 0o755); build.err != nil {
			return
		}
		build.path = filepath.Join(build.dir, "usher")
		args := []string{"build", "-o", build.path}
		if race.Enabled {
			args = append(args, "-race", "-tags=invariants")
		}
		if out, err := exec.Command("go", append(args, "usher")...).CombinedOutput(); err != nil {
			build.err = fmt.Errorf("go build: %w\n%s", err, out)
		}
	})
	if build.err != nil {
		t.Fatal(build.err)
	}
	return build.path
}

// releaseOf returns the version of a binary for the table.
func releaseOf(t *testing.T, binary string) string {
	t.Helper()
	root, err := revision.Root(t.Context())
	if err != nil {
		t.Log(err) // the binary reports it itself
	}
	release, err := revision.Of(t.Context(), binary, root)
	if err != nil {
		t.Error(err)
	}
	return release
}

// giveAnotherTry runs the cases again that a peer failed, or that had no verdict. It
// has more patience and runs little beside them: a busy machine must not change the
// table.
func giveAnotherTry(t *testing.T, x conformance.Trial, results []conformance.Result) {
	again := make(map[string]*conformance.Result)
	for i, r := range results {
		if r.Outcome == conformance.Failed || strings.HasPrefix(r.Reason, "this machine is too slow") {
			again[r.Case.Name] = &results[i]
		}
	}
	o := x.Options
	o.Patience *= 4
	o.Only = func(c conformance.Case) bool { return again[c.Name] != nil }
	t.Run(x.Name, func(t *testing.T) {
		for _, r := range conformance.Run(t, x.Target, o).Results {
			*again[r.Case.Name] = r
		}
	})
}

// engines are usher's engines, which must pass the cases that only chooses; nil: all.
func engines(t *testing.T, release string, only func(conformance.Case) bool) (trials []conformance.Trial) {
	t.Helper()
	for _, engine := range []string{"epoll", "portable"} {
		trials = append(trials, conformance.Trial{
			Name:   engine,
			Target: &conformance.Usher{Path: usher(t), Engine: engine, Release: release},
			Options: conformance.Options{
				Strict: true, Short: testing.Short() || race.Enabled, Instrumented: race.Enabled, Seed: *seed, Changes: *changes, Only: only,
			},
		})
	}
	return trials
}

// isBeside reports whether the suites of flawed proxies run beside TestTargets. They
// do not when a table is made, or under the race detector.
func isBeside() bool { return os.Getenv(outEnv) == "" && !race.Enabled }

// TestTargetsAlone runs the cases that must run alone, before other tests begin.
func TestTargetsAlone(t *testing.T) {
	if !isBeside() {
		t.Skip("TestTargets runs these cases as well")
	}
	conformance.RunBeside(t, engines(t, "", func(c conformance.Case) bool { return c.Alone }))
}

// TestTargets runs the suite against both engines of usher, which must pass. Other
// proxies that are installed are only reported.
func TestTargets(t *testing.T) {
	if isBeside() {
		t.Parallel()
		conformance.RunBeside(t, engines(t, "", func(c conformance.Case) bool { return !c.Alone }))
		return
	}
	out := os.Getenv(outEnv)
	release := ""
	if out != "" {
		release = releaseOf(t, usher(t))
	}
	trials := engines(t, release, nil)
	peer := func(name string, target conformance.Target, err error) {
		switch {
		case err != nil:
		case out == "":
			err = errors.New("played when " + outEnv + " names a file for the table")
		case race.Enabled:
			err = errors.New("another program than usher gains nothing from the race detector")
		}
		if err != nil {
			t.Run(name, func(t *testing.T) { t.Skip(err) })
			return
		}
		trials = append(trials, conformance.Trial{
			Name: name, Target: target,
			Options: conformance.Options{Short: true, Patience: 2 * time.Second},
		})
	}
	haproxy, err := conformance.FindHAProxy()
	peer("haproxy", haproxy, err)
	nginx, err := conformance.FindNginx()
	peer("nginx", nginx, err)

	reports := conformance.RunBeside(t, trials)
	for i := range reports {
		if j := slices.IndexFunc(trials, func(x conformance.Trial) bool { return x.Target.Name() == reports[i].Target }); !trials[j].Options.Strict {
			giveAnotherTry(t, trials[j], reports[i].Results)
		}
	}
	table := conformance.Table(reports)
	t.Logf("\n%s", table)
	if out != "" {
		if err := os.WriteFile(out, []byte(strings.TrimSpace(table)+"\n"), 0o644); err != nil {
			t.Error(err)
		}
	}
}
