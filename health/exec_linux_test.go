package health_test

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"usher/health"
)

// state returns the state letter of a process (proc(5)), 0 if there is none.
func state(pid int) byte {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0
	}
	// pid (name) state …; the name may have any character.
	_, rest, _ := bytes.Cut(stat[bytes.LastIndexByte(stat, ')'):], []byte(" "))
	return rest[0]
}

// noted waits for a process id in a file.
func noted(t *testing.T, path string) int {
	t.Helper()
	var pid int
	if !eventually(func() bool {
		b, err := os.ReadFile(path)
		if err != nil {
			return false
		}
		pid, err = strconv.Atoi(string(b))
		return err == nil
	}) {
		t.Fatalf("no process id in %s", path)
	}
	return pid
}

// expectDead waits until an orphan has ended. The init process reaps it some time later.
func expectDead(t *testing.T, pid int) {
	t.Helper()
	if !eventually(func() bool { s := state(pid); return s == 0 || s == 'Z' }) {
		t.Errorf("process %d is still there in state %c", pid, state(pid))
	}
}

// running counts the processes of a group without zombies.
func running(t *testing.T, group int) (n int) {
	t.Helper()
	stats, err := filepath.Glob("/proc/[0-9]*/stat")
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range stats {
		stat, err := os.ReadFile(path)
		if err != nil {
			continue
		}
		fields := strings.Fields(string(stat[bytes.LastIndexByte(stat, ')')+1:]))
		if fields[2] == strconv.Itoa(group) && fields[0] != "Z" {
			n++
		}
	}
	return n
}

// children lists the children of this process, zombies included.
func children(t *testing.T) []string {
	t.Helper()
	stats, err := filepath.Glob("/proc/[0-9]*/stat")
	if err != nil {
		t.Fatal(err)
	}
	var found []string
	for _, path := range stats {
		stat, err := os.ReadFile(path)
		if err != nil {
			continue
		}
		fields := strings.Fields(string(stat[bytes.LastIndexByte(stat, ')')+1:]))
		if fields[1] == strconv.Itoa(os.Getpid()) {
			found = append(found, string(stat))
		}
	}
	return found
}

// A check kills the children of its program, at the timeout and when the program ends.
// They keep its output open, for which the check does not wait.
func TestExecKillsTheGroup(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name, last, want string
		waits            bool
	}{
		{name: "timeout", last: "sleep", want: "not done in time", waits: true},
		{name: "good end", last: "exit=0"},
		{name: "bad end", last: "exit=5", want: "exit status 5"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			leader, child := filepath.Join(dir, "leader"), filepath.Join(dir, "child")
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			defer cancel()
			result := make(chan error, 1)
			c := newExec(t, "me="+leader, "child="+child, tt.last)
			go func() { result <- c.Check(cancelIn(ctx, t, tt.waits, child), execTarget) }()
			leaderID, childID := noted(t, leader), noted(t, child)
			select {
			case err := <-result:
				expectError(t, err, tt.want)
			case <-time.After(time.Minute):
				t.Fatal("the check hangs")
			}
			if s := state(leaderID); s != 0 {
				t.Errorf("the leader is still there in state %c", s)
			}
			expectDead(t, childID)
		})
	}
}

// cancelIn returns a context that times out when a file exists.
func cancelIn(ctx context.Context, t *testing.T, waits bool, path string) context.Context {
	if !waits {
		return ctx
	}
	ended := &endsWith{Context: ctx, done: make(chan struct{})}
	go func() {
		noted(t, path)
		close(ended.done)
	}()
	return ended
}

// endsWith is a context whose deadline is an event.
type endsWith struct {
	context.Context
	done chan struct{}
}

func (e *endsWith) Done() <-chan struct{} { return e.done }

func (e *endsWith) Err() error {
	select {
	case <-e.done:
		return context.DeadlineExceeded
	default:
		return nil
	}
}

// A process that leaves the group lives on. The check does not wait for its output.
func TestExecDoesNotWaitForDaemons(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"sh", "setsid"} {
		if _, err := exec.LookPath(name); err != nil {
			t.Skip(err)
		}
	}
	path := filepath.Join(t.TempDir(), "daemon")
	c, err := health.NewExec([]string{
		"sh", "-c", `setsid "$@" & while [ ! -e "$0" ]; do sleep 0.01; done; echo why >&2; exit 3`,
		path, os.Args[0], asProgram, "me=" + path, "sleep",
	})
	if err != nil {
		t.Fatal(err)
	}
	expectError(t, check(t, c, execTarget, false), "exit status 3: why")
	daemon := noted(t, path)
	if s := state(daemon); s == 0 || s == 'Z' {
		t.Errorf("the daemon is gone")
	}
	if err := syscall.Kill(daemon, syscall.SIGKILL); err != nil {
		t.Error(err)
	}
	expectDead(t, daemon)
}

// No program survives the timeout.
func TestExecKillsAnyProgram(t *testing.T) {
	t.Parallel()
	if _, err := exec.LookPath("sh"); err != nil {
		t.Skip(err)
	}
	for name, script := range map[string]string{
		"stops":                   `kill -STOP $$`,
		"stops its group":         `kill -STOP 0`,
		"takes no signal":         `trap "" HUP INT TERM QUIT PIPE; while :; do sleep 1; done`,
		"writes without end":      `while :; do echo why; echo why >&2; done`,
		"closes its output":       `exec >&- 2>&-; while :; do sleep 1; done`,
		"leaves its work to many": `for i in 1 2 3 4 5; do (trap "" TERM; sleep 3600) & done; wait`,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			leader := filepath.Join(t.TempDir(), "leader")
			c, err := health.NewExec([]string{"sh", "-c", `echo -n $$ >"$0~"; mv "$0~" "$0"; ` + script, leader})
			if err != nil {
				t.Fatal(err)
			}
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			defer cancel()
			result := make(chan error, 1)
			go func() { result <- c.Check(cancelIn(ctx, t, true, leader), execTarget) }()
			pid := noted(t, leader)
			select {
			case err := <-result:
				expectError(t, err, "not done in time")
			case <-time.After(time.Minute):
				t.Fatal("the check hangs")
			}
			if !eventually(func() bool { return running(t, pid) == 0 }) {
				t.Errorf("%d of the group still run", running(t, pid))
			}
		})
	}
}

// A program inherits no socket.
func TestExecInheritsNoDescriptor(t *testing.T) {
	t.Parallel()
	ln, _ := listen(t, "tcp")
	conn, err := net.Dial("tcp", ln.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	raw, err := conn.(*net.TCPConn).SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	var number uintptr
	if err := raw.Control(func(fd uintptr) { number = fd }); err != nil {
		t.Fatal(err)
	}
	c, err := health.NewExec([]string{"sh", "-c", `[ -e /proc/$$/fd/0 ] && [ ! -e "/proc/$$/fd/$0" ]`, fmt.Sprint(number)})
	if err != nil {
		t.Skip(err)
	}
	expectError(t, check(t, c, execTarget, false), "")
}

// Many concurrent checks leave no child, not even for a moment.
func TestExecReaps(t *testing.T) {
	t.Parallel()
	for _, subreaper := range []string{"0", "1"} {
		cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestExecReapsInside$", "-test.count=1", "-test.v")
		cmd.Env = append(os.Environ(), "USHER_TEST_SUBREAPER="+subreaper)
		out, err := cmd.CombinedOutput()
		if err != nil || !strings.Contains(string(out), "PASS: TestExecReapsInside") {
			t.Errorf("subreaper %s: %v\n%s", subreaper, err, out)
		}
	}
}

// TestExecReapsInside runs in a separate process, whose only children are checks. As a
// subreaper (prctl(2)) it also gets their orphans, like the first process of a container.
func TestExecReapsInside(t *testing.T) {
	subreaper := os.Getenv("USHER_TEST_SUBREAPER")
	if subreaper == "" {
		t.Skip("TestExecReaps runs it")
	}
	const setChildSubreaper = 36 // PR_SET_CHILD_SUBREAPER
	if subreaper == "1" {
		if _, _, errno := syscall.Syscall(syscall.SYS_PRCTL, setChildSubreaper, 1, 0); errno != 0 {
			t.Skipf("prctl: %v", errno)
		}
	}
	dir := t.TempDir()
	results := make(chan error)
	const n = 24
	for i := range n {
		child := filepath.Join(dir, strconv.Itoa(i))
		words := [][]string{{"exit=0"}, {"child=" + child, "exit=1"}, {"child=" + child, "child=" + child, "sleep"}}[i%3]
		c := newExec(t, words...)
		go func() {
			ctx, cancel := context.WithTimeout(context.Background(), 300*time.Millisecond)
			defer cancel()
			results <- c.Check(ctx, execTarget)
		}()
	}
	for range n {
		<-results
	}
	if left := children(t); len(left) > 0 {
		t.Errorf("children are left:\n%s", strings.Join(left, ""))
	}
}
