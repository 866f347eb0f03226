package command

import (
	"bytes"
	"encoding/json"
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

// The state and the directions of a flow, as conntrack has them.
func TestTrackedFlow(t *testing.T) {
	t.Parallel()
	at := api.Flow{Client: "10.0.0.1:1000", Destination: "10.0.0.2:80", Target: "10.0.0.3:8080", Source: "10.0.0.2:4000", Network: "tcp", ID: "0-tcp-0-1"}
	for name, c := range map[string]struct {
		change func(*api.Flow)
		want   string
	}{
		"connecting":  {func(f *api.Flow) { f.State, f.TimeoutMS = "connecting", 4999 }, "SYN_SENT 4 false false 10.0.0.3:8080 10.0.0.2:4000"},
		"queued":      {func(f *api.Flow) { f.State, f.Target, f.Source = "queued", "", "" }, "SYN_SENT 432000 false false 10.0.0.2:80 10.0.0.1:1000"},
		"established": {func(f *api.Flow) { f.State = "established" }, "ESTABLISHED 432000 true true 10.0.0.3:8080 10.0.0.2:4000"},
		"client":      {func(f *api.Flow) { f.State, f.Closed = "half-closed", "client" }, "CLOSE_WAIT 432000 true true 10.0.0.3:8080 10.0.0.2:4000"},
		"backend":     {func(f *api.Flow) { f.State, f.Closed = "half-closed", "backend" }, "FIN_WAIT 432000 true true 10.0.0.3:8080 10.0.0.2:4000"},
		"both":        {func(f *api.Flow) { f.State, f.Closed = "half-closed", "both" }, "TIME_WAIT 432000 true true 10.0.0.3:8080 10.0.0.2:4000"},
		"aborted":     {func(f *api.Flow) { f.State = "closing" }, "CLOSE 432000 true true 10.0.0.3:8080 10.0.0.2:4000"},
		"unreplied":   {func(f *api.Flow) { f.Network, f.State, f.TimeoutMS = "udp", "unreplied", 30000 }, " 30 false false 10.0.0.3:8080 10.0.0.2:4000"},
		"replied":     {func(f *api.Flow) { f.Network, f.State, f.AgeMS = "udp", "assured", 1000 }, " 432000 true false 10.0.0.3:8080 10.0.0.2:4000"},
		"stream":      {func(f *api.Flow) { f.Network, f.State, f.AgeMS = "udp", "assured", 2001 }, " 432000 true true 10.0.0.3:8080 10.0.0.2:4000"},
	} {
		a := at
		c.change(&a)
		f, ok := trackedFlow(&a)
		if got := fmt.Sprint(f.State, " ", f.Timeout, f.SeenReply, f.Assured, f.Reply.Src, f.Reply.Dst); !ok || got != c.want {
			t.Errorf("%s: %q, want %q", name, got, c.want)
		}
	}
	if _, ok := trackedFlow(&api.Flow{Client: "unix", Network: "unix"}); ok {
		t.Error("a flow without addresses is shown")
	}
}
