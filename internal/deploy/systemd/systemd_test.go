// Package systemd has units that run usher, and their test.
package systemd

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"usher/internal/command"
)

// units are the files, and where a unit has the program and its config file.
var units = []struct{ file, program, config string }{
	{"system/usher.service", "/usr/local/bin/usher", "/etc/usher/usher.yaml"},
	{"user/usher.service", "%h/.local/bin/usher", "%E/usher/usher.yaml"},
	{"system/usher.socket", "", ""},
}

// systemd finds no fault in the units.
func TestUnitsAreValid(t *testing.T) {
	t.Parallel()
	analyze, err := exec.LookPath("systemd-analyze")
	if err != nil {
		t.Skip("there is no systemd-analyze")
	}
	program, err := exec.LookPath("true") // systemd wants each program to be there
	if err != nil {
		t.Skip("there is no program true")
	}
	for _, folder := range []string{"system", "user"} {
		files, err := filepath.Glob(folder + "/usher.*")
		if err != nil || len(files) == 0 {
			t.Fatal(files, err)
		}
		temporary := t.TempDir()
		var paths []string
		for _, name := range files {
			text := read(t, name)
			for _, u := range units {
				if u.program != "" {
					text = strings.ReplaceAll(text, u.program, program)
				}
			}
			path := filepath.Join(temporary, filepath.Base(name))
			if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
				t.Fatal(err)
			}
			paths = append(paths, path)
		}
		cmd := exec.Command(analyze, append([]string{"verify", "--man=no", "--" + folder}, paths...)...)
		cmd.Env = append(os.Environ(), "XDG_RUNTIME_DIR="+temporary)
		if out, err := cmd.CombinedOutput(); err != nil || bytes.Contains(out, []byte("usher.")) {
			t.Errorf("%v: %v\n%s", files, err, out)
		}
	}
}

// What the units start passes usher's own check. Their other commands fail only because no usher runs.
func TestUnitsRunUsher(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "usher.yaml")
	if err := os.WriteFile(file, []byte("services: {web: {listen: 8080, backends: 9001}}\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	for _, u := range units {
		lines := execLines(read(t, u.file), u.program)
		if u.program != "" && len(lines) != 3 {
			t.Errorf("%s: %q, want what it starts, the check before, and the reload", u.file, lines)
		}
		for key, line := range lines {
			words := strings.Fields(strings.ReplaceAll(line, u.config, file))
			want := 0
			switch words[1] {
			case "serve":
				words[1] = "check"
			case "reload":
				want = 1
			}
			var out, failure bytes.Buffer
			if status := command.Main(t.Context(), words, &out, &failure); status != want {
				t.Errorf("%s: %s=%s: status %d: %s", u.file, key, line, status, &failure)
			}
		}
	}
}

// execLines are the command lines of a unit by their keys, with usher as the program.
func execLines(unit, program string) map[string]string {
	lines := make(map[string]string)
	for line := range strings.Lines(unit) {
		key, value, found := strings.Cut(strings.TrimSpace(line), "=")
		if words, isOurs := strings.CutPrefix(value, program+" "); found && isOurs && strings.HasPrefix(key, "Exec") {
			lines[key] = "usher " + words
		}
	}
	return lines
}

func read(t *testing.T, name string) string {
	t.Helper()
	text, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}
