package admin

import (
	"bufio"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"usher/internal/api"
	"usher/internal/config"
)

// TestDifference: a service is sent again if anything of it has changed, and of its backends those that have, as long as
// they are the same ones in the same order.
func TestDifference(t *testing.T) {
	t.Parallel()
	service := func(edit func(*api.Service)) *api.Service {
		s := &api.Service{Name: "web", Listen: []string{"127.0.0.1:80"}, Refused: map[string]uint64{"denied": 1}, Backends: []api.Backend{{Address: "a"}, {Address: "b"}}}
		edit(s)
		return s
	}
	before := service(func(*api.Service) {})
	for _, tt := range []struct {
		name     string
		edit     func(*api.Service)
		kind     string
		backends string // that are sent
	}{
		{"nothing", func(*api.Service) {}, "", ""},
		{"a counter", func(s *api.Service) { s.Total++ }, "change", ""},
		{"a list", func(s *api.Service) { s.Listen = []string{"127.0.0.1:81"} }, "change", ""},
		{"a map", func(s *api.Service) { s.Refused = map[string]uint64{"denied": 2} }, "change", ""},
		{"a backend", func(s *api.Service) { s.Backends[1].Status = "down" }, "change", "b"},
		{"a new backend", func(s *api.Service) { s.Backends = append(s.Backends, api.Backend{Address: "c"}) }, "service", "a b c"},
		{"another backend", func(s *api.Service) { s.Backends[0].Address = "c" }, "service", "c b"},
		{"the order", func(s *api.Service) { s.Backends[0], s.Backends[1] = s.Backends[1], s.Backends[0] }, "service", "b a"},
	} {
		kind, sent := difference(before, service(tt.edit))
		var backends []string
		if sent != nil {
			for _, b := range sent.Backends {
				backends = append(backends, b.Address)
			}
		}
		if kind != tt.kind || strings.Join(backends, " ") != tt.backends {
			t.Errorf("%s: %q with %q, want %q with %q", tt.name, kind, backends, tt.kind, tt.backends)
		}
	}
	if kind, _ := difference(nil, before); kind != "service" {
		t.Errorf("a new service: %q", kind)
	}
}

// sent is what a reader of the live stream gets: events and their data.
type sent struct{ kind, data string }

// readSnapshot reads to the end of the next snapshot.
func readSnapshot(t *testing.T, lines *bufio.Scanner) (got []sent, end api.Snapshot) {
	t.Helper()
	for lines.Scan() {
		name, value, _ := strings.Cut(lines.Text(), ": ")
		switch name {
		case "event":
			got = append(got, sent{kind: value})
		case "data":
			last := &got[len(got)-1]
			last.data = value
			if last.kind == "snapshot" {
				if err := json.Unmarshal([]byte(value), &end); err != nil {
					t.Fatal(err)
				}
				return got, end
			}
		}
	}
	t.Fatalf("the stream ends after %q: %v", got, lines.Err())
	return nil, end
}

// TestLive: the first snapshot is whole, those behind have what has changed, and events come between them.
func TestLive(t *testing.T) {
	t.Parallel()
	f := newFake()
	at, err := config.ParseListener("9090")
	if err != nil {
		t.Fatal(err)
	}
	h := f.handler()
	ask(h, "POST", "/v1/services", "{name: web, listen: 8080, backends: [9001, 9002]}")
	ask(h, "POST", "/v1/services", "{name: db, listen: 8081, backends: [9003]}")
	s := httptest.NewServer(NewGuard(h, at, ""))
	defer s.Close()
	answer, err := http.Get(s.URL + "/v1/live")
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		answer.Body.Close()
		s.Close() // waits for its end
		if h.live.last != nil || h.live.readers != 0 {
			t.Errorf("without a reader there are %d, and the last snapshot is kept: %v", h.live.readers, h.live.last != nil)
		}
	}()
	if kind := answer.Header.Get("Content-Type"); kind != "text/event-stream" {
		t.Errorf("the stream is %s", kind)
	}
	lines := bufio.NewScanner(answer.Body)
	kinds := func(all []sent) (k []string) {
		for _, s := range all {
			k = append(k, s.kind)
		}
		return k
	}
	first, end := readSnapshot(t, lines)
	if diff := cmp.Diff([]string{"service", "service", "snapshot"}, kinds(first)); diff != "" || !end.IsWhole || end.Changes != "none" || end.Process.PID != 4711 {
		t.Errorf("the first snapshot: %+v, %s", end, diff)
	}
	second, end := readSnapshot(t, lines)
	if diff := cmp.Diff([]string{"snapshot"}, kinds(second)); diff != "" || end.IsWhole {
		t.Errorf("nothing has changed: %+v, %s", end, diff)
	}
	ask(h, "PATCH", "/v1/services/web/backends/9002", "weight: 3")
	ask(h, "DELETE", "/v1/services/db", "")
	f.events <- api.Event{Event: "status", Service: "web", To: "up"}
	var changes []sent
	var removed []string
	for hasEvent := false; len(removed) == 0 || !hasEvent; {
		var some []sent
		some, end = readSnapshot(t, lines)
		removed = append(removed, end.Removed...)
		for _, s := range some {
			hasEvent = hasEvent || s.kind == "event" && strings.Contains(s.data, `"to":"up"`)
			if s.kind == "change" || s.kind == "service" {
				changes = append(changes, s)
			}
		}
	}
	if !slices.Equal(removed, []string{"db"}) || len(changes) != 1 || changes[0].kind != "change" ||
		!strings.Contains(changes[0].data, "9002") || strings.Contains(changes[0].data, "9001") {
		t.Errorf("a backend changed and a service is gone: %q, %+v", removed, changes)
	}
}
