// Package container tests the Dockerfile at the top, as far as that needs no container engine.
package container

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// top is the folder of the Dockerfile.
const top = "../../.."

// insideVariable has the test binary run as the first process of a container.
const insideVariable = "USHER_TEST_CONTAINER"

func TestMain(m *testing.M) {
	if text := os.Getenv(insideVariable); text != "" {
		if err := inside(text); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// image is what the last stage of the Dockerfile says.
type image struct {
	Root        string // the folder with its files
	User        int
	Environment []string
	Entry       []string
	Health      []string
	Words       []string // behind the entry point
	HasMemory   bool     // whether there is /dev/shm, as every engine mounts it
}

// The build stage builds usher and the licenses. The image's last stage runs it as an ordinary user without any right, on a
// root that is read only, and its health check answers.
func TestImage(t *testing.T) {
	t.Parallel()
	stages := readStages(t)
	build := t.TempDir()
	copyContext(t, build)
	runStage(t, stages[0], build)
	image := assemble(t, stages[1], build)
	for _, hasMemory := range []bool{true, false} {
		image.HasMemory = hasMemory
		out, err := enter(t, image)
		if err != nil {
			t.Fatalf("with /dev/shm: %v: %v\n%s", hasMemory, err, out)
		}
		health := "health: <nil>: ready\n"
		if !hasMemory {
			health = "health: exit status 1: usher: no usher is running " // usher serves, but nobody can ask it
		}
		for _, want := range []string{`"msg":"serving"`, health, `"msg":"stopped"`} {
			if !strings.Contains(out, want) {
				t.Errorf("with /dev/shm: %v: no %q:\n%s", hasMemory, want, out)
			}
		}
	}
}

// instruction is a line of a Dockerfile: FROM, RUN and so on.
type instruction struct{ name, rest string }

// readStages reads the Dockerfile, which has a stage that builds and a stage that is the image.
func readStages(t *testing.T) (stages [][]instruction) {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(top, "Dockerfile"))
	if err != nil {
		t.Fatal(err)
	}
	joined := strings.ReplaceAll(string(text), "\\\n", " ")
	for line := range strings.Lines(joined) {
		name, rest, _ := strings.Cut(strings.TrimSpace(line), " ")
		if name == "" || name[0] == '#' {
			continue
		}
		if name == "FROM" {
			stages = append(stages, nil)
		}
		last := len(stages) - 1
		if last < 0 {
			t.Fatalf("%s stands before FROM", name)
		}
		stages[last] = append(stages[last], instruction{name, strings.TrimSpace(rest)})
	}
	if len(stages) != 2 || stages[1][0].rest != "scratch" {
		t.Fatalf("%d stages, want one that builds and one from scratch: %q", len(stages), stages)
	}
	return stages
}

// copyContext copies the files that the build gets: those of the checkout that .dockerignore does not keep out.
func copyContext(t *testing.T, to string) {
	t.Helper()
	cmd := exec.Command("git", "ls-files", "-z", "--cached", "--others", "--exclude-standard")
	cmd.Dir = top
	list, err := cmd.Output()
	if err != nil {
		t.Skipf("the checkout is not of git: %v", err)
	}
	ignored, err := os.ReadFile(filepath.Join(top, ".dockerignore"))
	if err != nil {
		t.Fatal(err)
	}
	for name := range strings.SplitSeq(strings.TrimRight(string(list), "\x00"), "\x00") {
		text, err := os.ReadFile(filepath.Join(top, name))
		if os.IsNotExist(err) || isIgnored(name, string(ignored)) {
			continue
		}
		path := filepath.Join(to, name)
		if err == nil {
			err = os.MkdirAll(filepath.Dir(path), 0o755)
		}
		if err == nil {
			err = os.WriteFile(path, text, 0o644)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
}

// isIgnored reports whether .dockerignore keeps a file out. It knows what stands there: paths, and **/ before a name.
func isIgnored(name, ignored string) bool {
	for pattern := range strings.Lines(ignored) {
		pattern = strings.TrimSpace(pattern)
		if pattern == "" || pattern[0] == '#' {
			continue
		}
		below, anywhere := strings.CutPrefix(pattern, "**/")
		for folder := name; folder != "."; folder = filepath.Dir(folder) {
			match, _ := filepath.Match(pattern, folder)
			inner, _ := filepath.Match(below, filepath.Base(folder))
			if match || anywhere && inner {
				return true
			}
		}
	}
	return false
}

// runStage runs the RUN lines of the build stage in a folder, with its ARGs as an engine gives them.
func runStage(t *testing.T, stage []instruction, folder string) {
	t.Helper()
	env := append(os.Environ(), "VERSION=v0.0.0-test", "TARGETOS="+runtime.GOOS, "TARGETARCH="+runtime.GOARCH)
	for _, i := range stage {
		if i.name != "RUN" {
			continue
		}
		cmd := exec.CommandContext(t.Context(), "/bin/sh", "-ec", i.rest)
		cmd.Dir, cmd.Env = folder, env
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("RUN %s: %v\n%s", i.rest, err, out)
		}
	}
}

// assemble makes the root of the image, and reads how it is run.
func assemble(t *testing.T, stage []instruction, build string) (made image) {
	t.Helper()
	made.Root = t.TempDir()
	made.Words = []string{"127.0.0.1:0=127.0.0.1:1", "--health", "off"}
	list := func(text string) (words []string) {
		if err := json.Unmarshal([]byte(text), &words); err != nil {
			t.Fatalf("%s is no list of words, so that it would need a shell: %v", text, err)
		}
		return words
	}
	for _, i := range stage {
		switch i.name {
		case "COPY":
			copyFiles(t, i.rest, build, made.Root)
		case "ENV":
			made.Environment = append(made.Environment, i.rest)
		case "USER":
			if _, err := fmt.Sscanf(i.rest, "%d:", &made.User); err != nil || made.User == 0 {
				t.Fatalf("USER %s: it is no ordinary user by number", i.rest)
			}
		case "ENTRYPOINT":
			made.Entry = list(i.rest)
		case "HEALTHCHECK":
			_, words, _ := strings.Cut(i.rest, "CMD ")
			made.Health = list(words)
		}
	}
	if made.User == 0 || made.Entry == nil || made.Health == nil {
		t.Fatalf("USER, ENTRYPOINT or HEALTHCHECK is missing: %+v", made)
	}
	return made
}

// copyFiles does what COPY --from=build does. Files outside of the build's folder are those of its base image, which are
// those of this machine here.
func copyFiles(t *testing.T, words, build, root string) {
	t.Helper()
	all := strings.Fields(words)
	if all[0] != "--from=build" {
		t.Fatalf("COPY %s: the image takes files from the build stage alone", words)
	}
	to := filepath.Join(root, all[len(all)-1])
	for _, name := range all[1 : len(all)-1] {
		from := name
		if inner, isBuilt := strings.CutPrefix(name, "/src/"); isBuilt {
			from = filepath.Join(build, inner)
		}
		text, err := os.ReadFile(from)
		if os.IsNotExist(err) && from == name {
			continue // this machine is not the base image
		}
		path := to
		if strings.HasSuffix(words, "/") {
			path = filepath.Join(to, filepath.Base(name))
		}
		if err == nil {
			err = os.MkdirAll(filepath.Dir(path), 0o755)
		}
		if err == nil {
			err = os.WriteFile(path, text, 0o755)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
}

// enter runs the image in namespaces of its own, and returns what it and its health check print.
func enter(t *testing.T, of image) (string, error) {
	t.Helper()
	for _, folder := range []string{"dev/shm", "proc"} {
		if err := os.MkdirAll(filepath.Join(of.Root, folder), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(filepath.Join(of.Root, "dev/null"), nil, 0o644); err != nil {
		t.Fatal(err)
	}
	text, err := json.Marshal(of)
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), "/proc/self/exe")
	cmd.Env = []string{insideVariable + "=" + string(text)}
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags:  syscall.CLONE_NEWUSER | syscall.CLONE_NEWNS | syscall.CLONE_NEWPID,
		UidMappings: []syscall.SysProcIDMap{{ContainerID: of.User, HostID: os.Getuid(), Size: 1}},
		GidMappings: []syscall.SysProcIDMap{{ContainerID: of.User, HostID: os.Getgid(), Size: 1}},
		AmbientCaps: []uintptr{unix.CAP_SYS_ADMIN, unix.CAP_SYS_CHROOT},
	}
	out, err := cmd.CombinedOutput()
	if err != nil && cmd.Process == nil {
		t.Skipf("this user may not make namespaces here: %v", err)
	}
	return string(out), err
}

// inside is the first process of a container. It makes the root read only, gives up all rights, runs the entry point until
// that serves, asks the health check, and stops the program.
func inside(text string) error {
	var of image
	if err := json.Unmarshal([]byte(text), &of); err != nil {
		return err
	}
	runtime.LockOSThread() // rights are those of a thread, and what it starts has them
	if err := closeRoot(of); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	program := exec.CommandContext(ctx, of.Entry[0], slices.Concat(of.Entry[1:], of.Words)...)
	program.Env = of.Environment
	log, err := program.StderrPipe()
	if err != nil {
		return err
	}
	if err := program.Start(); err != nil {
		return err
	}
	for lines := bufio.NewScanner(log); lines.Scan(); {
		fmt.Println(lines.Text())
		if !strings.Contains(lines.Text(), `"msg":"serving"`) {
			continue
		}
		health := exec.CommandContext(ctx, of.Health[0], of.Health[1:]...)
		health.Env = of.Environment
		answer, err := health.CombinedOutput()
		fmt.Printf("health: %v: %s", err, answer)
		if err := program.Process.Signal(syscall.SIGTERM); err != nil {
			return err
		}
	}
	return program.Wait()
}

// closeRoot makes the image's folder the root, without a way to write to it, and gives up all rights.
func closeRoot(of image) error {
	mounts := []struct {
		from, to, kind string
		flags          uintptr
	}{
		{"", "/", "", unix.MS_REC | unix.MS_PRIVATE},
		{of.Root, of.Root, "", unix.MS_BIND},
		{"", of.Root, "", unix.MS_BIND | unix.MS_REMOUNT | unix.MS_RDONLY},
		{"proc", of.Root + "/proc", "proc", 0},
		{"/dev/null", of.Root + "/dev/null", "", unix.MS_BIND},
		{"tmpfs", of.Root + "/dev/shm", "tmpfs", 0},
	}
	if !of.HasMemory {
		mounts = mounts[:len(mounts)-1]
	}
	for _, m := range mounts {
		if err := unix.Mount(m.from, m.to, m.kind, m.flags, ""); err != nil {
			return fmt.Errorf("mount %s: %w", m.to, err)
		}
	}
	if err := unix.Chroot(of.Root); err != nil {
		return fmt.Errorf("chroot: %w", err)
	}
	if err := os.Chdir("/"); err != nil {
		return err
	}
	if err := os.WriteFile("/written", nil, 0o600); !errors.Is(err, unix.EROFS) {
		return fmt.Errorf("the root is not read only: %v", err)
	}
	return unix.Prctl(unix.PR_CAP_AMBIENT, unix.PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0)
}
