package ipvsadm

import (
	"bufio"
	"fmt"
	"io"
	"iter"
	"strings"
)

// maxLine is how long a line of -R may be, in bytes.
const maxLine = 64 << 10

// ReadLines yields the words of each line of r that has words, as -R reads them. A word that is ipvsadm does not count.
// There are no comments: ipvsadm-restore takes lines that begin with # away before.
func ReadLines(r io.Reader) iter.Seq2[[]string, error] {
	return func(yield func([]string, error) bool) {
		lines := bufio.NewScanner(r)
		lines.Buffer(nil, maxLine)
		n := 0
		for lines.Scan() {
			n++
			words := lineWords(lines.Text())
			if len(words) > 0 && !yield(words, nil) {
				return
			}
		}
		if err := lines.Err(); err != nil {
			yield(nil, fmt.Errorf("line %d: %w", n+1, err))
		}
	}
}

func lineWords(line string) []string {
	words := strings.FieldsFunc(line, func(r rune) bool { return r == ' ' || r == '\t' || r == '\r' })
	kept := words[:0]
	for _, word := range words {
		if word != "ipvsadm" {
			kept = append(kept, word)
		}
	}
	return kept
}
