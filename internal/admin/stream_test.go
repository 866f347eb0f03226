package admin

import (
	"bufio"
	"errors"
	"io"
	"iter"
	"net"
	"net/http"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/zap"

	"usher/internal/api"
	"usher/internal/control"
	"usher/internal/race"
)

// counted says how many rows have been asked for, and whether somebody is still reading.
type counted struct {
	*fake
	yielded atomic.Int64
	ended   chan struct{}
}

func (c *counted) Flows(q control.FlowQuery) iter.Seq[api.Flow] {
	return func(yield func(api.Flow) bool) {
		defer func() { c.ended <- struct{}{} }()
		for f := range c.fake.Flows(q) {
			c.yielded.Add(1)
			if !yield(f) {
				return
			}
		}
	}
}

func (c *counted) serve(t *testing.T, patience time.Duration) *api.Client {
	t.Helper()
	l, err := ListenPath(filepath.Join(t.TempDir(), "s"))
	if err != nil {
		t.Fatal(err)
	}
	h := NewHandler(c, c.fake, c.fake, http.NotFoundHandler())
	h.timeout = patience
	s := Serve(l, h, zap.NewNop())
	t.Cleanup(func() { s.Close(timeout(t)) })
	return api.NewClient(l.Addr().String())
}

// 100,000 rows never wait in memory: what the reader has not taken is in the buffers of the sockets, or not made yet.
func TestFlowsAreBounded(t *testing.T) {
	t.Parallel()
	const bound = 20_000
	rows := 100_000
	if race.Enabled {
		rows = 40_000
	}
	c := &counted{fake: newFake(), ended: make(chan struct{}, 1)}
	c.rows = rows
	client := c.serve(t, writeTimeout)
	var read, most int64
	for _, err := range client.Flows(timeout(t), nil) {
		if err != nil {
			t.Fatal(err)
		}
		read++
		most = max(most, c.yielded.Load()-read)
		if read == 1 { // while this reader does not read, others are served
			if _, err := client.Process(timeout(t)); err != nil {
				t.Fatal(err)
			}
		}
	}
	if read != int64(rows) || most > bound {
		t.Errorf("%d rows, of which up to %d waited", read, most)
	}
}

// A reader that has stopped loses its connection, and the walk ends. When it reads on, the end does not look right.
func TestStalledReader(t *testing.T) {
	t.Parallel()
	c := &counted{fake: newFake(), ended: make(chan struct{}, 1)}
	c.rows = 1 << 40
	client := c.serve(t, 50*time.Millisecond)
	var last error
	read := 0
	for _, last = range client.Flows(timeout(t), nil) {
		if read++; read == 1 {
			<-c.ended
		}
	}
	if read < 2 || last == nil {
		t.Errorf("%d rows, error %v", read, last)
	}
}

// Readers are bounded, and one that leaves makes room.
func TestStreamsAreBounded(t *testing.T) {
	t.Parallel()
	client, s := newFake().serve(t)
	flows := func() (err error) {
		for _, err = range client.Flows(timeout(t), nil) {
		}
		return err
	}
	var last net.Conn
	for range maxStreams {
		c, err := net.Dial("unix", s.Listener().Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		if _, err := io.WriteString(c, "GET /v1/events HTTP/1.1\r\nHost: usher\r\n\r\n"); err != nil {
			t.Fatal(err)
		}
		line, err := bufio.NewReader(c).ReadString('\n') // before the first event
		if err != nil || line != "HTTP/1.1 200 OK\r\n" {
			t.Fatalf("it answers %q, error %v", line, err)
		}
		last = c
	}
	refused, ok := errors.AsType[*api.StatusError](flows())
	if !ok || refused.Status != http.StatusServiceUnavailable || !strings.Contains(refused.Text, "no room for more") {
		t.Fatalf("one more: error %v", refused)
	}
	last.Close()
	for deadline := time.Now().Add(30 * time.Second); flows() != nil; { // until the server has noticed
		if time.Now().After(deadline) {
			t.Fatal("there is no room after one has left")
		}
	}
}
