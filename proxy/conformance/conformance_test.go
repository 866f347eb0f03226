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
	"strings"
	"sync"
	"testing"
	"time"

	"usher/proxy/conformance"
)

var seed = flag.Uint64("seed", 0, "play the cases with the `seed` that a failed run has logged")

// outEnv names a file that gets the table of the run. Only then the peers play: they
// are reported, not judged, and take half a minute.
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
	overlap()
	code := m.Run()
	if build.dir != "" {
		os.RemoveAll(build.dir)
	}
	os.Exit(code)
}

// overlap has all tests of the package run beside each other, on however small a
// machine, unless -parallel says otherwise: most of the time they wait.
func overlap() {
	flag.Parse()
	given := false
	flag.Visit(func(f *flag.Flag) { given = given || f.Name == "test.parallel" })
	if !given {
		flag.Set("test.parallel", "8")
	}
}

// usher builds the binary of this module once, with the race detector when the
// tests have it, where any user may run it. A user without a Go installation
// names one that is there.
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
		if raceEnabled {
			args = append(args, "-race")
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

// giveAnotherTry plays the cases again that a peer has failed, or that had no verdict, with
// more patience and little beside it: what the table says of others is not the fault of
// a busy machine.
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

// TestTargets runs the suite against both engines of usher, which must pass,
// and against the other proxies that are installed, which are only reported.
func TestTargets(t *testing.T) {
	out := os.Getenv(outEnv)
	var trials []conformance.Trial
	for _, engine := range []string{"epoll", "portable"} {
		trials = append(trials, conformance.Trial{
			Name:   engine,
			Target: &conformance.Usher{Path: usher(t), Engine: engine},
			Options: conformance.Options{
				Strict: true, Short: testing.Short() || raceEnabled, Instrumented: raceEnabled, Seed: *seed,
			},
		})
	}
	peer := func(name string, target conformance.Target, err error) {
		switch {
		case err != nil:
		case out == "":
			err = errors.New("played when " + outEnv + " names a file for the table")
		case raceEnabled:
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
