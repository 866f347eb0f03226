package demo

import (
	"context"
	"time"
)

// stepTime is the time between two steps of the script.
const stepTime = 5 * time.Second

// script is the keys that are pressed where nobody can: each backend in its turn dies and
// comes back, with a reload and an upgrade after that.
func script(backends int, canUpgrade bool) []rune {
	var keys []rune
	for i := range backends {
		number := '1' + rune(i)
		keys = append(keys, number, number, 'r')
		if canUpgrade {
			keys = append(keys, 'u')
		}
	}
	return keys
}

// play presses the keys of a script, again and again, until ctx ends.
func play(ctx context.Context, script []rune, keys chan<- rune) {
	for i := 0; ; i++ {
		if wait(ctx, stepTime); ctx.Err() != nil {
			return
		}
		select {
		case keys <- script[i%len(script)]:
		case <-ctx.Done():
			return
		}
	}
}
