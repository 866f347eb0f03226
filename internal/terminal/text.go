package terminal

import (
	"fmt"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"

	"golang.org/x/text/width"
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

func runeWidth(r rune) int {
	if r < 0x300 {
		return 1
	}
	if unicode.In(r, unicode.Mn, unicode.Me, unicode.Cf) {
		return 0
	}
	switch width.LookupRune(r).Kind() {
	case width.EastAsianWide, width.EastAsianFullwidth:
		return 2
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
