package migrate

import (
	"flag"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"usher/internal/config"
	"usher/internal/configfile"
)

var update = flag.Bool("update", false, "write the golden files")

// fixtures returns the texts of testdata, by their paths.
func fixtures(t testing.TB) map[string]string {
	t.Helper()
	all := make(map[string]string)
	for _, kind := range Kinds() {
		files, err := filepath.Glob(filepath.Join("testdata", string(kind), "*"))
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range files {
			if strings.HasSuffix(f, ".yaml") {
				continue
			}
			text, err := os.ReadFile(f)
			if err != nil {
				t.Fatal(err)
			}
			all[f] = string(text)
		}
	}
	return all
}

// kindIn is the kind of a fixture.
func kindIn(path string) Kind { return Kind(filepath.Base(filepath.Dir(path))) }

// The fixtures become the golden files, and those are config files of the same plan.
func TestFixtures(t *testing.T) {
	t.Parallel()
	for path, text := range fixtures(t) {
		kind, err := Detect(text)
		if err != nil || kind != kindIn(path) {
			t.Errorf("%s: kind %q, %v", path, kind, err)
		}
		r, err := Import(kindIn(path), text)
		if err != nil {
			t.Errorf("%s: %v", path, err)
			continue
		}
		out := r.YAML(filepath.Base(path))
		checkLoads(t, path, r, out)
		golden := strings.TrimSuffix(path, filepath.Ext(path)) + ".yaml"
		if *update {
			if err := os.WriteFile(golden, out, 0o644); err != nil {
				t.Fatal(err)
			}
		}
		want, err := os.ReadFile(golden)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(string(want), string(out)); diff != "" {
			t.Errorf("%s: %s", path, diff)
		}
	}
}

// checkLoads checks that a file has the plan of a result.
func checkLoads(t testing.TB, name string, r *Result, out []byte) {
	t.Helper()
	file, err := configfile.Parse("usher.yaml", out, nil)
	if err != nil {
		t.Errorf("%s: %v\n%s", name, err, out)
		return
	}
	plan := config.Config{Services: file.Services, Rules: file.Rules, Process: config.DefaultProcess()}
	for _, o := range file.Options {
		if err := plan.Process.Set(o.Name, o.Value); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	if err := plan.Complete(); err != nil {
		t.Errorf("%s: %v\n%s", name, err, out)
		return
	}
	if diff := cmp.Diff(string(configfile.Encode(r.Plan)), string(configfile.Encode(&plan))); diff != "" {
		t.Errorf("%s: the plan is another one: %s", name, diff)
	}
}

// harmless are the beginnings of the lines of the fixtures that change nothing, and rightly so.
var harmless = []string{
	"daemon", "ca-base", "option dontlognull", "option  dontlognull", "option clitcpka", "retries", "balance roundrobin", "tcp-check connect", "mode tcp",
	"timeout ",                                                                  // of two that are alike one counts, and 5s is usher's own
	"tcp-request inspect-delay 5s", "tcp-request content accept", "ssl_preread", // a listener with names waits so by itself
	"tcp-request connection track-sc0", // what counts is the line that reads the counter
	"}", "events {}", "events {", "'$", "pid ", "hostnames;", "worker_processes auto", "load_module", "include /etc/nginx/modules-enabled",
	":PREROUTING", ":INPUT ACCEPT", ":OUTPUT ACCEPT", ":POSTROUTING", "-A OUTPUT ! -d 127.0.0.0/8 -m addrtype", // as PREROUTING says
	"-A POSTROUTING -s 172.17.0.0/16 ! -o docker0 -j MASQUERADE", // what usher does anyway
	"-A DOCKER -i docker0 -j RETURN",                             // the rules below say so too
}

// A line that is taken out of a fixture changes the plan or the notes, unless it is harmless: no line is lost in silence.
func TestEveryLineCounts(t *testing.T) {
	t.Parallel()
	for path, text := range fixtures(t) {
		kind := kindIn(path)
		whole, err := Import(kind, text)
		if err != nil {
			t.Fatal(err)
		}
		before := string(whole.YAML("x"))
		lines := strings.Split(text, "\n")
		for i, line := range lines {
			bare := strings.TrimSpace(line)
			if bare == "" || bare[0] == '#' || hasPrefix(bare, harmless) {
				continue
			}
			lines[i] = ""
			r, err := Import(kind, strings.Join(lines, "\n"))
			lines[i] = line
			if err != nil {
				continue
			}
			_, after, _ := strings.Cut(string(r.YAML("x")), "\n")
			if strings.HasSuffix(before, after) && len(whole.Notes) == len(r.Notes) {
				t.Errorf("%s:%d: %s: nobody sees that it is missing", path, i+1, bare)
			}
		}
	}
}

func hasPrefix(text string, prefixes []string) bool {
	for _, p := range prefixes {
		if strings.HasPrefix(text, p) {
			return true
		}
	}
	return false
}

// A directive that nobody knows is noted wherever it stands.
func TestUnknownDirectivesAreNoted(t *testing.T) {
	t.Parallel()
	const word = "frobnicate"
	for path, text := range fixtures(t) {
		kind, line := kindIn(path), word+" quickly"
		if kind == Nginx {
			line += ";"
		}
		lines := strings.Split(text, "\n")
		for i := range lines {
			at := append(append(append([]string(nil), lines[:i]...), line), lines[i:]...)
			r, err := Import(kind, strings.Join(at, "\n"))
			if err != nil {
				continue // in the middle of a directive
			}
			found := strings.Contains(string(configfile.Encode(r.Plan)), word) // a name in a map
			for _, n := range r.Notes {
				found = found || strings.Contains(n.Text, word) && n.Line <= i+1
			}
			if !found {
				t.Errorf("%s:%d: it is lost in silence", path, i+1)
			}
		}
	}
}

// The real programs, where they are installed, accept the fixtures.
func TestRealProgramsAcceptFixtures(t *testing.T) {
	t.Parallel()
	const module = "/usr/lib/nginx/modules/ngx_stream_module.so"
	for path, text := range fixtures(t) {
		var words []string
		switch kind := kindIn(path); {
		case kind == HAProxy:
			words = []string{"haproxy", "-c", "-f", path}
		case kind == Nginx && !strings.HasPrefix(text, fileMark):
			file := filepath.Join(t.TempDir(), "nginx.conf")
			if _, err := os.Stat(module); err == nil {
				text = "load_module " + module + ";\n" + text
			}
			text = "pid " + filepath.Join(filepath.Dir(file), "pid") + ";\n" + strings.Replace(text, "pid /tmp/usher-import-nginx.pid;", "", 1)
			if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
			words = []string{"nginx", "-t", "-c", file}
		default:
			continue
		}
		program, err := exec.LookPath(words[0])
		if err != nil {
			t.Logf("%s is not installed", words[0])
			continue
		}
		out, err := exec.Command(program, words[1:]...).CombinedOutput()
		if strings.Contains(string(out), "syntax is ok") {
			continue // nginx tries the addresses next, which need not be there
		}
		if err != nil {
			t.Errorf("%s: %v\n%s", strings.Join(words, " "), err, out)
		}
	}
}

func FuzzImport(f *testing.F) {
	for path, text := range fixtures(f) {
		for i, kind := range Kinds() {
			if kind == kindIn(path) {
				f.Add(i, text)
			}
		}
	}
	f.Add(3, fileMark+"a:\nstream { include a; include b; }\n"+fileMark+"b:\ninclude b; include a;\n")
	f.Add(2, "listen a\nbind :1\nserver b 10.0.0.1:1 check\noption tcp-check\ntcp-check")
	f.Fuzz(func(t *testing.T, i int, text string) {
		kinds := Kinds()
		if i < 0 || i >= len(kinds) {
			return
		}
		_, _ = Detect(text)
		r, err := Import(kinds[i], text)
		if err != nil {
			return
		}
		checkLoads(t, text, r, r.YAML("x"))
	})
}
