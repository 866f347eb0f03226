package command

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"usher/internal/api"
)

var (
	moment = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)

	web = api.Service{
		Name: "web", Owner: "file", Network: "tcp", Listen: []string{":8080", ":8443", "unix:///x"}, Scheduler: "wrr",
		Status: "degraded", Active: 3, Queued: 1, Total: 1234, Failed: 2, BytesUp: 999, BytesDown: 12345678,
		Refused: map[string]uint64{"rate-limited": 4, "denied": 1},
		Backends: []api.Backend{
			{Address: "10.0.0.1:80", Weight: 3, Status: "up", Since: moment.Add(-time.Hour), Active: 3, Total: 1200, ConnectMS: 0.4321},
			{Address: "10.0.0.2:80", Weight: 1, Backup: true, Status: "down", Since: moment.Add(-1500 * time.Millisecond), Override: "weight=1",
				Reason: "connect: \x1b[31mrefused", Failed: 2, BytesUp: 1000, BytesDown: 4},
		},
	}
	dns = api.Service{Name: "dns", Owner: "flags", Network: "udp", Listen: []string{"udp://127.0.0.1:53"}, Scheduler: "rr", Status: "down"}
)

func TestLs(t *testing.T) {
	t.Parallel()
	before, grown := web, dns
	kube := dns
	kube.Virtual = []api.Virtual{
		{Type: "ClusterIP", Address: "10.96.0.10:53", Listen: "udp://127.96.0.10:10053"}, {Type: "NodePort", Address: "0.0.0.0:30053", Listen: "udp://127.0.0.1:53"},
	}
	before.Total, before.BytesUp, before.BytesDown = 1214, 999, 2345678
	grown.Total = 1 // has been removed and added again
	process := api.Process{Name: "web", PID: 42, Version: "v1", Started: moment.Add(-49 * time.Hour), Engine: "epoll", Workers: 2,
		Flows: 3, MaxConns: 1000, UserSeconds: 1.5, SystemSeconds: 2.25, Config: "/etc/usher.yaml", Upgrades: 1}
	one := []instance{{}}
	earlier := []sample{{at: moment.Add(-2 * time.Second), services: []api.Service{before, grown}}}
	for _, tt := range []struct {
		name string
		l    lister
		want string
	}{
		{"services", lister{out: output{form: "table"}, instances: one, samples: []sample{{at: moment, services: []api.Service{web, dns}}}}, `
NAME  OWNER  NETWORK  LISTEN              SCHEDULER  STATUS    BACKENDS  ACTIVE  TOTAL  FAILED  UP    DOWN
web   file   tcp      :8080,:8443,+1      wrr        degraded  1/2       3       1234   2       999B  12.3MB
dns   flags  udp      udp://127.0.0.1:53  rr         down      0/0       0       0      0       0B    0B
`},
		{"nothing", lister{out: output{form: "table"}, instances: one, samples: []sample{{at: moment}}}, `
NAME  OWNER  NETWORK  LISTEN  SCHEDULER  STATUS  BACKENDS  ACTIVE  TOTAL  FAILED  UP  DOWN
`},
		{"several", lister{out: output{form: "table"}, instances: []instance{{name: "a"}, {name: "b"}}, samples: []sample{
			{at: moment, instance: "a", services: []api.Service{dns}}, {at: moment, instance: "b", services: []api.Service{dns}}}}, `
INSTANCE  NAME  OWNER  NETWORK  LISTEN              SCHEDULER  STATUS  BACKENDS  ACTIVE  TOTAL  FAILED  UP  DOWN
a         dns   flags  udp      udp://127.0.0.1:53  rr         down    0/0       0       0      0       0B  0B
b         dns   flags  udp      udp://127.0.0.1:53  rr         down    0/0       0       0      0       0B  0B
`},
		{"wide", lister{out: output{form: "wide"}, instances: one, before: earlier,
			samples: []sample{{at: moment, process: process, services: []api.Service{web, kube}}}}, `
NAME  OWNER  NETWORK  LISTEN              VIRTUAL                                         SCHEDULER  STATUS    BACKENDS  ACTIVE  QUEUED  TOTAL  FAILED  REFUSED  UP    DOWN    FLOWS/S  UP/S  DOWN/S
web   file   tcp      :8080,:8443,+1      -                                               wrr        degraded  1/2       3       1       1234   2       5        999B  12.3MB  10       0B    5.00MB
dns   flags  udp      udp://127.0.0.1:53  ClusterIP:10.96.0.10:53,NodePort:0.0.0.0:30053  rr         down      0/0       0       0       0      0       0        0B    0B      -        -     -

web: pid 42, version v1, up 2d1h, engine epoll, workers 2, flows 3 of 1000, cpu user 1.50s system 2.25s, upgrades 1, config /etc/usher.yaml
`},
		{"backends", lister{out: output{form: "table"}, service: "web", instances: one, samples: []sample{{at: moment, services: []api.Service{web}}}}, `
ADDRESS      WEIGHT  STATUS  SINCE  OVERRIDE  ACTIVE  TOTAL  FAILED  CONNECT  REASON
10.0.0.1:80  3       up      1h0m   -         3       1200   0       0.43ms   -
10.0.0.2:80  1       down    1.5s   weight=1  0       0      2       -        connect: \x1b[31mrefused
`},
		{"virtual", lister{out: output{form: "table"}, service: "dns", instances: one, samples: []sample{{at: moment, services: []api.Service{kube}}}}, `
ADDRESS  WEIGHT  STATUS  SINCE  OVERRIDE  ACTIVE  TOTAL  FAILED  CONNECT  REASON

VIRTUAL        TYPE       LISTEN
10.96.0.10:53  ClusterIP  udp://127.96.0.10:10053
0.0.0.0:30053  NodePort   udp://127.0.0.1:53
`},
		{"refused", lister{out: output{form: "wide"}, service: "web", instances: one,
			samples: []sample{{at: moment, services: []api.Service{{Name: "web", Refused: web.Refused}}}}}, `
ADDRESS  WEIGHT  BACKUP  STATUS  SINCE  OVERRIDE  ACTIVE  TOTAL  FAILED  CONNECT  UP  DOWN  FLOWS/S  UP/S  DOWN/S  REASON

clients refused: denied 1, rate-limited 4
`},
		{"object", lister{out: output{form: "json"}, instances: one, samples: []sample{{services: []api.Service{dns}}}}, `
{"services":[{"name":"dns","owner":"flags","network":"udp","listen":["udp://127.0.0.1:53"],"scheduler":"rr","status":"down","active":0,"queued":0,"total":0,"failed":0,"bytes_up":0,"bytes_down":0,"backends":null,"backends_up":0,"backends_all":0}]}
`},
		{"object of several", lister{out: output{form: "yaml"}, instances: []instance{{name: "a"}, {name: "b"}}, samples: []sample{
			{instance: "a", services: []api.Service{dns}}, {instance: "b"}}}, `
services:
- instance: a
  name: dns
  owner: flags
  network: udp
  listen:
  - udp://127.0.0.1:53
  scheduler: rr
  status: down
  active: 0
  queued: 0
  total: 0
  failed: 0
  bytes_up: 0
  bytes_down: 0
  backends: null
  backends_up: 0
  backends_all: 0
`},
	} {
		var got bytes.Buffer
		if err := tt.l.print(&got); err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(strings.TrimPrefix(tt.want, "\n"), got.String()); diff != "" {
			t.Errorf("%s:\n%s", tt.name, diff)
		}
	}
}

// One of several ushers that does not answer does not hide the others.
func TestLsOfOneThatIsGone(t *testing.T) {
	t.Parallel()
	there := instance{"there", api.NewClient(fakeUsher(t, answer(api.Services{Services: []api.Service{dns}})))}
	gone := instance{"gone", api.NewClient("/nowhere/usher.sock")}
	var stdout, stderr bytes.Buffer
	l := lister{out: output{form: "table"}, stderr: &stderr, instances: []instance{gone, there}}
	if err := l.read(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := l.print(&stdout); err != nil || !strings.Contains(stdout.String(), "\nthere     dns ") || strings.Count(stdout.String(), "\n") != 2 {
		t.Errorf("%v\n%s", err, &stdout)
	}
	if text := stderr.String(); !strings.HasPrefix(text, "usher: gone: ") || strings.Count(text, "\n") != 1 {
		t.Errorf("stderr %q", text)
	}
	l.instances = []instance{gone}
	if err := l.read(t.Context()); err == nil {
		t.Error("the only one does not answer, and there is no error")
	}
}

// Rows behind the first ones are printed as they come, and move no heading.
func TestTableStreams(t *testing.T) {
	t.Parallel()
	var got bytes.Buffer
	rows := newTable(&got, []column[int]{
		{name: "N", cell: func(n int) string { return fmt.Sprint(n) }},
		{name: "TEXT", cell: func(n int) string { return strings.Repeat("x", n%3) }},
		{name: "END", cell: func(int) string { return "." }},
	}, false)
	for n := range keptRows + 10 {
		if err := rows.row(n); err != nil {
			t.Fatal(err)
		}
		if printed := strings.Count(got.String(), "\n"); n >= keptRows && printed != n+2 {
			t.Fatalf("%d lines are printed after %d rows", printed, n+1)
		}
	}
	lines := strings.Split(got.String(), "\n")
	for i, want := range map[int]string{0: "N    TEXT  END", 1: "0    -     .", 3: "2    xx    .", keptRows + 1: "500  xx    ."} {
		if lines[i] != want {
			t.Errorf("line %d: %q, want %q", i, lines[i], want)
		}
	}
}

// A flow and an event, in each form.
func TestPrinter(t *testing.T) {
	t.Parallel()
	flow := api.Flow{Client: "10.0.0.9:4711", Listener: "127.0.0.1:80", Service: "web", Network: "tcp", State: "established",
		AgeMS: 2000, IdleMS: 10, BytesUp: 1000, BytesDown: 3000, Tries: 1, RTTMS: 12.345, ID: "0-tcp-1-1"}
	event := api.Event{Time: moment.Local(), Service: "web", Event: "status", From: "up", To: "degraded"}
	for form, want := range map[string]string{
		"table": "CLIENT         SERVICE  BACKEND  STATE        AGE   IDLE  UP      DOWN    RATE\n" +
			"10.0.0.9:4711  web      -        established  2.0s  10ms  1.00kB  3.00kB  2.00kB/s\n",
		"wide": "CLIENT         LISTENER      SERVICE  BACKEND  NETWORK  STATE        AGE   IDLE  UP      DOWN    RATE      TRIES  RTT\n" +
			"10.0.0.9:4711  127.0.0.1:80  web      -        tcp      established  2.0s  10ms  1.00kB  3.00kB  2.00kB/s  1      12.3ms\n",
		"json": `{"client":"10.0.0.9:4711","listener":"127.0.0.1:80","service":"web","backend":"","network":"tcp","state":"established",` +
			`"age_ms":2000,"idle_ms":10,"bytes_up":1000,"bytes_down":3000,"tries":1,"rtt_ms":12.345,"id":"0-tcp-1-1"}` + "\n",
		"yaml": "- client: 10.0.0.9:4711\n  listener: 127.0.0.1:80\n  service: web\n  backend: \"\"\n  network: tcp\n  state: established\n" +
			"  age_ms: 2000\n  idle_ms: 10\n  bytes_up: 1000\n  bytes_down: 3000\n  tries: 1\n  rtt_ms: 12.345\n  id: 0-tcp-1-1\n",
	} {
		if got := printed(t, form, flowColumns, flow); got != want {
			t.Errorf("%s:\n%s", form, cmp.Diff(want, got))
		}
	}
	want := "TIME                     SERVICE       BACKEND             EVENT       FROM      TO        REASON\n" +
		moment.Local().Format("2006-01-02 15:04:05.000") + "  web           -                   status      up        degraded  -\n"
	if got := printed(t, "table", eventColumns, event); got != want {
		t.Error(cmp.Diff(want, got))
	}
}

func printed[T any](t *testing.T, form string, columns []column[T], v T) string {
	t.Helper()
	var got bytes.Buffer
	p := newPrinter(output{form: form}, &got, columns)
	if err := p.print(v); err != nil {
		t.Fatal(err)
	}
	if err := p.flush(); err != nil {
		t.Fatal(err)
	}
	return got.String()
}

// Each print of a watch follows the one before, until the context ends.
func TestRepeat(t *testing.T) {
	t.Parallel()
	for form, want := range map[string]string{"table": "1\n\n2\n\n3\n", "json": "1\n2\n3\n", "yaml": "---\n1\n---\n2\n---\n3\n"} {
		ctx, cancel := context.WithCancel(t.Context())
		var got bytes.Buffer
		n := 0
		err := output{w: &got, form: form, interval: time.Millisecond}.repeat(ctx, func(w io.Writer) error {
			if n++; n == 3 {
				cancel()
			}
			_, err := fmt.Fprintln(w, n)
			return err
		})
		if err != nil || !strings.HasPrefix(got.String(), want) {
			t.Errorf("%s: %q, %v", form, got.String(), err)
		}
	}
}

// On a terminal nothing wraps or scrolls, and nothing of the print before stays.
func TestRedrawn(t *testing.T) {
	t.Parallel()
	got := string(redrawn([]byte("héading and more\none\ntwo\nthree\n"), size{width: 8, height: 4}))
	if want := "\x1b[Hhéading\x1b[K\none\x1b[K\ntwo\x1b[K\n\x1b[J"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}
