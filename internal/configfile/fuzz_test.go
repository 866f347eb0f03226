package configfile

import (
	"math/rand/v2"
	"os"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// FuzzLoad: a hostile file gives a plan or one mistake with its place. A plan is the same if the text is read in one
// piece, if it is written and read again, and if it is loaded again, and then it is shared.
func FuzzLoad(f *testing.F) {
	for _, path := range append(glob(f, examples+"good/*.yaml"), glob(f, examples+"bad/*.yaml")...) {
		text, err := os.ReadFile(path)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(text)
	}
	for _, text := range []string{
		"services:\n  a:\n    listen: [1\n  b:\n    ]\n", "services:\n  a: \"\n  b: 1\n  c: \"\n", "services:\n a: |\n  x\n b: >\n  y\nc: d\n",
		"services:\n  a: {listen: 1,\n  backends: 2}\n", "services: # x\n# y\n   # z\n a:\n  listen: 1\n  backends: [2] # 3\nworkers: 1\n",
		"services:\n a: &x\n  listen: 1\n b: *x\n", "services:\n - a\n", "a: &a [*a]\n", "a:\n<<: {b: 1}\n", "services:\n  a:\n   listen: 1\n   backends:\n   - 2\n   -\n     address: 3\n",
		"---\nservices:\n a: {}\n...\n", "services:\n  a:\n\tlisten: 1\n", strings.Repeat("[", 100), strings.Repeat("- ", 100), strings.Repeat("{a: ", 100),
		"? a\n: b\n", "!!map {a: b}", "%YAML 1.2\n---\na: b\n", "a: \x00\n", "a: 1\r\nb: 2\r\n", `{"services": {"a": {"listen": [1], "backends": ["2"], "ops": null}}}`,
		"services:\n  a:\n    listen: '{{ GetPrivateIP }}:80'\n    backends: 2\n", "services:\n  a:\n    listen: 1\n  \n    backends: 2\n    health: 'tcp\n\n  x'\n",
	} {
		f.Add([]byte(text))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		f, err := Parse("usher.yaml", text, nil)
		if err != nil {
			if summary := err.(*Error).Summary(); strings.Contains(summary, "\n") || len(err.Error()) > 2000 {
				t.Errorf("%q", err)
			}
			return
		}
		if strings.Contains(string(text), "{{") {
			return // a template yields what the machine has
		}
		whole := mustParseWhole(t, f.text)
		if diff := cmp.Diff(plan(t, whole), plan(t, f), equate); diff != "" {
			t.Errorf("as a whole it is another plan: %s", diff)
		}
		wantSame(t, f, mustParse(t, string(Encode(plan(t, f))), nil))
		again := mustParse(t, string(text), f)
		for i, s := range again.Services {
			if s != f.Services[i] {
				t.Errorf("%s is loaded again, but not the same", s.Name)
			}
		}
		if err := f.Locate(plan(t, f).Complete()); err != nil && strings.Contains(err.(*Error).Summary(), "\n") {
			t.Errorf("%q", err)
		}
	})
}

// TestMutations: a damaged file of several services never gives another plan part by part than as a whole.
func TestMutations(t *testing.T) {
	t.Parallel()
	const seed = 1 // another one tests other cases
	r := rand.New(rand.NewPCG(seed, 1))
	lines := []string{"  ", "    x: |", "      - a", "'", "\"", "[", "]", "{", "}", "#", " #", ":", ": ", "- ", "\n", "\n\n", "\n  a: ", "\n    listen: 1", "|\n", ">-\n", "...", "---", "a", "0"}
	parts := 0
	for i := 0; i < 100 || parts < 3 && i < 10_000; i++ { // few are read part by part
		c := randomPlan(t, r)
		text := string(Encode(c))
		for range 1 + r.IntN(3) {
			at := r.IntN(len(text) + 1)
			end := min(len(text), at+r.IntN(3))
			text = text[:at] + lines[r.IntN(len(lines))] + text[end:]
		}
		f, err := Parse("usher.yaml", []byte(text), nil)
		if err != nil {
			continue
		}
		if f.parts != nil {
			parts++
		}
		if diff := cmp.Diff(plan(t, mustParseWhole(t, f.text)), plan(t, f), equate); diff != "" {
			t.Fatalf("as a whole it is another plan: %s\n%s", diff, text)
		}
	}
	if parts == 0 {
		t.Error("no damaged file was read part by part")
	}
}
