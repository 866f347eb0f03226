package terminal

import (
	"slices"
	"testing"
)

func runes(s string) (keys []Key) {
	for _, r := range s {
		keys = append(keys, Key(r))
	}
	return keys
}

func TestDecode(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name, in string
		want     []Key
		isKept   bool  // something is kept back
		late     []Key // what that turns out to be
	}{
		{name: "characters", in: "aé漢", want: runes("aé漢")},
		{name: "control characters", in: "\x03\x1a\t\x7f\b\r\n", want: []Key{CtrlC, CtrlZ, Tab, Backspace, Backspace, Enter, Enter}},
		{name: "arrows", in: "\x1b[A\x1b[B\x1b[C\x1b[D", want: []Key{Up, Down, Right, Left}},
		{name: "arrows of an application", in: "\x1bOA\x1bOB\x1bOC\x1bOD\x1bOM", want: []Key{Up, Down, Right, Left, Enter}},
		{name: "home and end", in: "\x1b[H\x1bOF\x1b[1~\x1b[8~", want: []Key{Home, End, Home, End}},
		{name: "editing", in: "\x1b[2~\x1b[3~\x1b[5~\x1b[6~\x1b[Z", want: []Key{Insert, Delete, PageUp, PageDown, BackTab}},
		{name: "with modifiers", in: "\x1b[1;5A\x1b[5;2~", want: []Key{Up, PageUp}},
		{name: "no keys of ours", in: "\x1b[11~\x1b[[A\x1b[?1;2c\x1b[200~x\x1bOP", want: runes("x")},
		{name: "a lone Esc", in: "\x1b", isKept: true, late: []Key{Esc}},
		{name: "Esc and a character", in: "\x1bq", want: []Key{Esc, 'q'}},
		{name: "two Esc", in: "\x1b\x1b", want: []Key{Esc}, isKept: true, late: []Key{Esc}},
		{name: "Esc and a bracket", in: "\x1b[", isKept: true, late: []Key{Esc, '['}},
		{name: "a sequence that does not end", in: "\x1b[" + "1111111111111111111111111111111", want: append([]Key{Esc}, runes("[1111111111111111111111111111111")...)},
		{name: "a broken sequence", in: "\x1b[1\r", want: []Key{Esc, '[', '1', Enter}},
		{name: "no UTF-8", in: "\xffa\xc3", want: runes("a"), isKept: true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			var d decoder
			got, isKept := d.feed([]byte(tt.in))
			if late := d.flush(); !slices.Equal(got, tt.want) || isKept != tt.isKept || !slices.Equal(late, tt.late) {
				t.Errorf("got %q %v %q, want %q %v %q", got, isKept, late, tt.want, tt.isKept, tt.late)
			}
			if tt.isKept {
				return
			}
			var slow []Key // byte by byte, in time
			for i := range len(tt.in) {
				keys, _ := d.feed([]byte{tt.in[i]})
				slow = append(slow, keys...)
			}
			if slow = append(slow, d.flush()...); !slices.Equal(slow, tt.want) {
				t.Errorf("byte by byte %q, want %q", slow, tt.want)
			}
		})
	}
}

func FuzzDecode(f *testing.F) {
	f.Add([]byte("\x1b[1;5A"), 3)
	f.Fuzz(func(t *testing.T, in []byte, at int) {
		var d decoder
		at = min(max(at, 0), len(in))
		d.feed(in[:at])
		if d.feed(in[at:]); len(d.pending) > maxSequence {
			t.Errorf("%d bytes are kept back", len(d.pending))
		}
		for _, key := range d.flush() {
			if key < 0 || key > BackTab {
				t.Errorf("key %d", key)
			}
		}
	})
}
