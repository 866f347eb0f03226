package demo

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestRender(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name string
		rows []Row
		want string
	}{
		{name: "nothing"},
		{
			name: "bars to scale",
			rows: []Row{
				{"a", "h:1", "up", 4800, 5000},
				{"b", "h:2", "up", 2400, 5000},
				{"c", "h:3", "up", 1, 5000},
			},
			want: `
  a  h:1  up  4800 active  5000 total  ████████████████████████
  b  h:2  up  2400 active  5000 total  ████████████
  c  h:3  up     1 active  5000 total  █`,
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			var got strings.Builder
			for _, line := range render(tt.rows, false) {
				got.WriteString("\n" + line)
			}
			if diff := cmp.Diff(tt.want, got.String()); diff != "" {
				t.Errorf("want -, got +:\n%s", diff)
			}
		})
	}
}

// counting returns rows whose totals grow by one each time they are asked
// for, n of them to begin with.
func counting(names ...string) func() []Row {
	var total uint64
	return func() []Row {
		total++
		var rows []Row
		for _, n := range names {
			rows = append(rows, Row{n, "h:1", "up", 0, total})
		}
		return rows
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
		v := NewView(&got, true, counting("a", "b"))
		v.NoColour()
		frame := func(up, above string, total int) string {
			return "\r" + up + above + wrapOff + fmt.Sprintf("  a  h:1  up  0 active  %d total\x1b[K\n  b  h:1  up  0 active  %[1]d total\x1b[K\n", total) +
				eraseBelow + wrapOn
		}
		io.WriteString(v, "before\n")
		ctx, cancel := context.WithCancel(t.Context())
		var running sync.WaitGroup
		running.Go(func() { v.Run(ctx) })
		time.Sleep(frameTime + frameTime/2)
		io.WriteString(v, "two\nlines")
		cancel()
		running.Wait()
		io.WriteString(v, "after\n")
		want := writes{
			"before\n", frame("", "", 1), frame("\x1b[2A", "", 2), frame("\x1b[2A", eraseBelow+"two\nlines\n", 2),
			frame("\x1b[2A", "", 3), "after\n",
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
		v := NewView(&out, false, counting("a", "b"))
		ctx, cancel := context.WithTimeout(t.Context(), 12*time.Second)
		defer cancel()
		var running sync.WaitGroup
		running.Go(func() { v.Run(ctx) })
		time.Sleep(7 * time.Second)
		io.WriteString(v, "a log line\n")
		running.Wait()
		want := `a up, 0 active, 1 total; b up, 0 active, 1 total
a log line
a up, 0 active, 2 total; b up, 0 active, 2 total
a up, 0 active, 3 total; b up, 0 active, 3 total
`
		if diff := cmp.Diff(want, out.String()); diff != "" {
			t.Errorf("want -, got +:\n%s", diff)
		}
	})
}
