package terminal

import (
	"unicode"
	"unicode/utf8"
)

// Key is a key: the character that it types, or one of the constants.
type Key rune

// Keys that type a control character.
const (
	CtrlC     Key = 0x03
	CtrlD     Key = 0x04
	Tab       Key = '\t'
	Enter     Key = '\r'
	CtrlU     Key = 0x15
	CtrlZ     Key = 0x1a // never passed on: it suspends the program
	Esc       Key = 0x1b
	Backspace Key = 0x7f
)

// Keys that type no character.
const (
	Up Key = unicode.MaxRune + 1 + iota
	Down
	Left
	Right
	Home
	End
	PageUp
	PageDown
	Insert
	Delete
	BackTab // Shift-Tab

	// Redraw is no key: the size of the screen has changed, or the program has come back to the foreground.
	Redraw
)

// maxSequence bounds a control sequence; a longer one is none.
const maxSequence = 32

// decoder makes keys of the bytes of a terminal (ECMA-48, xterm).
type decoder struct {
	pending []byte // the beginning of a sequence or of a character
}

// feed returns the keys that end in p. If it keeps something back, isPartial is set: flush decides if nothing follows.
func (d *decoder) feed(p []byte) (keys []Key, isPartial bool) {
	rest := append(d.pending, p...)
	for len(rest) > 0 {
		key, n := decode(rest)
		if n == 0 {
			break
		}
		rest = rest[n:]
		if key != noKey {
			keys = append(keys, key)
		}
	}
	d.pending = append(d.pending[:0], rest...)
	return keys, len(rest) > 0
}

// flush returns what was kept back, because nothing follows: a lone Esc, or Esc and a character.
func (d *decoder) flush() []Key {
	rest := d.pending
	d.pending = nil
	if len(rest) == 0 || Key(rest[0]) != Esc {
		return nil // half a character
	}
	keys := []Key{Esc}
	for _, b := range rest[1:] {
		keys = append(keys, Key(b))
	}
	return keys
}

// noKey stands for a sequence that is no key of ours.
const noKey Key = -1

// decode returns the first key of p and its length; 0: p ends before it does.
func decode(p []byte) (key Key, n int) {
	switch b := p[0]; {
	case Key(b) == Esc:
		return decodeEscape(p)
	case b == '\n':
		return Enter, 1
	case b == '\b':
		return Backspace, 1
	case b < utf8.RuneSelf:
		return Key(b), 1
	case !utf8.FullRune(p):
		return noKey, 0
	}
	r, n := utf8.DecodeRune(p)
	if r == utf8.RuneError {
		return noKey, n
	}
	return Key(r), n
}

// decodeEscape decodes what begins with Esc: CSI and SS3 sequences. Esc and another key that arrive together, as over a
// slow line, are two keys.
func decodeEscape(p []byte) (key Key, n int) {
	switch {
	case len(p) == 1:
		return noKey, 0
	case p[1] == '[':
		return decodeCSI(p)
	case p[1] != 'O':
		return Esc, 1
	case len(p) == 2:
		return noKey, 0
	}
	if p[2] == 'M' { // of the keypad
		return Enter, 3
	}
	return letterKey(p[2]), 3
}

// decodeCSI decodes ESC [, parameters, intermediates and a final byte. Modifiers do not matter.
func decodeCSI(p []byte) (key Key, n int) {
	first, isFirst := 0, true // the first parameter
	for i := 2; i < len(p); i++ {
		switch b := p[i]; {
		case i == maxSequence, b < 0x20, b > 0x7e:
			return Esc, 1
		case b == '[' && i == 2: // a function key of the Linux console
			if len(p) == 3 {
				return noKey, 0
			}
			return noKey, 4
		case b == '~':
			return numberKey(first), i + 1
		case b >= 0x40:
			return letterKey(b), i + 1
		case b >= '0' && b <= '9' && isFirst:
			first = first*10 + int(b-'0')
		default:
			isFirst = false
		}
	}
	return noKey, 0
}

func letterKey(final byte) Key {
	switch final {
	case 'A':
		return Up
	case 'B':
		return Down
	case 'C':
		return Right
	case 'D':
		return Left
	case 'F':
		return End
	case 'H':
		return Home
	case 'Z':
		return BackTab
	}
	return noKey
}

func numberKey(n int) Key {
	switch n {
	case 1, 7:
		return Home
	case 2:
		return Insert
	case 3:
		return Delete
	case 4, 8:
		return End
	case 5:
		return PageUp
	case 6:
		return PageDown
	}
	return noKey
}
