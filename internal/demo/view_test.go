package demo

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"usher/internal/api"
	"usher/internal/terminal"
)

func TestRender(t *testing.T) {
	t.Parallel()
	many := []Row{
		{"a", "1.2.3.4:1", "up", 4800, 12.4, 5000},
		{"b", "1.2.3.4:2", "down", 2400, 0, 5000},
		{"c", "1.2.3.4:3", "up", 1, 7, 5000},
	}
	below := "\n  5 requests, failed clients: 1, asked again: 2\n  3 connections kept, the oldest 1m5s, opened again: 4"
	for _, tt := range []struct {
		name    string
		rows    []Row
		look    Look
		process api.Process
		width   int
		want    string
	}{
		{name: "nothing", width: 80},
		{name: "bars to scale", rows: many, width: 80, look: Look{IsUTF8: true}, want: `
  a  1.2.3.4:1  up    4800 active  12/s  5000 total  ████████████████████████
  b  1.2.3.4:2  down  2400 active   0/s  5000 total  ████████████
  c  1.2.3.4:3  up       1 active   7/s  5000 total  █`},
		{name: "narrow", rows: many, width: 60, want: `
  a  1  up    4800 active  12/s  5000 total  ##############
  b  2  down  2400 active   0/s  5000 total  #######
  c  3  up       1 active   7/s  5000 total  #`},
		{name: "no room", rows: many[:1], width: 30, want: `
  a  1  up  4800 active  12/s  5000 total`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			f := Frame{Rows: tt.rows, Load: LoadCounts{5, 2, 0}, Kept: KeptCounts{3, 65*time.Second + 1, 4, 1}, Process: tt.process}
			got := "\n" + strings.Join(tt.look.render(&f, tt.width), "\n")
			if diff := cmp.Diff(tt.want+below, got); diff != "" {
				t.Errorf("want -, got +:\n%s", diff)
			}
		})
	}
}

func TestRenderColours(t *testing.T) {
	t.Parallel()
	look := Look{HasColour: true, Keys: "q quit"}
	f := Frame{Rows: []Row{{"a", ":1", "down", 0, 0, 1}}, Process: api.Process{PID: 7, Version: "v1", Engine: "epoll", Upgrades: 2}}
	want := "  a  :1  <r>down<n>  0 active  0/s  1 total\n" +
		"  0 requests, <g>failed clients: 0<n>\n  0 connections kept, the oldest 0s\n  usher v1, pid 7, engine epoll, upgrades: 2\n  q quit"
	name := strings.NewReplacer(terminal.Red, "<r>", terminal.Green, "<g>", terminal.Normal, "<n>")
	if diff := cmp.Diff(want, name.Replace(strings.Join(look.render(&f, 80), "\n"))); diff != "" {
		t.Errorf("want -, got +:\n%s", diff)
	}
}

// counting returns frames whose totals grow by one each time they are asked for.
func counting(names ...string) func(context.Context) Frame {
	var f Frame
	return func(context.Context) Frame {
		f.Load.Answered++
		f.Rows = nil
		for _, n := range names {
			f.Rows = append(f.Rows, Row{n, ":1", "up", 0, 0, f.Load.Answered})
		}
		return f
	}
}

// writes keeps what is written, write by write.
type writes []string

func (w *writes) Write(p []byte) (int, error) {
	*w = append(*w, string(p))
	return len(p), nil
}

// What is logged while lines are live stands above them, whole and once, in the write that
// draws them anew.
func TestViewOnATerminal(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var got writes
		var height, turn atomic.Int64
		height.Store(4)
		turn.Store(1)
		v := NewView(&got, func() (int, int) { return 80, int(height.Load()) }, new(Look), counting("a", "b"))
		v.turn = func() int { return int(turn.Load()) }
		frame := func(up, above string, total int, below string) string {
			return "\r" + up + above + terminal.WrapOff +
				fmt.Sprintf("  a  :1  up  0 active  0/s  %d total\x1b[K\n  b  :1  up  0 active  0/s  %[1]d total\x1b[K\n%s", total, below) +
				terminal.EraseBelow + terminal.WrapOn
		}
		requests := func(n int) string { return fmt.Sprintf("  %d requests, failed clients: 0\x1b[K\n", n) }
		io.WriteString(v, "before\n")
		ctx, cancel := context.WithCancel(t.Context())
		var running sync.WaitGroup
		running.Go(func() { v.Run(ctx) })
		time.Sleep(frameTime + frameTime/2)
		io.WriteString(v, "two\nlines")
		height.Store(3)
		time.Sleep(frameTime)
		turn.Store(0) // in the background
		time.Sleep(frameTime)
		io.WriteString(v, "alone\n")
		turn.Store(2)
		time.Sleep(frameTime)
		cancel()
		running.Wait()
		v.End()
		io.WriteString(v, "after\n")
		want := writes{
			"before\n", frame("", "", 1, requests(1)), frame("\x1b[3A", "", 2, requests(2)),
			frame("\x1b[3A", terminal.EraseBelow+"two\nlines\n", 2, requests(2)),
			frame("\x1b[3A", "", 3, ""), "alone\n", frame("", "", 5, ""), "after\n",
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("writes (-want +got):\n%s", diff)
		}
	})
}

func TestViewElsewhere(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var out bytes.Buffer
		v := NewView(&out, nil, new(Look), counting("a", "b"))
		ctx, cancel := context.WithTimeout(t.Context(), 12*time.Second)
		defer cancel()
		var running sync.WaitGroup
		running.Go(func() { v.Run(ctx) })
		time.Sleep(7 * time.Second)
		io.WriteString(v, "a log line\n")
		running.Wait()
		want := `a up, 0 active, 1 total; b up, 0 active, 1 total
1 requests, failed clients: 0; 0 connections kept, the oldest 0s
a log line
a up, 0 active, 2 total; b up, 0 active, 2 total
2 requests, failed clients: 0; 0 connections kept, the oldest 0s
`
		if diff := cmp.Diff(want, out.String()); diff != "" {
			t.Errorf("want -, got +:\n%s", diff)
		}
	})
}

// Rates are measured over a second at least, and a backend that leaves and comes back has
// none at first.
func TestWatcherRates(t *testing.T) {
	t.Parallel()
	w := watcher{backends: Backends{{number: 1}}}
	now := time.Now()
	for _, tt := range []struct {
		after time.Duration
		total uint64
		want  float64
	}{{0, 100, 0}, {500 * time.Millisecond, 110, 0}, {time.Second / 2, 120, 20}, {time.Second / 2, 1000, 20}, {1500 * time.Millisecond, 140, 10}} {
		now = now.Add(tt.after)
		w.take([]api.Backend{{Address: "1.2.3.4:5", Status: "up", Active: 3, Total: tt.total}}, now)
		if r := w.frame.Rows[0]; r.Rate != tt.want || r.Name != "-" || r.Total != tt.total {
			t.Errorf("%+v, want a rate of %v", r, tt.want)
		}
	}
}
