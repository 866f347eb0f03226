package admin

import (
	"bufio"
	"errors"
	"io"
	"net"
	"os"
	"strings"
	"testing"
	"time"

	"usher/internal/api"
	"usher/internal/config"
)

// A client does over the socket what the API can do.
func TestClient(t *testing.T) {
	t.Parallel()
	f := newFake()
	c, _ := f.serve(t)
	ctx := timeout(t)
	do := func(what string, err error) {
		t.Helper()
		if err != nil {
			t.Fatalf("%s: %v", what, err)
		}
	}
	do("add", c.AddService(ctx, []byte(`{"name": "web", "listen": "8080", "backends": ["10.0.0.1:80", "unix:///run/a"]}`)))
	do("set", c.SetService(ctx, "web", []byte(`scheduler: lc`)))
	do("add a backend", c.AddBackend(ctx, "web", []byte(`{"address": "10.0.0.2:80", "weight": 3}`)))
	do("set a backend", c.SetBackend(ctx, "web", "10.0.0.2:80", []byte(`{"weight": 7}`)))
	do("remove a backend", c.RemoveBackend(ctx, "web", "unix:///run/a"))
	weight := 5
	do("override", c.SetOverride(ctx, "web", "10.0.0.1:80", api.Override{Admin: "drain", Weight: &weight, Timeout: "10m"}))
	if o := f.overrides["web 10.0.0.1:80"]; o.Timeout != 10*time.Minute || *o.Weight != 5 || *o.Admin != 1 {
		t.Errorf("the override is %+v", o)
	}
	do("resume", c.Resume(ctx, "web", "10.0.0.1:80"))
	s, err := c.Service(ctx, "web")
	do("show", err)
	if b := s.Services[0].Backends; s.Services[0].Scheduler != "lc" || len(b) != 2 || b[1].Weight != 7 {
		t.Errorf("the service is %+v", s)
	}
	text, err := c.Config(ctx)
	do("config", err)
	const want = "services:\n  web:\n    listen: 127.0.0.1:8080\n    backends:\n      - 10.0.0.1:80\n      - 10.0.0.2:80@7\n    scheduler: lc\n"
	if string(text) != want {
		t.Errorf("the config is\n%s", text)
	}
	do("reload", c.Reload(ctx))
	do("stop", c.Stop(ctx, true))
	p, err := c.Process(ctx)
	do("process", err)
	if p.PID != 4711 || len(f.stopped) != 1 || !f.stopped[0] {
		t.Errorf("the process is %+v, stopped %v", p, f.stopped)
	}
	do("remove", c.RemoveService(ctx, "web"))
	all, err := c.Services(ctx)
	do("list", err)
	if all.Services == nil || len(all.Services) != 0 {
		t.Errorf("services: %v, want none, as a list", all.Services)
	}
}

// Streams come row by row, and end with the server.
func TestStreams(t *testing.T) {
	t.Parallel()
	f := newFake()
	f.rows = 1000
	c, s := f.serve(t)
	var rows int64
	for flow, err := range c.Flows(timeout(t), nil) {
		if err != nil || flow.AgeMS != rows {
			t.Fatalf("row %d: %+v, error %v", rows, flow, err)
		}
		rows++
	}
	if rows != 1000 {
		t.Errorf("%d rows", rows)
	}
	f.services = []*config.Service{{Name: "web"}}
	var last api.Rebalanced
	steps, err := c.Rebalance(timeout(t), "web", api.Rebalance{Rate: 1})
	if err != nil {
		t.Fatal(err)
	}
	for r, err := range steps {
		if err != nil {
			t.Fatal(err)
		}
		last = r
	}
	if last != (api.Rebalanced{Ended: 2, Surplus: 2}) {
		t.Errorf("in the end the rebalance is at %+v", last)
	}
	if _, err := c.Rebalance(timeout(t), "wep", api.Rebalance{}); err == nil || !strings.Contains(err.Error(), `did you mean "web"?`) {
		t.Errorf("a rebalance of an unknown service: %v", err)
	}
	go func() {
		for range 3 {
			f.events <- api.Event{Event: "status"}
		}
		s.Close(timeout(t))
	}()
	events, err := c.Events(timeout(t))
	if err != nil {
		t.Fatal(err)
	}
	seen := 0
	for e, err := range events {
		if err != nil || e.Event != "status" {
			t.Fatalf("event %+v, error %v", e, err)
		}
		seen++
	}
	if seen != 3 {
		t.Errorf("%d events", seen)
	}
}

// Clients that begin a request and do not go on are as many as there is room for, and lose their connections. A header has
// a bound as well.
func TestIdleClients(t *testing.T) {
	t.Parallel()
	c, s := newFake().serve(t)
	connect := func(text string) net.Conn {
		conn, err := net.Dial("unix", s.Listener().Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { conn.Close() })
		if _, err := io.WriteString(conn, text); err != nil {
			t.Fatal(err)
		}
		return conn
	}
	answer, err := bufio.NewReader(connect("GET / HTTP/1.1\r\nHost: u\r\nX: " + strings.Repeat("x", 2*maxHeader))).ReadString('\n')
	if err != nil || !strings.HasPrefix(answer, "HTTP/1.1 431 ") {
		t.Errorf("a large header: %q, error %v", answer, err)
	}
	idle := make([]net.Conn, maxConns)
	for i := range idle {
		idle[i] = connect("GET /v1/pro")
	}
	if _, err := c.Process(timeout(t)); err != nil {
		t.Error("behind idle clients:", err)
	}
	for _, conn := range idle {
		if err := conn.SetReadDeadline(time.Now().Add(time.Minute)); err != nil {
			t.Fatal(err)
		}
		if _, err := io.Copy(io.Discard, conn); errors.Is(err, os.ErrDeadlineExceeded) {
			t.Fatal("an idle client stays connected")
		}
	}
}
