// Package nearest guesses the word that was meant by one that is not known.
package nearest

import (
	"fmt"
	"slices"
	"strings"
)

// Word returns the word of have that was most likely meant, or "" if none is close. Close is one edit for every three
// letters. An edit inserts, deletes or replaces a letter, or swaps two neighbours. Otherwise it is the only word that
// begins with word, that word begins with, or that has word as a part, as shop/web:http has web.
func Word(word string, have []string) string {
	best, least := "", max(1, len(word)/3)
	if len(word) < 2 {
		return ""
	}
	for _, h := range have {
		if len(h) > len(word)+least || len(h) < len(word)-least {
			continue // the distance is that of the lengths at least
		}
		if d := distance(word, h); d < least || d == least && best == "" {
			best, least = h, d
		}
		if best != "" && least <= 1 {
			break // only the word itself is nearer
		}
	}
	if best != "" {
		return best
	}
	short := slices.DeleteFunc(slices.Clone(have), func(h string) bool { return !isShort(word, h) && !isPart(word, h) })
	if len(short) == 1 {
		return short[0]
	}
	return ""
}

// isShort reports whether one of two words is the beginning of the other, and long enough to be distinct.
func isShort(a, b string) bool {
	if len(a) > len(b) {
		a, b = b, a
	}
	return len(a) > 2 && strings.HasPrefix(b, a)
}

// isPart reports whether a word is one of the parts of another one, which / and : divide.
func isPart(word, of string) bool {
	return slices.Contains(strings.FieldsFunc(of, func(r rune) bool { return r == '/' || r == ':' }), word)
}

// distance is the optimal string alignment distance of two words, byte by byte. It treats very long words as far,
// because the cost is their product.
func distance(a, b string) int {
	const longest = 64
	if len(a) > longest || len(b) > longest {
		return longest
	}
	// Three rows of the usual table: the one being filled and the two above it.
	var rows [3][longest + 1]int
	before, above, row := rows[0][:len(b)+1], rows[1][:len(b)+1], rows[2][:len(b)+1]
	for j := range above {
		above[j] = j
	}
	for i := 1; i <= len(a); i++ {
		row[0] = i
		for j := 1; j <= len(b); j++ {
			cost := 1
			if a[i-1] == b[j-1] {
				cost = 0
			}
			row[j] = min(above[j]+1, row[j-1]+1, above[j-1]+cost)
			if i > 1 && j > 1 && a[i-1] == b[j-2] && a[i-2] == b[j-1] {
				row[j] = min(row[j], before[j-2]+1)
			}
		}
		before, above, row = above, row, before
	}
	return above[len(b)]
}

// OrHave ends an error about an unknown word: with the nearest valid word, and all of them.
func OrHave(word string, have []string) string {
	all := "have " + strings.Join(have, ", ")
	if near := Word(word, have); near != "" {
		return fmt.Sprintf(" (did you mean %q? %s)", near, all)
	}
	return " (" + all + ")"
}
