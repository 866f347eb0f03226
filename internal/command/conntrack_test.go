package command

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"runtime"
	"strings"
	"testing"

	"usher/internal/api"
)

// countedLines is a writer that counts lines, and the most memory in use while it does.
type countedLines struct {
	lines int
	most  uint64
}

func (w *countedLines) Write(p []byte) (int, error) {
	w.lines += bytes.Count(p, []byte("\n"))
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	w.most = max(w.most, m.HeapInuse)
	return len(p), nil
}

// Flows stream through conntrack -L in bounded memory.
func TestConntrackStreams(t *testing.T) {
	const flows = 100_000
	path := fakeUsher(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		e := json.NewEncoder(w)
		for i := range flows {
			_ = e.Encode(api.Flow{Client: fmt.Sprintf("10.0.%d.%d:4711", i>>8&255, i&255), Destination: "10.1.0.1:80", Network: "tcp", State: "established"})
		}
	}))
	before := new(countedLines)
	_, _ = before.Write(nil)
	out, stderr := new(countedLines), new(bytes.Buffer)
	if status := Main(t.Context(), []string{"usher", "--control", path, "conntrack", "-L"}, out, stderr); status != 0 || out.lines != flows {
		t.Fatalf("status %d, %d lines, stderr %q", status, out.lines, stderr)
	}
	if more := int64(out.most) - int64(before.most); more > 32<<20 {
		t.Errorf("%d bytes of heap more", more)
	}
	if !strings.HasSuffix(stderr.String(), ": 100000 flow entries have been shown.\n") {
		t.Errorf("stderr %q", stderr)
	}
}

// full is a writer that takes nothing.
type full struct{}

func (full) Write([]byte) (int, error) { return 0, errors.New("no space left") }

// An output that fails ends conntrack -E, as it does with -L.
func TestConntrackEventsOutput(t *testing.T) {
	path := fakeUsher(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/v1/process" {
			_ = json.NewEncoder(w).Encode(api.Process{PID: 1})
			return
		}
		f := api.Flow{Client: "10.0.0.1:4711", Destination: "10.1.0.1:80", Network: "tcp", State: "connecting"}
		_ = json.NewEncoder(w).Encode(api.FlowEvent{Event: "new", Flow: &f})
	}))
	stderr := new(bytes.Buffer)
	if status := Main(t.Context(), []string{"usher", "--control", path, "conntrack", "-E"}, full{}, stderr); status != 1 || !strings.Contains(stderr.String(), "no space left") {
		t.Errorf("status %d, stderr %q", status, stderr)
	}
}

// conntrack -F of one family spares the flows of the other.
func TestConntrackFlushFamily(t *testing.T) {
	asked := make(chan string, 1)
	path := fakeUsher(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked <- r.Method + " " + r.URL.Query().Get("client")
		_ = json.NewEncoder(w).Encode(api.Killed{})
	}))
	for family, want := range map[string]string{"ipv4": "DELETE 0.0.0.0/0", "ipv6": "DELETE ::/0"} {
		out := new(bytes.Buffer)
		if status := Main(t.Context(), []string{"usher", "--control", path, "conntrack", "-F", "-f", family}, out, out); status != 0 {
			t.Fatalf("status %d, %q", status, out)
		}
		if got := <-asked; got != want {
			t.Errorf("%s: %s, want %s", family, got, want)
		}
	}
}
