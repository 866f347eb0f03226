package command

import (
	"bytes"
	"encoding/json"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"usher/internal/api"
)

// firstWrite is a writer that says when the first bytes have come.
type firstWrite struct {
	bytes.Buffer
	once sync.Once
	come chan struct{}
}

func (w *firstWrite) Write(p []byte) (int, error) {
	w.once.Do(func() { close(w.come) })
	return w.Buffer.Write(p)
}

// Flows are printed while they come, in bounded memory: long before the last one is there.
func TestFlowsStream(t *testing.T) {
	t.Parallel()
	out := &firstWrite{come: make(chan struct{})}
	const rows = 5000
	path := fakeUsher(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		e := json.NewEncoder(w)
		for i := range rows {
			if i == rows/2 {
				_ = http.NewResponseController(w).Flush()
				select {
				case <-out.come:
				case <-time.After(time.Minute):
					t.Error("half of the rows are there, and none was printed")
				}
			}
			if e.Encode(api.Flow{Client: "127.0.0.1:4711", Service: "web", State: "established"}) != nil {
				return
			}
		}
	}))
	var stderr bytes.Buffer
	if status := Main(t.Context(), []string{"usher", "flows", "--control", path}, out, &stderr); status != 0 || stderr.Len() > 0 {
		t.Fatalf("status %d, stderr %q", status, &stderr)
	}
	if n := strings.Count(out.String(), "\n"); n != rows+1 {
		t.Errorf("%d lines, want a heading and %d rows", n, rows)
	}
}

// What the flags of flows say arrives as the parameters of the API.
func TestFlowsQuery(t *testing.T) {
	t.Parallel()
	for args, want := range map[string]struct {
		method string
		query  url.Values
	}{
		"": {"GET", url.Values{}},
		"--client 10.0.0.0/8 --service web,db --service x --min-idle 1h --sort bytes --top 3": {"GET", url.Values{
			"client": {"10.0.0.0/8"}, "service": {"web,db", "x"}, "min-idle": {"1h"}, "sort": {"bytes"}, "top": {"3"}}},
		"-o json":               {"GET", url.Values{"rtt": {"true"}, "sockets": {"true"}}},
		"--kill --state queued": {"DELETE", url.Values{"state": {"queued"}}},
		"--kill --all":          {"DELETE", url.Values{"all": {"true"}}},
	} {
		var method string
		var query url.Values
		path := fakeUsher(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			method, query = r.Method, r.URL.Query()
			e := json.NewEncoder(w)
			if r.Method == http.MethodDelete {
				_ = e.Encode(api.Killed{Killed: 1})
			} else {
				_ = e.Encode(api.Flow{Client: "unix"})
			}
		}))
		var stdout, stderr bytes.Buffer
		words := append([]string{"usher", "flows", "--control", path}, strings.Fields(args)...)
		if status := Main(t.Context(), words, &stdout, &stderr); status != 0 {
			t.Errorf("%s: status %d, stderr %q", args, status, &stderr)
		}
		if diff := cmp.Diff(want.query, query); method != want.method || diff != "" {
			t.Errorf("%s: %s %s", args, method, diff)
		}
	}
}
