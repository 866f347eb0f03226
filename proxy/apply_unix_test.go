package proxy

import (
	"fmt"
	"net"
	"os"
	"runtime"
	"testing"
	"time"
)

// TestSocketFileIsMadeAnew if somebody has removed it, or has put another one in place.
func TestSocketFileIsMadeAnew(t *testing.T) {
	t.Parallel()
	eachEngine(t, func(t *testing.T, engine string) {
		path := t.TempDir() + "/socket"
		c := named(t, "x")
		c.Listeners = []Listener{{Network: "unix", Path: path}}
		s := startServer(t, Options{Engine: engine, Workers: 2}, c)
		greeted := func(when string) {
			t.Helper()
			conn, err := net.Dial("unix", path)
			if err != nil {
				t.Fatalf("%s: %v", when, err)
			}
			defer conn.Close()
			_ = conn.SetDeadline(time.Now().Add(time.Minute))
			if _, err := conn.Read(make([]byte, 1)); err != nil {
				t.Errorf("%s: %v", when, err)
			}
		}
		greeted("at first")
		if err := os.Remove(path); err != nil {
			t.Fatal(err)
		}
		apply(t, s, c)
		greeted("after it was removed")
		if err := os.Remove(path); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte("mine"), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := s.Apply([]*ServiceConfig{&c}); err == nil {
			t.Error("a stranger's file was replaced")
		}
		other := named(t, "other")
		if err := s.Apply([]*ServiceConfig{s.given[0], &other}); err != nil {
			t.Errorf("a stranger's file stands in the way of another service: %v", err)
		}
		if text, err := os.ReadFile(path); string(text) != "mine" {
			t.Errorf("a stranger's file: %q, %v", text, err)
		}
		if err := os.Remove(path); err != nil {
			t.Fatal(err)
		}
		apply(t, s, c)
		greeted("after a stranger's file")
		apply(t, s)
		if _, err := os.Lstat(path); err == nil {
			t.Error("the file is left at the end")
		}
	})
}

// TestOwnersAreGivenBack: an Apply that fails leaves files to whom they belonged.
func TestOwnersAreGivenBack(t *testing.T) {
	if runtime.GOOS != "linux" || os.Getuid() != 0 {
		t.Skip("only root gives files away")
	}
	t.Parallel()
	eachEngine(t, func(t *testing.T, engine string) {
		dir := t.TempDir()
		c := named(t, "x")
		c.Listeners = []Listener{
			{Network: "unix", Path: dir + "/a", User: "4711", Group: "4712"},
			{Network: "unix", Path: dir + "/b"},
		}
		s := startServer(t, Options{Engine: engine, Workers: 1}, c)
		c.Listeners[0].User, c.Listeners[0].Group = "", "" // left as they are
		apply(t, s, c)
		owner := func() string {
			info, err := os.Lstat(dir + "/a")
			if err != nil {
				t.Fatal(err)
			}
			return fmt.Sprint(fileOwner(info))
		}
		before := owner()
		c.Listeners[0].Mode, c.Listeners[1].User = 0o600, "no-such-user"
		if err := s.Apply([]*ServiceConfig{&c}); err == nil {
			t.Error("there is no such user")
		}
		if now := owner(); now != before || now != "{4711 4712}" {
			t.Errorf("the file belonged to %s, and now to %s", before, now)
		}
	})
}
