package api

import (
	"context"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// folder returns a folder of the test for sockets, whose path is short.
func folder(t *testing.T) string {
	t.Helper()
	path, err := os.MkdirTemp("", "usher")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(path) })
	return path
}

// listen opens a socket as an instance has it. A stale one is what a killed instance leaves behind.
func listen(t *testing.T, folder, name string, isStale bool) string {
	t.Helper()
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: filepath.Join(folder, name+Extension), Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	l.SetUnlinkOnClose(false)
	if isStale {
		l.Close()
	} else {
		t.Cleanup(func() { l.Close() })
	}
	return l.Addr().String()
}

func TestFind(t *testing.T) {
	t.Parallel()
	none, one, several := folder(t), folder(t), folder(t)
	listen(t, none, "old", true)
	web := listen(t, one, "web", false)
	listen(t, one, "old", true)
	if err := os.WriteFile(filepath.Join(one, "text.sock"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	listen(t, several, "4711", false)
	db := listen(t, several, "db", false)
	absent := filepath.Join(none, "absent", "folder")
	for _, tt := range []struct {
		folder, name, control string
		want                  string // the path of the client, or the error
	}{
		{folder: one, want: web},
		{folder: one, name: "web", want: web},
		{folder: none, control: web, want: web},
		{folder: several, name: "db", want: db},
		{folder: none, want: "no usher is running (no socket in " + none + "): usher serve starts one"},
		{folder: absent, want: "no usher is running (no socket in " + absent + "): usher serve starts one"},
		{folder: none, name: "web", want: "usher web is not running (none is)"},
		{folder: one, name: "wep", want: "did you mean \"web\"?"},
		{folder: one, name: "old", want: "usher old is not running"},
		{folder: several, want: "several ushers run: 4711, db (choose one with --name)"},
		{folder: several, name: "web", want: "usher web is not running (running: 4711, db)"},
		{folder: several, control: filepath.Join(none, "old.sock"), want: "connection refused"},
		{folder: several, control: filepath.Join(none, "new.sock"), want: "is usher running? These are: 4711, db"},
	} {
		c, err := findIn(t.Context(), tt.folder, tt.name, tt.control)
		got := fmt.Sprint(err)
		if err == nil {
			got = c.Path()
		}
		if got != tt.want && (err == nil || !strings.Contains(got, tt.want)) {
			t.Errorf("name %q, control %q: %s, want %s", tt.name, tt.control, got, tt.want)
		}
	}
}

// A folder in which somebody else could have planted a socket is not used.
func TestFolderOfOthers(t *testing.T) {
	t.Parallel()
	base := folder(t)
	at := func(name string) string { return filepath.Join(base, name) }
	ours := at("ours")
	if err := MakeFolder(ours); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(ours, at("link")); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(at("file"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for name, mode := range map[string]os.FileMode{"group": 0o770, "all": 0o777, "readable": 0o755} {
		if err := os.Mkdir(at(name), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.Chmod(at(name), mode); err != nil { // whatever the umask is
			t.Fatal(err)
		}
	}
	for name, want := range map[string]string{
		"ours":     "",
		"readable": "", // others see the names, and can add none
		"link":     "is a symbolic link",
		"file":     "is not a folder",
		"group":    "others can write",
		"all":      "others can write",
	} {
		for what, check := range map[string]func() error{
			"make": func() error { return MakeFolder(at(name)) },
			"find": func() error { _, err := instancesIn(t.Context(), at(name)); return err },
		} {
			if err := check(); (err == nil) != (want == "") || err != nil && !strings.Contains(err.Error(), want) {
				t.Errorf("%s %s: error %v, want %q", what, name, err, want)
			}
		}
	}
	// To give a folder away takes root.
	if err := os.Mkdir(at("foreign"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.Chown(at("foreign"), 12345, 12345); err != nil {
		t.Skip("not root:", err)
	}
	if err := MakeFolder(at("foreign")); err == nil || !strings.Contains(err.Error(), "belongs to another user") {
		t.Errorf("a folder of another user: error %v", err)
	}
}

func TestFolder(t *testing.T) {
	runtime, temporary := folder(t), folder(t)
	t.Setenv("TMPDIR", temporary)
	fallback := filepath.Join(temporary, temporaryName())
	for value, want := range map[string]string{
		"":                                "",
		runtime:                           filepath.Join(runtime, "usher"),
		filepath.Join(runtime, "none"):    "",
		"relative":                        "",
		"/" + strings.Repeat("long/", 25): "",
	} {
		t.Setenv("XDG_RUNTIME_DIR", value)
		if want == "" {
			want = fallback
		}
		if got := Folder(); got != want {
			t.Errorf("with XDG_RUNTIME_DIR=%s: %s, want %s", value, got, want)
		}
	}
}

// What is no usher, or stops in the middle, is an error and no empty answer.
func TestStrangeAnswers(t *testing.T) {
	t.Parallel()
	for answer, want := range map[string]string{
		"": "EOF",
		"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{\"services\": [":           "unexpected EOF",
		"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nxx":                           "invalid character",
		"HTTP/1.1 418 Teapot\r\nContent-Length: 6\r\n\r\n<html>":                   `usher answered 418 Teapot: "<html>"`,
		"HTTP/1.1 302 Found\r\nLocation: http://evil\r\nContent-Length: 0\r\n\r\n": "usher answered 302",
		"HTTP/1.1 409 Conflict\r\nContent-Length: 15\r\n\r\n{\"error\":\"mine\"}":  "mine",
		"SSH-2.0-x\r\n": "malformed",
	} {
		l, err := net.Listen("unix", filepath.Join(folder(t), "s"))
		if err != nil {
			t.Fatal(err)
		}
		served := make(chan struct{})
		go func() {
			defer close(served)
			for range 2 {
				c, err := l.Accept()
				if err != nil {
					return
				}
				_, _ = c.Read(make([]byte, 4096))
				_, _ = c.Write([]byte(answer))
				c.Close()
			}
		}()
		ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
		c := NewClient(l.Addr().String())
		if _, err := c.Services(ctx); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: error %v, want %q", answer, err, want)
		}
		var last error
		for _, last = range c.Flows(ctx, nil) {
		}
		if last == nil {
			t.Errorf("%q: flows without an error", answer)
		}
		cancel()
		l.Close()
		<-served
	}
}
