package configfile

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"usher/internal/config"
)

// examples holds files of a kind, good or bad.
const examples = "../../testdata/config/"

// TestGood: each documented form loads.
func TestGood(t *testing.T) {
	t.Parallel()
	for _, path := range glob(t, examples+"good/*.yaml") {
		f, err := Load(path, nil)
		if err != nil {
			t.Errorf("%s: %v", path, err)
			continue
		}
		wantSame(t, f, mustParse(t, string(Encode(plan(t, f))), nil))
	}
}

// TestBad: each file has one mistake, and its message stands beside it.
func TestBad(t *testing.T) {
	t.Parallel()
	for _, path := range glob(t, examples+"bad/*.yaml") {
		text, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		want, err := os.ReadFile(strings.TrimSuffix(path, "yaml") + "txt")
		if err != nil {
			t.Error(err)
		}
		got := "it loads\n"
		f, err := Parse("usher.yaml", text, nil)
		if err == nil {
			err = f.Locate(plan(t, f).Complete())
		}
		if err != nil {
			got = err.Error() + "\n"
		}
		if got != string(want) {
			t.Errorf("%s\n got %s\nwant %s", path, got, want)
		}
	}
}

// TestFileErrors: files that cannot be read.
func TestFileErrors(t *testing.T) {
	t.Parallel()
	folder := t.TempDir()
	large := filepath.Join(folder, "large")
	if err := os.WriteFile(large, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(large, maxFile+1); err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string]string{
		folder:                   ": this is a directory, not a file",
		folder + "/none":         ": no such file or directory",
		large:                    ": the file is larger than 64 MiB",
		large + "/x":             ": not a directory",
		folder + "/none\x00":     ": invalid argument",
		folder + "/none/of/them": ": no such file or directory",
	} {
		_, err := Load(path, nil)
		if err == nil || err.Error() != path+want {
			t.Errorf("%q: %v, want %s", path, err, want)
		}
	}
	if _, err := Load(folder+"/none", nil); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("%v is not ErrNotExist", err)
	}
}

// TestShare: a reload keeps the pointer of what it leaves as it was, also in another order and with other comments.
func TestShare(t *testing.T) {
	t.Parallel()
	const a, b = "  a:\n    listen: 8001\n    backends: 9001\n", "  b:\n    listen: 8002\n    backends: 9002\n"
	for name, forms := range map[string][2]string{
		"blocks":  {"services:\n" + a + b, "# x\nworkers: 1\nservices:\n" + b + strings.ReplaceAll(a, "9001", "[9001, 9003]")},
		"comment": {"services:\n" + a + b, "services:\n" + strings.ReplaceAll(a, "9001", "[9001, 9003]") + b + "    # of b\n"},
		"flow": {`{services: {a: {listen: 8001, backends: 9001}, b: {listen: 8002, backends: 9002}}}`,
			"services:\n" + b + strings.ReplaceAll(a, "9001", "9003")},
	} {
		before := mustParse(t, forms[0], nil)
		after := mustParse(t, forms[1], before)
		if !slices.Contains(after.Services, service(t, before, "b")) {
			t.Errorf("%s: b is as it was, but not the same", name)
		}
		if service(t, after, "a") == service(t, before, "a") {
			t.Errorf("%s: a changed, but is the same", name)
		}
	}
}

// TestReuse: loads in the memory of old files read what is there, share what has not changed, and find services that are
// given twice.
func TestReuse(t *testing.T) {
	t.Parallel()
	const seed = 1 // another one tests other cases
	r := rand.New(rand.NewPCG(seed, 0))
	path := filepath.Join(t.TempDir(), "usher.yaml")
	load := func(text string, before *File) (*File, error) {
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return Load(path, before)
	}
	var before *File
	entries := make(map[string]string)
	for range 100 {
		changed := make(map[string]bool)
		text, names := "services:\n", r.Perm(8)[:1+r.IntN(8)]
		for _, i := range names {
			name := fmt.Sprint("s", i)
			if changed[name] = r.IntN(3) == 0 || entries[name] == ""; changed[name] {
				entries[name] = fmt.Sprintf("  %s:\n    listen: %d\n    backends: 10.0.0.1:%d\n", name, 8000+i, 1+r.IntN(60_000))
			}
			text += entries[name]
		}
		twice := fmt.Sprint("s", names[r.IntN(len(names))])
		want := fmt.Sprintf("key %q is given twice (before: line %d)", twice, 1+strings.Count(text[:strings.Index(text, twice)+1], "\n"))
		if _, err := load(text+entries[twice], before); err == nil || !strings.Contains(err.Error(), want) {
			t.Fatalf("%v, want %s", err, want)
		}
		after, err := load(text, before)
		if err != nil {
			t.Fatalf("%v\n%s", err, text)
		}
		wantSame(t, mustParse(t, text, nil), after)
		if before != nil {
			for _, s := range before.Services {
				if !changed[s.Name] && strings.Contains(text, s.Name+":") && !slices.Contains(after.Services, s) {
					t.Fatalf("%s is as it was, but not the same\n%s", s.Name, text)
				}
			}
		}
		after.Reuse(before)
		before = after
	}
}

// TestTemplates: a template is evaluated at each load, and yields one address or several.
func TestTemplates(t *testing.T) {
	t.Parallel()
	yields := "10.0.0.1 fd00::1"
	load := func(previous *File) *File {
		const text = "services: {a: {listen: '{{ x }}:80', backends: ['{{ x }}:81', {address: '{{ x }}:82', max: 2}]}}"
		f := &File{decoder: newDecoder(source{text: []byte(text)})}
		f.evaluate = func(string) (string, error) { return yields, nil }
		if err := f.parse(previous); err != nil {
			t.Fatal(err)
		}
		return f
	}
	first := load(nil)
	if got := string(EncodeService(first.Services[0])); got != `name: a
listen:
  - 10.0.0.1:80
  - "[fd00::1]:80"
backends:
  - 10.0.0.1:81
  - "[fd00::1]:81"
  - 10.0.0.1:82,max=2
  - "[fd00::1]:82,max=2"
` {
		t.Error(got)
	}
	if again := load(first); again.Services[0] != first.Services[0] {
		t.Error("the addresses are the same, but not the service")
	}
	yields = "10.0.0.2"
	if again := load(first); again.Services[0].Listeners[0].String() != "10.0.0.2:80" {
		t.Errorf("got %v of another address", again.Services[0].Listeners)
	}
}

// plan is the whole plan of a file.
func plan(t *testing.T, f *File) *config.Config {
	t.Helper()
	p := config.DefaultProcess()
	for _, o := range f.Options {
		if err := p.Set(o.Name, o.Value); err != nil {
			t.Fatal(err)
		}
	}
	return &config.Config{Services: f.Services, Process: p, Rules: f.Rules}
}

// wantSame compares the plans of two files.
func wantSame(t *testing.T, want, got *File) {
	t.Helper()
	if diff := cmp.Diff(plan(t, want), plan(t, got), equate); diff != "" {
		t.Error(diff)
	}
}

func mustParse(t *testing.T, text string, previous *File) *File {
	t.Helper()
	f, err := Parse("usher.yaml", []byte(text), previous)
	if err != nil {
		t.Fatalf("%v\n%s", err, text)
	}
	return f
}

func service(t *testing.T, f *File, name string) *config.Service {
	t.Helper()
	i := slices.IndexFunc(f.Services, func(s *config.Service) bool { return s.Name == name })
	if i < 0 {
		t.Fatalf("no service %q", name)
	}
	return f.Services[i]
}

// glob returns the files of a pattern; there are some.
func glob(t testing.TB, pattern string) []string {
	t.Helper()
	paths, err := filepath.Glob(pattern)
	if err != nil || len(paths) == 0 {
		t.Fatalf("%s: %v, %v", pattern, paths, err)
	}
	return paths
}

// TestLargeFileOfWindows: the ends of lines are of no matter, also in a file that is too large to be parsed as a whole.
func TestLargeFileOfWindows(t *testing.T) {
	t.Parallel()
	var text strings.Builder
	text.WriteString("services:\r\n")
	for i := 0; text.Len() <= maxWhole; i++ {
		fmt.Fprintf(&text, "  s%d:\r\n    listen: 127.0.0.1:%d\r\n    backends: 9001\r\n    # %s\r\n", i, 1+i, strings.Repeat("x", 4096))
	}
	if _, err := Parse("usher.yaml", []byte(text.String()), nil); err != nil {
		t.Error(err)
	}
	text.WriteString("  last: {schedulr: rr}\r\n")
	if _, err := Parse("usher.yaml", []byte(text.String()), nil); err == nil || !strings.HasSuffix(err.Error(), "last: {schedulr: rr}\n         ^") {
		t.Error(err)
	}
}
