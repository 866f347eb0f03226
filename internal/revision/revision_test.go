package revision

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime/debug"
	"testing"
)

func TestOfSettings(t *testing.T) {
	t.Parallel()
	got := ofSettings([]debug.BuildSetting{{Key: "vcs.revision", Value: "0123456789abcdef"}, {Key: "vcs.modified", Value: "true"}})
	if got != "0123456789ab with changes" {
		t.Errorf("got %q", got)
	}
	if got := ofSettings([]debug.BuildSetting{{Key: "vcs.modified", Value: "true"}}); got != "" {
		t.Errorf("without a commit: %q", got)
	}
}

func TestOf(t *testing.T) {
	t.Parallel()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	expect := func(pattern, root string) {
		t.Helper()
		got, err := Of(t.Context(), self, root)
		if err != nil || !regexp.MustCompile("^"+pattern+"$").MatchString(got) {
			t.Errorf("%q, %v, want %s", got, err, pattern)
		}
	}
	expect("a binary with the SHA-256 [0-9a-f]{12}…", "")
	if _, err := exec.LookPath("git"); err != nil {
		t.Skip("git is not installed")
	}
	root := t.TempDir()
	git := func(args ...string) {
		t.Helper()
		args = append([]string{"-C", root, "-c", "user.name=x", "-c", "user.email=x@example.com"}, args...)
		if out, err := exec.Command("git", args...).CombinedOutput(); err != nil {
			t.Fatalf("git %v: %v\n%s", args, err, out)
		}
	}
	git("init", "--quiet")
	expect("a binary with .*", root) // no commit yet
	git("commit", "--quiet", "--allow-empty", "--message", "x")
	expect("[0-9a-f]{12}", root)
	if err := os.WriteFile(filepath.Join(root, "new"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	expect("[0-9a-f]{12} with changes", root)
}
