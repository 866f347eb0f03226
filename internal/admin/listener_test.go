package admin

import (
	"bufio"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"go.uber.org/zap"

	"usher/internal/api"
)

// shortFolder returns a folder of the test whose path leaves room for a socket's name.
func shortFolder(t *testing.T) string {
	t.Helper()
	folder, err := os.MkdirTemp("", "usher")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(folder) })
	return filepath.Join(folder, "run")
}

// TestNames: an instance has the name that it was given, or none; without one it has that of its first service, or else
// its number. What a killed one left behind is nobody's.
func TestNames(t *testing.T) {
	t.Parallel()
	folder := shortFolder(t)
	open := func(given, fallback string, pid int, want string) *Listener {
		t.Helper()
		l, err := listenIn(folder, given, fallback, pid)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { l.Close() })
		if l.Name() != want {
			t.Errorf("name %q, or else %q, of process %d is %q, want %q", given, fallback, pid, l.Name(), want)
		}
		return l
	}
	long := strings.Repeat("long", 30)
	web := open("", "web", 1, "web")
	open("", "web", 2, "2")
	open("", "", 3, "3")
	open("", long, 4, "4")
	open("", "default/web:http", 9, "9")
	if _, err := listenIn(folder, "", "web", 2); !errors.Is(err, syscall.EADDRINUSE) {
		t.Errorf("both names taken: error %v", err)
	}
	open("op", "web", 5, "op")
	s := Serve(open("", "busy", 6, "busy"), newFake().handler(), zap.NewNop())
	defer s.Close(timeout(t))
	for given, want := range map[string]string{
		"busy": "name busy is taken by a running usher (pid 4711): choose another --name",
		long:   "is too long for the path of a socket",
	} {
		if _, err := listenIn(folder, given, "", 7); err == nil || !is[*NameError](err) || !strings.Contains(err.Error(), want) {
			t.Errorf("name %q: error %v, want %q", given, err, want)
		}
	}
	info, err := os.Stat(web.Addr().String())
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("the mode of the socket is %v, error %v", info.Mode(), err)
	}
	if info, err := os.Stat(folder); err != nil || info.Mode().Perm() != 0o700 {
		t.Errorf("the mode of the folder is %v, error %v", info.Mode(), err)
	}

	web.inner.Close() // as when it is killed: the file stays
	again := open("web", "", 8, "web")
	if err := web.Close(); err == nil {
		t.Error("the inner listener was open")
	}
	if c, err := net.Dial("unix", again.Addr().String()); err != nil {
		t.Error("the successor has lost its file:", err)
	} else {
		c.Close()
	}
	path := again.Addr().String()
	again.Close()
	if _, err := os.Lstat(path); !errors.Is(err, os.ErrNotExist) {
		t.Error("the file is still there:", err)
	}
}

func TestRefusedPaths(t *testing.T) {
	t.Parallel()
	folder := shortFolder(t)
	if err := api.MakeFolder(filepath.Dir(folder)); err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(filepath.Dir(folder), "file")
	if err := os.WriteFile(file, []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string]string{
		file:                                "the file exists and is no socket",
		filepath.Join(folder, "none", "s"):  "no such file or directory",
		filepath.Join(file, "s"):            "not a directory",
		"/tmp/" + strings.Repeat("s", 103):  "too long",
		filepath.Join(folder, "..", "file"): "the file exists and is no socket",
	} {
		if l, err := ListenPath(path); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: error %v, want %q", path, err, want)
			if err == nil {
				l.Close()
			}
		}
	}
	if text, err := os.ReadFile(file); err != nil || string(text) != "x" {
		t.Errorf("the file has %q, error %v", text, err)
	}
}

// Another user's connection is answered and closed; its request is not read.
func TestOtherUser(t *testing.T) {
	t.Parallel()
	l, err := ListenPath(filepath.Join(t.TempDir(), "s"))
	if err != nil {
		t.Fatal(err)
	}
	strangers := true
	l.isPeer = func(c *net.UnixConn) error {
		if !strangers {
			return checkPeer(c)
		}
		strangers = false
		return errors.New("this usher is of user 1")
	}
	s := Serve(l, newFake().handler(), zap.NewNop())
	defer s.Close(timeout(t))
	c, err := net.Dial("unix", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	answer, err := http.ReadResponse(bufio.NewReader(c), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer answer.Body.Close()
	var text [100]byte
	n, _ := answer.Body.Read(text[:])
	if answer.StatusCode != 403 || string(text[:n]) != `{"error":"this usher is of user 1"}`+"\n" {
		t.Errorf("status %d: %s", answer.StatusCode, text[:n])
	}
	if _, err := api.NewClient(l.Addr().String()).Process(timeout(t)); err != nil {
		t.Error("our own user:", err)
	}
}

// While it is paused a client waits in the accept queue. Another listener on the same socket takes it over, as after an
// upgrade, and then the file is that one's.
func TestPauseAndAdopt(t *testing.T) {
	t.Parallel()
	l, err := ListenPath(filepath.Join(t.TempDir(), "s"))
	if err != nil {
		t.Fatal(err)
	}
	f := newFake()
	old := Serve(l, f.handler(), zap.NewNop())
	c := api.NewClient(l.Addr().String())
	for range 3 {
		l.Pause()
		answer := make(chan error, 1)
		go func() {
			_, err := c.Process(timeout(t))
			answer <- err
		}()
		conn, err := net.Dial("unix", l.Addr().String()) // is in the queue, perhaps before the other
		if err != nil {
			t.Fatal(err)
		}
		conn.Close()
		l.Resume()
		if err := <-answer; err != nil {
			t.Fatal("after the pause:", err)
		}
	}
	l.Pause()
	answer := make(chan error, 1)
	go func() {
		p, err := c.Process(timeout(t))
		if err == nil && p.Name != "web" {
			err = fmt.Errorf("process %+v", p)
		}
		answer <- err
	}()
	file, err := l.File()
	if err != nil {
		t.Fatal(err)
	}
	adopted, err := Adopt(file)
	if err != nil {
		t.Fatal(err)
	}
	if adopted.Name() != l.Name() {
		t.Errorf("the name is %q, and was %q", adopted.Name(), l.Name())
	}
	s := Serve(adopted, f.handler(), zap.NewNop())
	if err := <-answer; err != nil {
		t.Error("over the adopted socket:", err)
	}
	s.Close(timeout(t))
	if _, err := os.Lstat(l.Addr().String()); !errors.Is(err, os.ErrNotExist) {
		t.Error("the file is still there:", err)
	}
	old.Close(timeout(t))
}

// What is adopted may be anything.
func TestAdoptOther(t *testing.T) {
	t.Parallel()
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	if _, err := Adopt(r); err == nil {
		t.Error("a pipe was adopted")
	}
	tcp, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer tcp.Close()
	file, err := tcp.(*net.TCPListener).File()
	if err != nil {
		t.Fatal(err)
	}
	l, err := Adopt(file)
	if err != nil {
		t.Fatal(err)
	}
	if l.Addr().String() != tcp.Addr().String() || l.Name() != "" {
		t.Errorf("it listens on %s as %q", l.Addr(), l.Name())
	}
	l.Close()
}
