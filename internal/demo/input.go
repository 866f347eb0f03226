package demo

import (
	"context"
	"strings"

	"usher/internal/terminal"
)

// input is where keys come from: a terminal, or a script where there is none.
type input struct {
	terminal *terminal.Terminal // nil: there is none
	pressed  chan rune          // that the operator shall obey
	close    func()             // puts the terminal back; it may be called more than once
}

// maxPressed is how many keys may wait for the operator. Later ones are lost.
const maxPressed = 16

// openKeys reads the keys of the terminal, if the view is on one.
func (d *run) openKeys(canUpgrade bool) *input {
	in := &input{pressed: make(chan rune, maxPressed), close: func() {}}
	if d.Screen == nil {
		return in
	}
	t, err := terminal.Open(terminal.Options{HandlesSignals: true})
	if err != nil {
		return in // there may be a screen without keys
	}
	in.terminal, in.close = t, t.Close
	d.view.FollowTurns(t)
	d.look.Keys = "1 2 3 kill or bring back   r reload   u upgrade   q quit"
	if !canUpgrade {
		d.look.Keys = strings.Replace(d.look.Keys, "u upgrade   ", "", 1)
	}
	return in
}

func (in *input) isOpen() bool { return in.terminal != nil }

// guard runs f. A panic of it puts the terminal back first.
func (in *input) guard(f func()) {
	if in.terminal == nil {
		f()
		return
	}
	in.terminal.Guard(f)
}

// run passes keys on until ctx ends. Without a terminal it plays the script.
func (in *input) run(ctx context.Context, quit func(), script []rune) {
	if in.terminal == nil {
		play(ctx, script, in.pressed)
		return
	}
	for {
		select {
		case key, ok := <-in.terminal.Keys():
			switch {
			case !ok: // a signal ends the demo, or its terminal is gone
				return
			case key == terminal.Redraw: // by the next frame
			case key == 'q' || key == terminal.CtrlC || key == terminal.CtrlD:
				quit()
			default:
				select {
				case in.pressed <- rune(key):
				default:
				}
			}
		case <-ctx.Done():
			return
		}
	}
}
