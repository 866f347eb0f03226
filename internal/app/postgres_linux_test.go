package app

import (
	"bytes"
	"fmt"
	"net"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"usher/internal/flags"
)

// postgres is a server that stays in its start-up until it is promoted. Until then the standby accepts no client.
type postgres struct {
	bin, dir string
	port     int
	as       *syscall.SysProcAttr
}

// newPostgres skips the test where Debian's server is not installed, or cannot be run.
func newPostgres(t *testing.T) *postgres {
	t.Helper()
	found, _ := filepath.Glob("/usr/lib/postgresql/*/bin/initdb")
	if len(found) == 0 {
		t.Skip("PostgreSQL is not installed")
	}
	if _, err := exec.LookPath("psql"); err != nil {
		t.Skip("psql is not installed")
	}
	dir, err := os.MkdirTemp("", "pg") // a short name: the path of a unix socket goes there
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	p := &postgres{bin: filepath.Dir(found[len(found)-1]), dir: dir}
	if os.Geteuid() == 0 { // it refuses to run as root
		who, err := user.Lookup("nobody")
		if err != nil {
			t.Skipf("no user to run PostgreSQL as: %v", err)
		}
		uid, _ := strconv.Atoi(who.Uid)
		gid, _ := strconv.Atoi(who.Gid)
		if err := os.Chown(dir, uid, gid); err != nil {
			t.Fatal(err)
		}
		p.as = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}}
	}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p.port = ln.Addr().(*net.TCPAddr).Port
	ln.Close()
	return p
}

// data is the directory of the server.
func (p *postgres) data() string { return filepath.Join(p.dir, "data") }

// run runs a program of PostgreSQL's to its end.
func (p *postgres) run(t *testing.T, program string, args ...string) {
	t.Helper()
	cmd := exec.Command(filepath.Join(p.bin, program), args...)
	cmd.Dir, cmd.SysProcAttr = p.dir, p.as
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%s: %v\n%s", program, err, out)
	}
}

// start returns when the server is in its start-up.
func (p *postgres) start(t *testing.T) {
	t.Helper()
	p.run(t, "initdb", "--no-sync", "-A", "trust", "-U", "postgres", "-D", p.data())
	for name, text := range map[string]string{
		"standby.signal": "",
		"postgresql.auto.conf": fmt.Sprintf("hot_standby=off\nfsync=off\nport=%d\nlisten_addresses='127.0.0.1'\nunix_socket_directories='%s'\n",
			p.port, p.dir),
	} {
		if err := os.WriteFile(filepath.Join(p.data(), name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	server := exec.Command(filepath.Join(p.bin, "postgres"), "-D", p.data())
	var log bytes.Buffer
	server.Dir, server.SysProcAttr, server.Stdout, server.Stderr = p.dir, p.as, &log, &log
	if err := server.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		server.Process.Signal(syscall.SIGQUIT)
		server.Wait()
		if t.Failed() {
			t.Logf("log of the server:\n%s", &log)
		}
	})
	for began := time.Now(); ; time.Sleep(20 * time.Millisecond) {
		said, err := psql(p.port)
		if err != nil && strings.Contains(said, "the database system is") {
			return
		}
		if time.Since(began) > time.Minute {
			t.Fatalf("the server never began to start up: %v, %s", err, said)
		}
	}
}

// psql queries a server for one value.
func psql(port int) (said string, err error) {
	cmd := exec.Command("psql", "-X", "-At", "-h", "127.0.0.1", "-p", strconv.Itoa(port), "-U", "postgres", "-c", "select 'ready'", "postgres")
	out, err := cmd.CombinedOutput()
	return strings.TrimSpace(string(out)), err
}

// TestPostgresClientsAreHeldUntilItHasStartedUp is README's recipe.
func TestPostgresClientsAreHeldUntilItHasStartedUp(t *testing.T) {
	t.Parallel()
	p := newPostgres(t)
	p.start(t)
	log := run(t, parse(t, flags.Words{
		Listen:  []string{"db=127.0.0.1:0"},
		Backend: []string{fmt.Sprintf("db=127.0.0.1:%d", p.port)},
		Options: []flags.Option{
			{Name: "wait", Value: "5m"},
			{Name: "health", Value: "tcp:send=hex:00000017000300007573657200706f7374677265730000,expect=^R,interval=100ms"},
		},
	}), nil)
	_, port, err := net.SplitHostPort(log.await(t, `"listen":\["([^"]+)"\]`))
	if err != nil {
		t.Fatal(err)
	}
	at, _ := strconv.Atoi(port)
	log.await(t, `clients wait up to 5m for one, and are sent to them then`)
	const clients = 3
	type answer struct {
		said string
		err  error
	}
	answers := make(chan answer, clients)
	for range clients {
		go func() {
			said, err := psql(at)
			answers <- answer{said, err}
		}()
	}
	select {
	case a := <-answers:
		t.Fatalf("a client was not held: %q, %v", a.said, a.err)
	case <-time.After(500 * time.Millisecond): // long enough for clients that are not held
	}
	p.run(t, "pg_ctl", "promote", "-D", p.data())
	for range clients {
		if a := <-answers; a.said != "ready" {
			t.Errorf("a client that was held hears %q, %v", a.said, a.err)
		}
	}
}
