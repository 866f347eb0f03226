package demo

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"strconv"
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
		name   string
		rows   []Row
		colour bool
		want   string
	}{
		{name: "nothing"},
		{
			name: "columns",
			rows: []Row{
				{"backend-1", "127.0.0.1:9001", "up", 2, 1041},
				{"backend-2", "127.0.0.1:43212", "down", 0, 7},
				{"backend-10", "[::1]:9003", "drain", 12, 998},
			},
			want: `
  backend-1   127.0.0.1:9001   up      2 active  1041 total  ██
  backend-2   127.0.0.1:43212  down    0 active     7 total
  backend-10  [::1]:9003       drain  12 active   998 total  ████████████`,
		},
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
		{
			name:   "colours",
			colour: true,
			rows: []Row{
				{"a", "h:1", "up", 1, 5},
				{"b", "h:2", "down", 0, 5},
				{"c", "h:3", "unknown", 2, 5},
			},
			want: `
  a  h:1  <32>up     <>  1 active  5 total  <32>█<>
  b  h:2  <31>down   <>  0 active  5 total
  c  h:3  <33>unknown<>  2 active  5 total  <33>██<>`,
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			var got strings.Builder
			for _, line := range render(tt.rows, tt.colour) {
				got.WriteString("\n" + line)
			}
			readable := got.String()
			for _, code := range []string{"", "31", "32", "33"} {
				readable = strings.ReplaceAll(readable, "\x1b["+code+"m", "<"+code+">")
			}
			if diff := cmp.Diff(tt.want, readable); diff != "" {
				t.Errorf("want -, got +:\n%s", diff)
			}
		})
	}
}

// screen is a terminal of unlimited height that knows the control sequences
// of the view, and no others.
type screen struct {
	t     *testing.T
	width int

	mu       sync.Mutex
	lines    [][]rune
	row, col int
	wrap     bool
	writes   int
}

func newScreen(t *testing.T, width int) *screen {
	return &screen{t: t, width: width, wrap: true, lines: make([][]rune, 1)}
}

func (s *screen) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.writes++
	for text := string(p); text != ""; {
		if rest, ok := strings.CutPrefix(text, "\x1b["); ok {
			end := strings.IndexFunc(rest, func(r rune) bool { return r >= '@' && r <= '~' })
			s.control(rest[:end], rest[end])
			text = rest[end+1:]
			continue
		}
		r := []rune(text)[0]
		s.put(r)
		text = text[len(string(r)):]
	}
	return len(p), nil
}

func (s *screen) control(parameter string, final byte) {
	switch {
	case final == 'A':
		n, _ := strconv.Atoi(parameter)
		s.row = max(s.row-n, 0)
	case final == 'K' && parameter == "":
		s.lines[s.row] = s.lines[s.row][:min(s.col, len(s.lines[s.row]))]
	case final == 'J' && parameter == "":
		s.lines[s.row] = s.lines[s.row][:min(s.col, len(s.lines[s.row]))]
		s.lines = s.lines[:s.row+1]
	case parameter == "?7" && (final == 'l' || final == 'h'):
		s.wrap = final == 'h'
	case final == 'm':
	default:
		s.t.Errorf("control sequence %q %c is not known", parameter, final)
	}
}

func (s *screen) put(r rune) {
	switch r {
	case '\r':
		s.col = 0
		return
	case '\n':
		s.row, s.col = s.row+1, 0
		if s.row == len(s.lines) {
			s.lines = append(s.lines, nil)
		}
		return
	}
	if s.col == s.width {
		if !s.wrap {
			s.col--
		} else {
			s.put('\n')
		}
	}
	for len(s.lines[s.row]) <= s.col {
		s.lines[s.row] = append(s.lines[s.row], ' ')
	}
	s.lines[s.row][s.col] = r
	s.col++
}

func (s *screen) expect(want ...string) {
	s.t.Helper()
	s.mu.Lock()
	defer s.mu.Unlock()
	var got []string
	for _, l := range s.lines {
		got = append(got, strings.TrimRight(string(l), " "))
	}
	if diff := cmp.Diff(append(want, ""), got); diff != "" {
		s.t.Errorf("screen, want -, shown +:\n%s", diff)
	}
	if s.col != 0 || s.row != len(s.lines)-1 || !s.wrap {
		s.t.Errorf("cursor left at %d:%d of %d lines, wrap %t", s.row, s.col, len(s.lines), s.wrap)
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

func TestViewOnATerminal(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := newScreen(t, 80)
		v := NewView(s, true, counting("a", "b"))
		line := func(name string, total int) string {
			return fmt.Sprintf("  %s  h:1  up  0 active  %d total", name, total)
		}
		io.WriteString(v, "before\n")
		ctx, cancel := context.WithCancel(t.Context())
		var running sync.WaitGroup
		running.Go(func() { v.Run(ctx) })
		synctest.Wait()
		s.expect("before", line("a", 1), line("b", 1))

		time.Sleep(1100 * time.Millisecond) // frames at 250, 500, 750 and 1000 ms
		s.expect("before", line("a", 5), line("b", 5))

		// What is logged meanwhile goes above, at once and whole, and the
		// terminal's echo of a key is painted over.
		io.WriteString(v, "a log line that is longer than any of the live ones below it, up to here\n")
		io.WriteString(v, "two\nlines")
		io.WriteString(s, "^C")
		logs := []string{"before", "a log line that is longer than any of the live ones below it, up to here", "two", "lines"}
		time.Sleep(200 * time.Millisecond)
		s.expect(append(logs, line("a", 6), line("b", 6))...)

		cancel()
		running.Wait()
		io.WriteString(v, "after\n")
		s.expect(append(logs, line("a", 7), line("b", 7), "after")...)
		if s.writes != 12 {
			t.Errorf("%d writes, want one for each frame and each line", s.writes)
		}
	})
}

func TestViewOnANarrowTerminal(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := newScreen(t, 12)
		v := NewView(s, true, counting("backend-1", "backend-2"))
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		v.Run(ctx)
		s.mu.Lock()
		defer s.mu.Unlock()
		if len(s.lines) != 3 || !strings.HasPrefix(string(s.lines[1]), "  backend-2") {
			t.Errorf("screen %q, want two cut lines and the cursor's", s.lines)
		}
	})
}

// Rows may come and go, to none at all.
func TestViewWithChangingRows(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := newScreen(t, 80)
		var rows []Row
		v := NewView(s, true, func() []Row { return rows })
		for _, n := range []int{0, 3, 1, 2, 0} {
			rows = nil
			var want []string
			for i := range n {
				rows = append(rows, Row{fmt.Sprint(i), "h:1", "up", 0, 1})
				want = append(want, fmt.Sprintf("  %d  h:1  up  0 active  1 total", i))
			}
			v.frame()
			s.expect(want...)
		}
	})
}

func TestViewColours(t *testing.T) {
	t.Parallel()
	for _, colour := range []bool{true, false} {
		var out bytes.Buffer
		v := NewView(&out, true, counting("a"))
		if !colour {
			v.NoColour()
		}
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		v.Run(ctx)
		if got := strings.Contains(out.String(), green); got != colour {
			t.Errorf("colour %t: output %q", colour, out.String())
		}
	}
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
