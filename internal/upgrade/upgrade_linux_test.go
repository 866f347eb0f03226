package upgrade

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// acts says what this test binary does as a child or as another image.
const acts = "USHER_UPGRADE_TEST"

func TestMain(m *testing.M) {
	act := os.Getenv(acts)
	if act == "" {
		os.Exit(m.Run())
	}
	start, err := Inherited()
	if err == nil && start != nil && start.Role != Check {
		act = "image"
	}
	switch act {
	case "answers":
		state, err := start.State()
		if err == nil && string(state) == "good" {
			_ = Answer(os.Stdout, "v2")
			return
		}
		fmt.Fprintf(os.Stderr, "usher: state %q: %v\nmore\n", state, err)
		os.Exit(1)
	case "dies":
		_ = syscall.Kill(os.Getpid(), syscall.SIGKILL)
	case "hangs":
		time.Sleep(time.Hour)
	case "babbles":
		for {
			_, _ = os.Stdout.Write(bytes.Repeat([]byte("\x1b[2J"), 1024))
		}
	case "fails":
		os.Exit(3)
	case "replaces", "image":
		image(start)
	}
}

// image is a process that executes this binary, which goes back. It prints what it finds on the way.
func image(start *Start) {
	show := func(role string, fd int) {
		var limit unix.Rlimit
		_ = unix.Getrlimit(unix.RLIMIT_NOFILE, &limit)
		kept := make([]byte, 4)
		n, _ := unix.Pread(fd, kept, 0)
		open, _ := os.ReadDir("/proc/self/fd")
		fmt.Printf("%s pid %d args %q limit %d kept %q files %d\n", role, os.Getpid(), os.Args[1:], limit.Cur, kept[:max(n, 0)], len(open))
	}
	var kept int
	fail := func(err error) {
		fmt.Println("failed:", err)
		os.Exit(1)
	}
	if start == nil {
		state, err := Store([]byte("9 is kept"))
		if err == nil {
			kept, err = unix.MemfdCreate("kept", unix.MFD_CLOEXEC)
		}
		if err != nil {
			fail(err)
		}
		if err := unix.Dup3(kept, 9, unix.O_CLOEXEC); err != nil {
			fail(err)
		}
		_, _ = unix.Pwrite(9, []byte("kept"), 0)
		unix.Close(kept)
		show("first", 9)
		self, err := Self()
		if err != nil {
			fail(err)
		}
		if err := self.Exec(Handover{State: state, Keep: []int{1 << 20}}, self); err == nil || !strings.Contains(err.Error(), "descriptor 1048576") {
			fail(err)
		}
		fail(self.Exec(Handover{State: state, Keep: []int{9}}, self))
	}
	state, err := start.State()
	if err != nil || string(state) != "9 is kept" {
		fail(fmt.Errorf("state %q: %w", state, err))
	}
	show(string(start.Role), 9)
	if start.Role == Next {
		fail(start.Back(errors.New("not\x00 now")))
	}
	fmt.Printf("reason %q\n", start.Reason)
	start.Keep([]int{9}, 0)
	show("kept", 9)
	if flags, err := unix.FcntlInt(9, unix.F_GETFD, 0); err != nil || flags&unix.FD_CLOEXEC == 0 {
		fail(errors.New("a program would inherit it"))
	}
}

func self(t *testing.T) *Binary {
	t.Helper()
	b, err := Self()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(b.Close)
	return b
}

// TestAsk: whatever a child does, there is an answer of one line, in time, and nothing is left of it.
func TestAsk(t *testing.T) {
	for act, want := range map[string]string{
		"answers": "",
		"dies":    "cannot go on from here: signal: killed",
		"hangs":   "no answer: 300ms passed",
		"babbles": "no answer: 300ms passed",
		"fails":   "cannot go on from here: exit status 3",
		"silent":  `is no usher that could go on: it answers ""`,
	} {
		t.Setenv(acts, act)
		state, err := Store([]byte("good"))
		if err != nil {
			t.Fatal(err)
		}
		most := time.Minute
		if strings.Contains(want, "300ms") {
			most = 300 * time.Millisecond
		}
		ctx, cancel := context.WithTimeoutCause(t.Context(), most, fmt.Errorf("%s passed", most))
		version, err := self(t).Ask(ctx, state)
		cancel()
		state.Close()
		if want == "" && (err != nil || version != "v2") || want != "" && (err == nil || !strings.HasSuffix(err.Error(), want)) {
			t.Errorf("one that %s: version %q, %v", act, version, err)
		}
		if _, err := unix.Wait4(-1, nil, unix.WNOHANG, nil); err != unix.ECHILD {
			t.Errorf("one that %s: a child is left: %v", act, err)
		}
	}
	t.Setenv(acts, "answers")
	state, err := Store([]byte("bad"))
	if err != nil {
		t.Fatal(err)
	}
	defer state.Close()
	if _, err := self(t).Ask(t.Context(), state); err == nil || !strings.HasSuffix(err.Error(), `cannot go on from here: state "bad": <nil>`) {
		t.Errorf("a bad state: %v", err)
	}
}

// TestExec: a process goes to another image and back. Its ID, arguments, limits and the files that were to be kept stay.
func TestExec(t *testing.T) {
	t.Parallel()
	cmd := exec.Command("/proc/self/exe", "some", "words")
	cmd.Env = append(os.Environ(), acts+"=replaces")
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%v:\n%s", err, out)
	}
	var lines []string
	for line := range strings.Lines(string(out)) {
		lines = append(lines, strings.TrimSpace(line))
	}
	if len(lines) != 5 || lines[3] != `reason "not now"` {
		t.Fatalf("%s", out)
	}
	_, same, _ := strings.Cut(lines[0], " ")
	for i, role := range map[int]string{1: "next", 2: "back"} {
		is, rest, _ := strings.Cut(lines[i], " ")
		if is != role || strings.Split(rest, " files ")[0] != strings.Split(same, " files ")[0] {
			t.Errorf("%s\n%s, want it after %s", lines[0], lines[i], role)
		}
	}
	if first, last := strings.Fields(lines[0]), strings.Fields(lines[4]); !strings.Contains(lines[0], `kept "kept"`) ||
		files(first) < files(last) {
		t.Errorf("files are left over:\n%s", out)
	}
}

// files is the count at the end of a line.
func files(fields []string) (n int) {
	_, _ = fmt.Sscan(fields[len(fields)-1], &n)
	return n
}

func TestOpen(t *testing.T) {
	t.Parallel()
	folder := t.TempDir()
	write := func(name, text string, mode os.FileMode) string {
		path := filepath.Join(folder, name)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Chmod(path, mode); err != nil {
			t.Fatal(err)
		}
		return path
	}
	for path, want := range map[string]string{
		filepath.Join(folder, "none"):               "no such file or directory",
		folder:                                      "it is no file",
		write("plain", "\x7fELF", 0o600):            "it is not executable",
		write("open", "\x7fELF", 0o777):             "others may write to it",
		write("script", "#!/bin/sh\nexit\n", 0o700): "it is no program of this system (a script cannot take over)",
		write("empty", "", 0o700):                   "it is no program of this system (a script cannot take over)",
	} {
		if _, err := Open(path); err == nil || err.Error() != "binary "+path+": "+want {
			t.Errorf("%v, want %s", err, want)
		}
	}
	b, err := Open(write("cut", "\x7fELF", 0o700))
	if err != nil {
		t.Fatal(err)
	}
	defer b.Close()
	state, err := Store(nil)
	if err != nil {
		t.Fatal(err)
	}
	defer state.Close()
	if _, err := b.Ask(t.Context(), state); err == nil || !strings.Contains(err.Error(), "cannot be executed: exec format error") {
		t.Errorf("a program that is cut off: %v", err)
	}
}

// TestState: a state is read as it was written, and nobody can change it.
func TestState(t *testing.T) {
	t.Parallel()
	for _, text := range []string{"", "some", strings.Repeat("much", 1<<20)} {
		f, err := Store([]byte(text))
		if err != nil {
			t.Fatal(err)
		}
		if _, err := f.WriteAt([]byte("x"), 0); err == nil {
			t.Error("it can be written to")
		}
		if got, err := load(f); err != nil || string(got) != text {
			t.Errorf("%d bytes of %d: %v", len(got), len(text), err)
		}
		f.Close()
	}
	open, err := os.CreateTemp(t.TempDir(), "")
	if err != nil {
		t.Fatal(err)
	}
	defer open.Close()
	if _, err := load(open); err == nil {
		t.Error("a file that others may change counts as a state")
	}
}

func TestParse(t *testing.T) {
	t.Parallel()
	for word, want := range map[string]string{
		"":                  "four parts",
		"next:1:2":          "four parts",
		"check:2:0:":        "descriptor of the state",
		"check:x:0:":        "descriptor of the state",
		"check:1048575:0:":  "bad file descriptor",
		"next:1048575:9:":   "bad file descriptor",
		"check:-1:0:reason": "descriptor of the state",
	} {
		if _, err := parse(word); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, want %s", word, err, want)
		}
	}
}
