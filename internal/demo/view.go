package demo

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"sync"
	"time"
)

const (
	frameTime   = 250 * time.Millisecond // between two frames on a terminal
	summaryTime = 5 * time.Second        // between two summaries elsewhere
)

// Control sequences of ECMA-48 and DECAWM. Without automatic wrapping a long line is cut
// at the edge, so a frame has as many lines on the screen as rows.
const (
	wrapOff    = "\x1b[?7l"
	wrapOn     = "\x1b[?7h"
	upLines    = "\x1b[%dA"
	lineStart  = "\r"
	eraseLine  = "\x1b[K" // from the cursor
	eraseBelow = "\x1b[J" // from the cursor to the end of the screen
)

// View shows the backends: on a terminal one live line each, redrawn four times a
// second; elsewhere one summary line every 5 s without control sequences.
//
// A View is also an io.Writer for other output to the same terminal, such as a log,
// which appears above the live lines. Write is safe for concurrent use.
type View struct {
	out      io.Writer
	terminal bool
	colour   bool
	rows     func() []Row

	mu    sync.Mutex // guards out and the screen
	lines []string   // on the screen, above the cursor
}

// NewView returns a View on w that shows rows(), on a terminal in colours.
func NewView(w io.Writer, isTerminal bool, rows func() []Row) *View {
	return &View{out: w, terminal: isTerminal, colour: isTerminal, rows: rows}
}

// NoColour turns colours off (no-color.org). Call it before Run.
func (v *View) NoColour() { v.colour = false }

// Run shows the rows until ctx ends, and once more then. The last frame stays on the
// screen; later output goes below it.
func (v *View) Run(ctx context.Context) {
	pause, show := summaryTime, v.summary
	if v.terminal {
		pause, show = frameTime, v.frame
		show()
	}
	ticker := time.NewTicker(pause)
	defer ticker.Stop()
	for {
		select {
		case <-ticker.C:
			show()
		case <-ctx.Done():
			show()
			v.mu.Lock()
			v.lines = nil
			v.mu.Unlock()
			return
		}
	}
}

// Write writes p above the live lines, if there are any.
func (v *View) Write(p []byte) (int, error) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if len(v.lines) == 0 {
		return v.out.Write(p)
	}
	// One write, so that the screen never shows a partial frame.
	var b bytes.Buffer
	v.rewind(&b)
	b.WriteString(eraseBelow)
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

// frame replaces the lines on the screen.
func (v *View) frame() {
	lines := render(v.rows(), v.colour)
	v.mu.Lock()
	defer v.mu.Unlock()
	var b bytes.Buffer
	v.rewind(&b)
	v.lines = lines
	v.draw(&b)
	// Others notice a terminal that is gone.
	_, _ = v.out.Write(b.Bytes())
}

func (v *View) summary() {
	line := summarize(v.rows())
	v.mu.Lock()
	defer v.mu.Unlock()
	_, _ = io.WriteString(v.out, line+"\n")
}

// rewind moves the cursor to the first live line.
func (v *View) rewind(b *bytes.Buffer) {
	b.WriteString(lineStart)
	if len(v.lines) > 0 {
		fmt.Fprintf(b, upLines, len(v.lines))
	}
}

// draw writes the live lines and erases what is below: lines of a longer frame, or an
// echoed ^C.
func (v *View) draw(b *bytes.Buffer) {
	b.WriteString(wrapOff)
	for _, l := range v.lines {
		b.WriteString(l + eraseLine + "\n")
	}
	b.WriteString(eraseBelow + wrapOn)
}
