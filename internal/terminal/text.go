package terminal

import (
	"fmt"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"
)

// Width returns how many cells of a terminal printable text takes.
func Width(s string) int {
	n := 0
	for _, r := range s {
		n += runeWidth(r)
	}
	return n
}

// Cut returns the beginning of s that fits into some cells. What is cut off is shown by an ellipsis, if there is room.
func Cut(s string, cells int, ellipsis string) string {
	if len(s) <= cells || Width(s) <= cells { // no character has more cells than bytes
		return s
	}
	left := cells - Width(ellipsis)
	if left < 0 {
		ellipsis, left = "", max(cells, 0)
	}
	for i, r := range s {
		if left -= runeWidth(r); left < 0 {
			return s[:i] + ellipsis
		}
	}
	return s
}

// CutStart returns the end of s that fits into some cells, as Cut does its beginning.
func CutStart(s string, cells int, ellipsis string) string {
	if len(s) <= cells || Width(s) <= cells {
		return s
	}
	for left := Width(s) + Width(ellipsis) - cells; left > 0 && s != ""; {
		r, n := utf8.DecodeRuneInString(s)
		left -= runeWidth(r)
		s = s[n:]
	}
	return Cut(ellipsis+s, cells, "")
}

// Pad returns s in a field of some cells, cut or filled with blanks: on the right, or on the left of a number.
func Pad(s string, cells int, isNumber bool, ellipsis string) string {
	s = Cut(s, cells, ellipsis)
	blanks := strings.Repeat(" ", max(0, cells-Width(s)))
	if isNumber {
		return blanks + s
	}
	return s + blanks
}

// wideRunes are the blocks of characters with two cells (Unicode, UAX 11). They stand for the table of x/text/width, which
// is 17 KB: what usher shows are names and addresses.
var wideRunes = [...][2]rune{
	{0x1100, 0x115f},   // Hangul Jamo
	{0x2e80, 0x303e},   // CJK radicals and symbols
	{0x3041, 0xa4cf},   // Kana to Yi
	{0xac00, 0xd7a3},   // Hangul syllables
	{0xf900, 0xfaff},   // CJK compatibility
	{0xfe30, 0xfe6f},   // CJK forms
	{0xff01, 0xff60},   // full width forms
	{0xffe0, 0xffe6},   // full width signs
	{0x1f300, 0x1f64f}, // emoji
	{0x1f900, 0x1f9ff}, // emoji
	{0x20000, 0x3fffd}, // CJK extensions
}

func runeWidth(r rune) int {
	if r < 0x300 {
		return 1
	}
	if unicode.In(r, unicode.Mn, unicode.Me, unicode.Cf) {
		return 0
	}
	for _, wide := range wideRunes {
		if r >= wide[0] && r <= wide[1] {
			return 2
		}
	}
	return 1
}

// Printable escapes invisible characters, and those that move the cursor or end the line.
func Printable(s string) string {
	var b strings.Builder
	for i := 0; i < len(s); {
		r, size := utf8.DecodeRuneInString(s[i:])
		switch {
		case r == utf8.RuneError && size == 1:
			fmt.Fprintf(&b, `\x%02x`, s[i])
		case strconv.IsPrint(r):
			b.WriteRune(r)
		default:
			b.WriteString(strings.Trim(strconv.QuoteRune(r), "'"))
		}
		i += size
	}
	return b.String()
}
