package proxy

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"usher/balancer"
)

// A name in the abstract namespace works as a listener and as a backend, is nobody else's meanwhile, and is free afterwards.
func TestAbstractSockets(t *testing.T) {
	t.Parallel()
	eachEngine(t, func(t *testing.T, engine string) {
		in, out := fmt.Sprintf("@usher-%d-%s-in", os.Getpid(), engine), fmt.Sprintf("@usher-%d-%s-out", os.Getpid(), engine)
		ln, err := net.Listen("unix", out)
		if err != nil {
			t.Fatal(err)
		}
		defer ln.Close()
		go func() {
			if c, err := ln.Accept(); err == nil {
				_, _ = io.Copy(c, c)
				c.Close()
			}
		}()
		c := service(t)
		c.Pool.Update([]balancer.Spec{{Endpoint: balancer.Endpoint{Path: out}, Weight: 1, Check: balancer.Up}}, 0)
		c.Listeners = []Listener{{Network: "unix", Path: in}}
		s, address := start(t, Options{Engine: engine, Workers: 2}, c)
		if address != "unix://"+in {
			t.Errorf("it listens on %s", address)
		}
		client, err := net.Dial("unix", in)
		if err != nil {
			t.Fatal(err)
		}
		roundTrip(t, client)
		client.Close()
		if _, err := newServer(Options{Engine: engine}, c); !errors.Is(err, syscall.EADDRINUSE) {
			t.Errorf("a second server: error %v, want EADDRINUSE", err)
		}
		s.Close()
		if c, err := net.Dial("unix", in); err == nil {
			c.Close()
			t.Error("somebody still listens")
		}
	})
}

func TestModeAndOwnersOfASocketFile(t *testing.T) {
	t.Parallel()
	eachEngine(t, func(t *testing.T, engine string) {
		c := service(t, echo(t))
		path := filepath.Join(t.TempDir(), "s")
		// Another group, where the process has one or may take any.
		group := os.Getgid()
		if groups, err := os.Getgroups(); err == nil && len(groups) > 0 {
			group = groups[len(groups)-1]
		}
		if os.Geteuid() == 0 {
			group = 54321
		}
		c.Listeners = []Listener{{Network: "unix", Path: path, Mode: 0o626, Group: strconv.Itoa(group)}}
		s, _ := start(t, Options{Engine: engine}, c)
		info, err := os.Lstat(path)
		if err != nil {
			t.Fatal(err)
		}
		if info.Mode() != fs.ModeSocket|0o626 || info.Sys().(*syscall.Stat_t).Gid != uint32(group) {
			t.Errorf("the file is %v of group %d, want 0626 of %d", info.Mode(), info.Sys().(*syscall.Stat_t).Gid, group)
		}
		client, err := net.Dial("unix", path)
		if err != nil {
			t.Fatal(err)
		}
		defer client.Close()
		roundTrip(t, client)
		s.Close()

		c.Listeners[0].Group, c.Listeners[0].User = "", "no-such-user"
		if _, err := newServer(Options{Engine: engine}, c); err == nil || !strings.Contains(err.Error(), "no-such-user") {
			t.Errorf("error %v, want one about the user", err)
		}
		if os.Geteuid() != 0 {
			c.Listeners[0].User = "0"
			if _, err := newServer(Options{Engine: engine}, c); !errors.Is(err, fs.ErrPermission) {
				t.Errorf("error %v, want one about the permission", err)
			}
		}
		if _, err := os.Lstat(path); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("a start that failed has left its file: %v", err)
		}
	})
}

// Until a socket file has its owners and its mode, nobody but the process's own user can connect.
func TestSocketFileBeginsClosed(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "s")
	fd, err := bindUnix(Listener{Network: "unix", Path: path, Mode: 0o777})
	if err != nil {
		t.Fatal(err)
	}
	defer closeFD(fd)
	if info, err := os.Lstat(path); err != nil || info.Mode().Perm()&0o077 != 0 {
		t.Errorf("the file is %v, %v before it has its mode", info.Mode(), err)
	}
}
