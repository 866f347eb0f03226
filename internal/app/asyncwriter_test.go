package app

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"usher/internal/flags"
)

// fullPipe returns a pipe that takes no byte more until it is read.
func fullPipe(t *testing.T) (r, w *os.File) {
	t.Helper()
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		r.Close()
		w.Close()
	})
	if err := w.SetWriteDeadline(time.Now().Add(50 * time.Millisecond)); err != nil {
		t.Skipf("no pipe with deadlines here: %v", err)
	}
	for err == nil {
		_, err = io.WriteString(w, strings.Repeat("filler\n", 100))
	}
	if !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Fatal(err)
	}
	if err := w.SetWriteDeadline(time.Time{}); err != nil {
		t.Fatal(err)
	}
	return r, w
}

func TestAsyncWriterNeverWaits(t *testing.T) {
	t.Parallel()
	r, pipe := fullPipe(t)
	w := newAsyncWriter(pipe, func(n uint64) []byte { return fmt.Appendf(nil, "lost %d\n", n) }, nil)
	line := strings.Repeat("x", 999) + "\n"
	const lines = 3 * mostPending / 1000
	for range lines {
		if n, err := io.WriteString(w, line); n != len(line) || err != nil {
			t.Fatalf("wrote %d, %v", n, err)
		}
	}
	start := time.Now()
	w.close()
	if took := time.Since(start); took < lastFlush || took > lastFlush+patience {
		t.Errorf("close took %v with a reader that reads nothing, want %v", took, lastFlush)
	}
	if _, err := io.WriteString(w, line); err == nil {
		t.Error("a write after close is taken")
	}

	// The reader resumes and finds what fitted, and the count of lost lines.
	got, lost := 0, 0
	for in := bufio.NewReader(r); lost == 0; {
		text, err := in.ReadString('\n')
		if err != nil {
			t.Fatal(err)
		}
		if text == line {
			got++
		}
		_, _ = fmt.Sscanf(text, "lost %d", &lost)
	}
	<-w.done
	if n := w.lostLines(); n != uint64(lost) {
		t.Errorf("%d lines are counted as lost, of %d", n, lost)
	}
	if got+lost != lines || got < mostPending/1000 {
		t.Errorf("%d lines came through and %d were said to be lost, of %d", got, lost, lines)
	}
}

// pieces records single writes, and fails on request.
type pieces struct {
	all  [][]byte
	fail error
}

func (p *pieces) Write(b []byte) (int, error) {
	p.all = append(p.all, bytes.Clone(b))
	return len(b), p.fail
}

func TestAsyncWriterKeepsLinesWhole(t *testing.T) {
	t.Parallel()
	var out pieces
	w := newAsyncWriter(&out, nil, nil)
	var want []byte
	for i := range 2000 {
		line := fmt.Appendf(nil, "%d %s\n", i, strings.Repeat("y", i*7%6000)) // some longer than a piece
		want = append(want, line...)
		_, _ = w.Write(line)
	}
	w.close()
	if !bytes.Equal(bytes.Join(out.all, nil), want) {
		t.Error("what came out is not what went in")
	}
	for _, p := range out.all {
		if p[len(p)-1] != '\n' || len(p) > atomicWrite && bytes.Count(p, []byte("\n")) > 1 {
			t.Errorf("a piece of %d bytes, %d lines", len(p), bytes.Count(p, []byte("\n")))
		}
	}

	var failures atomic.Int32
	w = newAsyncWriter(&pieces{fail: io.ErrClosedPipe}, nil, func(error) { failures.Add(1) })
	_, _ = io.WriteString(w, "line\n")
	w.close()
	if failures.Load() != 1 {
		t.Errorf("%d calls for failed writes, want 1", failures.Load())
	}
}

// A log without a reader delays neither clients nor health checks nor the end.
func TestRunWithStalledLog(t *testing.T) {
	t.Parallel()
	r, pipe := fullPipe(t)
	backend := greeter(t)
	dir := t.TempDir()
	front, dying := filepath.Join(dir, "front"), filepath.Join(dir, "dying")
	dead, err := net.Listen("unix", dying)
	if err != nil {
		t.Skipf("no unix sockets here: %v", err)
	}
	c := parse(t, flags.Words{
		Listen:  []string{"unix://" + front},
		Backend: []string{"unix://" + dying, backend},
		Options: []flags.Option{
			{Name: "health", Value: "tcp,interval=20ms,fall=1,rise=1"}, {Name: "access-log", Value: "true"}, {Name: "log-level", Value: "debug"},
		},
	})
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	result := make(chan error, 1)
	go func() { result <- Run(ctx, startOf(c), Env{Stdout: io.Discard, Stderr: pipe}) }()
	ask := func() string {
		conn, err := net.Dial("unix", front)
		if err != nil {
			return err.Error()
		}
		defer conn.Close()
		_ = conn.SetDeadline(time.Now().Add(patience))
		got, _ := io.ReadAll(conn)
		return string(got)
	}
	dead.Close() // its check fails now, and the log cannot take the line
	served := 0
	for deadline := time.Now().Add(patience); served < 50 && time.Now().Before(deadline); {
		if ask() == "hello" {
			served++
		}
	}
	if served < 50 {
		t.Errorf("%d clients served", served)
	}
	cancel()
	select {
	case err := <-result:
		if err != nil {
			t.Error(err)
		}
	case <-time.After(patience):
		t.Fatal("Run goes on after its context")
	}
	// All of it is there for a reader that comes late.
	if err := r.SetReadDeadline(time.Now().Add(patience)); err != nil {
		t.Fatal(err)
	}
	for in := bufio.NewReader(r); ; {
		line, err := in.ReadString('\n')
		if err != nil {
			t.Fatalf("the log never says that usher stopped: %v", err)
		}
		if strings.Contains(line, `"msg":"stopped"`) {
			return
		}
	}
}
