package terminal

import (
	"bytes"
	"fmt"
)

// Screen draws full screens, and sends only the lines that have changed. It is for one goroutine.
type Screen struct {
	terminal *Terminal
	shown    []string
	isKnown  bool // the terminal shows just that
}

// NewScreen returns the screen of a terminal that was opened with Full.
func NewScreen(t *Terminal) *Screen { return &Screen{terminal: t} }

// Forget has the next Draw send everything: something else has drawn.
func (s *Screen) Forget() { s.isKnown = false }

// Draw shows lines that are not longer than the screen is wide, and erases what is below.
func (s *Screen) Draw(lines []string) error {
	var b bytes.Buffer
	if !s.isKnown {
		b.WriteString(TopLeft + EraseBelow)
		s.shown = nil
	}
	for i, line := range lines {
		if i < len(s.shown) && s.shown[i] == line || i >= len(s.shown) && line == "" {
			continue
		}
		// Erased first: at the edge the cursor stays on the last character.
		fmt.Fprintf(&b, moveTo+EraseLine+"%s"+Normal, i+1, line)
	}
	if len(lines) < len(s.shown) {
		fmt.Fprintf(&b, moveTo+EraseBelow, len(lines)+1)
	}
	s.shown, s.isKnown = append(s.shown[:0], lines...), true
	if b.Len() == 0 {
		return nil
	}
	if _, err := s.terminal.Write(b.Bytes()); err != nil {
		s.isKnown = false // a part of it may be there
		return err
	}
	return nil
}
