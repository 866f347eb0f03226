package demo

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"strings"
	"sync"
	"time"

	"usher/internal/terminal"
)

const (
	frameTime   = 250 * time.Millisecond // between two frames on a terminal
	summaryTime = 5 * time.Second        // between two summaries elsewhere
	summaryLag  = 3 * time.Second        // until the first: the script changes something in between
)

// View shows frames: on a terminal live lines, drawn four times a second; elsewhere two
// lines every 5 s without control sequences.
//
// A View is also an io.Writer for other output to the same terminal, such as a log,
// which appears above the live lines. Write is safe for concurrent use.
type View struct {
	out  io.Writer
	size func() (width, height int) // of the terminal; nil: there is none
	turn func() int                 // as terminal.Terminal.Turn: live lines are for the foreground
	look *Look
	next func(context.Context) Frame

	mu    sync.Mutex // guards out and the screen
	lines []string   // on the screen, above the cursor
	drawn int        // the turn in which they were drawn
}

// NewView returns a View on w that shows what next returns, on a terminal of some size.
// Without size w is none.
func NewView(w io.Writer, size func() (width, height int), look *Look, next func(context.Context) Frame) *View {
	return &View{out: w, size: size, turn: func() int { return 1 }, look: look, next: next}
}

// FollowTurns draws live lines in the turns of a terminal alone. Call it before Run.
func (v *View) FollowTurns(t *terminal.Terminal) { v.turn = t.Turn }

// Run shows frames until ctx ends.
func (v *View) Run(ctx context.Context) {
	first, pause := summaryLag, summaryTime
	if v.size != nil {
		first, pause = 0, frameTime
	}
	timer := time.NewTimer(first)
	defer timer.Stop()
	for {
		select {
		case <-timer.C:
			v.Show(ctx)
			timer.Reset(pause)
		case <-ctx.Done():
			return
		}
	}
}

// Show shows what is so now.
func (v *View) Show(ctx context.Context) {
	frame := v.next(ctx)
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.size == nil {
		_, _ = io.WriteString(v.out, strings.Join(summarize(&frame), "\n")+"\n")
		return
	}
	if !v.takeTurnLocked() {
		return
	}
	var b bytes.Buffer
	v.rewind(&b)
	width, height := v.size()
	v.lines = v.look.render(&frame, width)
	v.lines = v.lines[:max(0, min(len(v.lines), height-1))]
	v.draw(&b)
	// Others notice a terminal that is gone.
	_, _ = v.out.Write(b.Bytes())
}

// End leaves the live lines where they are; later output goes below them.
func (v *View) End() {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.lines = nil
}

// takeTurnLocked reports whether live lines may be drawn. In a new turn those of before are
// somewhere above. The caller must hold mu.
func (v *View) takeTurnLocked() bool {
	turn := v.turn()
	if turn != v.drawn {
		v.lines, v.drawn = nil, turn
	}
	return turn != 0
}

// Write writes p above the live lines, if there are any.
func (v *View) Write(p []byte) (int, error) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if !v.takeTurnLocked() || len(v.lines) == 0 {
		return v.out.Write(p)
	}
	// One write, so that the screen never shows a partial frame.
	var b bytes.Buffer
	v.rewind(&b)
	b.WriteString(terminal.EraseBelow)
	b.Write(p)
	if !bytes.HasSuffix(p, []byte("\n")) {
		b.WriteByte('\n')
	}
	v.draw(&b)
	if _, err := v.out.Write(b.Bytes()); err != nil {
		return 0, err
	}
	return len(p), nil
}

// rewind moves the cursor to the first live line.
func (v *View) rewind(b *bytes.Buffer) {
	b.WriteString(terminal.LineStart)
	if len(v.lines) > 0 {
		fmt.Fprintf(b, terminal.UpLines, len(v.lines))
	}
}

// draw writes the live lines and erases what is below: lines of a longer frame.
func (v *View) draw(b *bytes.Buffer) {
	b.WriteString(terminal.WrapOff)
	for _, l := range v.lines {
		b.WriteString(l + terminal.EraseLine + "\n")
	}
	b.WriteString(terminal.EraseBelow + terminal.WrapOn)
}
