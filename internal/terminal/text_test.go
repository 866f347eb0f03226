package terminal

import "testing"

func TestTextInCells(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		text             string
		width, cells     int
		cut, left, right string
	}{
		{"", 0, 3, "", "   ", "   "},
		{"abc", 3, 3, "abc", "abc", "abc"},
		{"abcd", 4, 3, "ab…", "ab…", "ab…"},
		{"abcd", 4, 0, "", "", ""},
		{"ab", 2, 4, "ab", "ab  ", "  ab"},
		{"漢字", 4, 3, "漢…", "漢…", "漢…"},
		{"漢字", 4, 2, "…", "… ", " …"},
		{"e\u0301a", 2, 2, "e\u0301a", "e\u0301a", "e\u0301a"},
		{"█▁", 2, 1, "…", "…", "…"},
	} {
		if got := Width(tt.text); got != tt.width {
			t.Errorf("%q has %d cells, want %d", tt.text, got, tt.width)
		}
		if got := Cut(tt.text, tt.cells, "…"); got != tt.cut {
			t.Errorf("%q cut to %d cells: %q, want %q", tt.text, tt.cells, got, tt.cut)
		}
		if got := Pad(tt.text, tt.cells, false, "…"); got != tt.left {
			t.Errorf("%q in %d cells: %q, want %q", tt.text, tt.cells, got, tt.left)
		}
		if got := Pad(tt.text, tt.cells, true, "…"); got != tt.right {
			t.Errorf("%q as a number in %d cells: %q, want %q", tt.text, tt.cells, got, tt.right)
		}
	}
}

func TestTextIsCutAtTheStart(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{"": "", "abcd": "abcd", "abcdef": "…def", "漢字漢": "…漢", "漢ab": "漢ab"} {
		if got := CutStart(text, 4, "…"); got != want {
			t.Errorf("%q: %q, want %q", text, got, want)
		}
	}
}

func TestSupport(t *testing.T) {
	t.Parallel()
	type variables map[string]string
	for _, tt := range []struct {
		variables          variables
		move, colour, utf8 bool
	}{
		{variables{}, true, true, false},
		{variables{"TERM": "dumb", "LANG": "C.UTF-8"}, false, true, true},
		{variables{"NO_COLOR": "1", "LANG": "de_DE.utf8"}, true, false, true},
		{variables{"NO_COLOR": "", "LC_ALL": "C", "LANG": "C.UTF-8"}, true, true, false},
		{variables{"LC_CTYPE": "en_GB.UTF-8", "LANG": "C"}, true, true, true},
	} {
		env := func(name string) string { return tt.variables[name] }
		if move, colour, utf8 := canMove(env), mayColour(env), isUTF8(env); move != tt.move || colour != tt.colour || utf8 != tt.utf8 {
			t.Errorf("%v: %v %v %v, want %v %v %v", tt.variables, move, colour, utf8, tt.move, tt.colour, tt.utf8)
		}
	}
}
