package config

import (
	"fmt"
	"strings"
)

// Nearest returns the word of have that a slip of the fingers most likely meant, or "" when none is close: about one
// edit for every three letters, where an edit inserts, deletes or replaces a letter or swaps two neighbours.
func Nearest(word string, have []string) string {
	best, least := "", 1+len(word)/3
	if len(word) < 2 {
		return ""
	}
	for _, h := range have {
		if d := distance(word, h); d < least || d == least && best == "" {
			best, least = h, d
		}
	}
	return best
}

// distance is the optimal string alignment distance of two words, byte by byte. Words beyond any flag or scheduler name
// are simply far: the cost is their product.
func distance(a, b string) int {
	const longest = 64
	if len(a) > longest || len(b) > longest {
		return longest
	}
	// Three rows of the usual table: the one being filled and the two above it.
	before, above, row := make([]int, len(b)+1), make([]int, len(b)+1), make([]int, len(b)+1)
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

// orHave is the tail of an error about an unknown word: the nearest good word, and all of them.
func orHave(word string, have []string) string {
	all := "have " + strings.Join(have, ", ")
	if near := Nearest(word, have); near != "" {
		return fmt.Sprintf(" (did you mean %q? %s)", near, all)
	}
	return " (" + all + ")"
}

// DidYouMean is orHave for long lists: only the nearest word, or nothing.
func DidYouMean(word string, have []string) string {
	if near := Nearest(word, have); near != "" {
		return fmt.Sprintf(" (did you mean %q?)", near)
	}
	return ""
}
