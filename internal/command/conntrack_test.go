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
