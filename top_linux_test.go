package main

import (
	"encoding/json"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"usher/internal/api"
)

// tmux is a terminal for a person: a tmux server of its own, with a shell in it.
type tmux struct {
	t      *testing.T
	socket string
	env    []string
}

func openTmux(t *testing.T, runtime string, width, height int) *tmux {
	t.Helper()
	if _, err := exec.LookPath("tmux"); err != nil {
		t.Skip(err)
	}
	program, err := exec.LookPath("usher")
	if err != nil {
		t.Fatal(err)
	}
	x := &tmux{t: t, socket: filepath.Join(runtime, "tmux"), env: append(os.Environ(),
		"XDG_RUNTIME_DIR="+runtime, "PATH="+filepath.Dir(program)+":"+os.Getenv("PATH"), "PS1=$ ", "ENV=", "LC_ALL=C.UTF-8", "NO_COLOR=", "TMUX=", "TERM=screen",
		"SHELL=/bin/sh")} // tmux starts commands by it; a user of a daemon has none that works
	x.run("-f", "/dev/null", "new-session", "-d", "-x", fmt.Sprint(width), "-y", fmt.Sprint(height), "sh")
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("the screen:\n%s", x.screen())
		}
		x.run("kill-server")
	})
	return x
}

func (x *tmux) run(words ...string) string {
	x.t.Helper()
	cmd := exec.Command("tmux", append([]string{"-u", "-S", x.socket}, words...)...)
	cmd.Env = x.env
	out, err := cmd.CombinedOutput()
	if err != nil {
		x.t.Fatalf("tmux %q: %v: %s", words, err, out)
	}
	return string(out)
}

// keys presses keys, in tmux's words.
func (x *tmux) keys(words ...string) {
	x.t.Helper()
	x.run(append([]string{"send-keys"}, words...)...)
}

// line types a line into the shell. The shell may not have its prompt yet, so that what the line prints may stand behind it.
func (x *tmux) line(text string) {
	x.t.Helper()
	x.run("send-keys", "-l", text)
	x.keys("Enter")
}

func (x *tmux) screen() string { return x.run("capture-pane", "-p") }

// await waits for a screen with a match, and returns it.
func (x *tmux) await(pattern string) string {
	x.t.Helper()
	wanted := regexp.MustCompile(pattern)
	var screen string
	if !eventually(func() bool {
		screen = x.screen()
		return wanted.MatchString(screen)
	}) {
		x.t.Fatalf("never %q in\n%s", pattern, screen)
	}
	return screen
}

// state is what the terminal is: its modes, and whether the alternate screen is shown, and the cursor.
func (x *tmux) state(name string) string {
	x.t.Helper()
	path := filepath.Join(filepath.Dir(x.socket), name)
	x.line("clear; stty -g >" + path + ".part; mv " + path + ".part " + path)
	var modes []byte
	if !eventually(func() (ok bool) {
		var err error
		modes, err = os.ReadFile(path)
		return err == nil
	}) {
		x.t.Fatalf("the shell does not answer:\n%s", x.screen())
	}
	return string(modes) + x.run("display-message", "-p", "alternate #{alternate_on} cursor #{cursor_flag} wrap #{wrap_flag}")
}

// TestTop: usher top lists, sorts, filters, changes and ends; it notices what becomes of usher, and leaves the terminal as
// it was, however it ends.
func TestTop(t *testing.T) {
	t.Parallel()
	runtime, err := os.MkdirTemp("", "usher")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(runtime) })
	x := openTmux(t, runtime, 110, 30)
	good, other := echoBackend(t, false), echoBackend(t, false)
	u := startUsher(t, runtime, "--name", "web", "-l", "web=127.0.0.1:0", "-b", "web="+good, "-b", "web="+other, "-l", "db=127.0.0.1:0", "-b", "db="+other)
	for range 3 {
		conn, err := net.Dial("tcp", u.listen(t, "web"))
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		_, _ = io.WriteString(conn, "hello")
	}
	before := x.state("before")

	x.line("usher top; echo ended as $?")
	x.await(`usher web .*\nServices: 2 (.*\n)+web +up +2/2 rr +3 `)
	x.keys(">") // by name
	x.await(`\ndb .*\nweb `)
	x.keys("/", "w")
	x.await(`Services: 2 .*with "w": 1(.*\n)+/w_`)
	x.keys("Enter", "Enter")
	x.await(`Backends of web .*active 3(.*\n)+` + regexp.QuoteMeta(good) + ` +up `)
	x.run("resize-window", "-x", "80", "-y", "24")
	x.await(`Backends of web .*active 3(.*\n)+Esc back .*q quit`)

	x.keys("d")
	x.await(`backend ` + regexp.QuoteMeta(good) + `: drain until resumed`)
	u.await(t, good, "drain")
	x.keys("u")
	u.await(t, good, "up")
	x.keys("m")
	u.await(t, good, "maint")
	x.await(regexp.QuoteMeta(good) + ` +maint `)
	x.keys("u")
	x.await(regexp.QuoteMeta(good) + ` +up `)

	x.keys("f")
	x.await(`Flows of service web\nCLIENT (.*\n)(127.*\n){3}\n`)
	x.keys("Down", "k") // the first row
	x.await(`flow of 127.*: ended 1 flow`)
	x.await(`CLIENT (.*\n)(127.*\n){2}\n`)
	x.keys("K")
	x.await(`end flows of service web, 2 now\?  y/n`)
	x.keys("y")
	x.await(`flows of service web: ended 2 flows`)
	x.await(`CLIENT (.*\n)\n`)

	// Ctrl-Z leads to the shell, and fg back.
	x.keys("C-z")
	x.await(`(?i)(stopped|suspended).*usher top`)
	x.await(`ended as \d+\n`)
	x.line("clear; fg; echo ended as $?")
	x.await(`Flows of service web\n`)

	// What was asked for before the end is still done.
	x.keys("BTab")
	x.await(`Backends of web .*active 0(.*\n)+` + regexp.QuoteMeta(good))
	x.keys("d", "q")
	x.await(`ended as 0\n`)
	u.await(t, good, "drain")
	x.isAsBefore(before, "quit")

	// Signals end it, too.
	for name, signal := range map[string]syscall.Signal{"TERM": syscall.SIGTERM, "HUP": syscall.SIGHUP, "INT": syscall.SIGINT} {
		file := filepath.Join(runtime, "pid"+name)
		x.line("sh -c 'echo $$ >" + file + "; exec usher top web'")
		x.await(`Backends of web `)
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		pid, err := strconv.Atoi(strings.TrimSpace(string(text)))
		if err != nil {
			t.Fatal(err)
		}
		if err := syscall.Kill(pid, signal); err != nil {
			t.Fatal(err)
		}
		if !eventually(func() bool { return syscall.Kill(pid, 0) != nil }) {
			t.Fatalf("SIG%s does not end it", name)
		}
		x.isAsBefore(before, name)
	}

	// It outlives usher.
	x.line("usher top; echo ended as $?")
	x.await(`Services: 2`)
	u.kill()
	x.await(`usher web has not answered for .*, asking again`)
	startUsher(t, runtime, "--name", "web", "-l", "again=127.0.0.1:0", "-b", "again="+good)
	x.await(`another usher answers now(.|\n)*`)
	x.await(`\nagain +up `)
	x.keys("C-c")
	x.await(`ended as 0\n`)
	x.isAsBefore(before, "interrupt")
}

// isAsBefore waits for the shell, and compares the terminal.
func (x *tmux) isAsBefore(before, name string) {
	x.t.Helper()
	if after := x.state(name); after != before {
		x.t.Errorf("after %s the terminal is\n%swas\n%s", name, after, before)
	}
}

// runningUsher is an usher that the test asks over its control socket.
type runningUsher struct {
	cmd    *exec.Cmd
	client *api.Client
}

func startUsher(t *testing.T, runtime string, words ...string) *runningUsher {
	t.Helper()
	cmd := exec.Command("usher", words...)
	cmd.Env = append(os.Environ(), "XDG_RUNTIME_DIR="+runtime)
	u := &runningUsher{cmd: cmd, client: api.NewClient(filepath.Join(runtime, "usher", "web.sock"))}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(u.kill)
	if !eventually(func() bool {
		p, err := u.client.Process(t.Context())
		return err == nil && p.PID == cmd.Process.Pid
	}) {
		t.Fatal("usher does not start")
	}
	return u
}

func (u *runningUsher) kill() {
	_ = u.cmd.Process.Kill()
	_ = u.cmd.Wait()
}

func (u *runningUsher) listen(t *testing.T, service string) string {
	t.Helper()
	list, err := u.client.Service(t.Context(), service)
	if err != nil {
		t.Fatal(err)
	}
	return list.Services[0].Listen[0]
}

// await waits until a backend of web has a status.
func (u *runningUsher) await(t *testing.T, backend, status string) {
	t.Helper()
	var list api.Services
	if !eventually(func() bool {
		list, _ = u.client.Service(t.Context(), "web")
		for _, s := range list.Services {
			for _, b := range s.Backends {
				if b.Address == backend && b.Status == status {
					return true
				}
			}
		}
		return false
	}) {
		text, _ := json.Marshal(list)
		t.Fatalf("backend %s is never %s: %s", backend, status, text)
	}
}
