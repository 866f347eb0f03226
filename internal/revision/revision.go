// Package revision says which revision of usher a result is of. Reports of measurements
// and of the conformance suite use it.
package revision

import (
	"context"
	"crypto/sha256"
	"debug/buildinfo"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime/debug"
	"strings"
)

// Of returns the commit that a binary was built from, and whether there were changes. The
// go command writes neither from a worktree, nor from a folder of another user; then git
// tells them of root, unless that is empty. Failing both, it returns the binary's hash.
func Of(ctx context.Context, binary, root string) (string, error) {
	info, err := buildinfo.ReadFile(binary)
	if err != nil {
		return "", fmt.Errorf("read the build information of %s: %w", binary, err)
	}
	if commit := ofSettings(info.Settings); commit != "" {
		return commit, nil
	}
	if commit := ofTree(ctx, root); commit != "" {
		return commit, nil
	}
	content, err := os.ReadFile(binary)
	if err != nil {
		return "", err
	}
	sum := sha256.Sum256(content)
	return fmt.Sprintf("a binary with the SHA-256 %x…", sum[:6]), nil
}

// Root returns the folder of the module that the working directory is in.
func Root(ctx context.Context) (string, error) {
	gomod, err := exec.CommandContext(ctx, "go", "env", "GOMOD").Output()
	if err != nil {
		return "", fmt.Errorf("find the module: %w", err)
	}
	return filepath.Dir(strings.TrimSpace(string(gomod))), nil
}

func ofSettings(built []debug.BuildSetting) string {
	commit, changes := "", ""
	for _, s := range built {
		switch {
		case s.Key == "vcs.revision":
			commit = short(s.Value)
		case s.Key == "vcs.modified" && s.Value == "true":
			changes = withChanges
		}
	}
	if commit == "" {
		return ""
	}
	return commit + changes
}

func ofTree(ctx context.Context, root string) string {
	if root == "" {
		return ""
	}
	git := func(args ...string) (string, error) {
		out, err := exec.CommandContext(ctx, "git", append([]string{"-c", "safe.directory=*", "-C", root}, args...)...).Output()
		return strings.TrimSpace(string(out)), err
	}
	commit, err := git("rev-parse", "HEAD")
	if err != nil {
		return ""
	}
	if changes, err := git("status", "--porcelain"); err != nil || changes != "" {
		return short(commit) + withChanges
	}
	return short(commit)
}

const withChanges = " with changes"

// short returns the first digits of a commit, which name it well enough.
func short(commit string) string { return commit[:min(len(commit), 12)] }
