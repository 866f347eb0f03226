package main

import (
	"bytes"
	"context"
	"debug/buildinfo"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"time"
)

// target is a system that usher is built for.
type target struct{ os, arch string }

func (t target) String() string { return t.os + "/" + t.arch }

// program is the name of the binary.
func (t target) program() string {
	if t.os == "windows" {
		return "usher.exe"
	}
	return "usher"
}

// allTargets are the systems of a release.
func allTargets() (all []target) {
	for _, system := range []string{"linux", "darwin", "windows", "freebsd"} {
		for _, arch := range []string{"amd64", "arm64"} {
			all = append(all, target{system, arch})
		}
	}
	return all
}

// parseTargets reads OS/ARCH,...; nothing means all.
func parseTargets(list string) ([]target, error) {
	all := allTargets()
	if list == "" {
		return all, nil
	}
	var some []target
	for word := range strings.SplitSeq(list, ",") {
		i := slices.IndexFunc(all, func(t target) bool { return t.String() == word })
		if i < 0 {
			return nil, fmt.Errorf("no target %q (have %v)", word, all)
		}
		some = append(some, all[i])
	}
	return some, nil
}

// host is the target that runs here.
func host() target { return target{runtime.GOOS, runtime.GOARCH} }

// build builds usher for a target, unless the file is there. What the environment says of Go's output does not count.
func (r *release) build(ctx context.Context, t target, to string) error {
	if _, err := os.Stat(to); err == nil {
		return nil
	}
	linker := "-s -w"
	if r.version != "" {
		linker += " -X usher/internal/version.stamped=" + r.version
	}
	env := []string{"CGO_ENABLED=0", "GOOS=" + t.os, "GOARCH=" + t.arch, "GOAMD64=v1", "GOARM64=v8.0", "GOFLAGS=", "GOEXPERIMENT=", "GOWORK=off"}
	_, err := output(ctx, r.root, env, "go", "build", "-trimpath", "-ldflags="+linker, "-o", to, ".")
	return err
}

// binary is where the binary of a target is while the release is made.
func binary(scratch string, t target) string { return filepath.Join(scratch, t.os+"-"+t.arch) }

// nameOf is the version in the names of archives: that of the release, or of the build.
func (r *release) nameOf(program string) (string, error) {
	if r.version != "" {
		return r.version, nil
	}
	info, err := buildinfo.ReadFile(program)
	if err != nil {
		return "", err
	}
	if v := info.Main.Version; v != "" && v != "(devel)" {
		return v, nil
	}
	return "devel", nil
}

// commitTime is that of the last commit. Outside of a repository it is the first time that zip files can have.
func (r *release) commitTime(ctx context.Context) (time.Time, error) {
	if _, err := os.Stat(filepath.Join(r.root, ".git")); err != nil {
		return time.Date(1980, 1, 1, 0, 0, 0, 0, time.UTC), nil
	}
	text, err := output(ctx, r.root, nil, "git", "log", "-1", "--format=%ct")
	if err != nil {
		return time.Time{}, err
	}
	seconds, err := strconv.ParseInt(strings.TrimSpace(text), 10, 64)
	return time.Unix(seconds, 0).UTC(), err
}

// output runs a program and returns what it prints.
func output(ctx context.Context, folder string, env []string, program string, words ...string) (string, error) {
	cmd := exec.CommandContext(ctx, program, words...)
	cmd.Dir, cmd.Env = folder, append(os.Environ(), env...)
	var failure bytes.Buffer
	cmd.Stderr = &failure
	out, err := cmd.Output()
	if err != nil {
		return "", fmt.Errorf("%s: %w\n%s", strings.Join(cmd.Args, " "), err, &failure)
	}
	return string(out), nil
}
