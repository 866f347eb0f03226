package command

import (
	"bytes"
	"fmt"
	"io"
	"math"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"
)

// column is one column of a table of T.
type column[T any] struct {
	name  string // the heading
	wide  bool   // shown with -o wide alone
	width int    // at least, of a table whose rows are printed one by one
	cell  func(T) string
}

// table prints rows of T in aligned columns, and may print them as they come: text/tabwriter keeps all rows. The widths
// are those of the first rows; a later cell that is wider moves what stands right of it.
type table[T any] struct {
	w       io.Writer
	columns []column[T]
	widths  []int
	kept    [][]string // rows that are not printed yet
	fixed   bool       // the widths are: rows are printed at once
}

// keptRows is how many rows fix the widths of a table, and so how many it keeps.
const keptRows = 500

// newTable returns a table with the columns that are to be shown. Its heading counts as the first row.
func newTable[T any](w io.Writer, columns []column[T], wide bool) *table[T] {
	t := &table[T]{w: w}
	heading := make([]string, 0, len(columns))
	for _, c := range columns {
		if wide || !c.wide {
			t.columns = append(t.columns, c)
			t.widths = append(t.widths, c.width)
			heading = append(heading, c.name)
		}
	}
	t.kept = [][]string{heading}
	return t
}

// row adds a row.
func (t *table[T]) row(v T) error {
	cells := make([]string, len(t.columns))
	for i, c := range t.columns {
		if cells[i] = printable(c.cell(v)); cells[i] == "" {
			cells[i] = "-"
		}
	}
	t.kept = append(t.kept, cells)
	if !t.fixed && len(t.kept) <= keptRows {
		return nil
	}
	return t.flush()
}

// flush prints the rows that are kept. Later rows are printed at once.
func (t *table[T]) flush() error {
	t.fixed = true
	for _, cells := range t.kept {
		for i, c := range cells {
			t.widths[i] = max(t.widths[i], utf8.RuneCountInString(c))
		}
	}
	var b bytes.Buffer
	for _, cells := range t.kept {
		for i, c := range cells {
			b.WriteString(c)
			if i < len(cells)-1 {
				b.WriteString(strings.Repeat(" ", t.widths[i]-utf8.RuneCountInString(c)+2))
			}
		}
		b.WriteByte('\n')
	}
	t.kept = t.kept[:0]
	_, err := t.w.Write(b.Bytes())
	return err
}

// amount formats a number with three digits and the unit of a power of 1000: 999B, 1.23kB, 45.6MB.
func amount(n float64, unit string) string {
	prefixes := []string{"", "k", "M", "G", "T", "P", "E"}
	i := 0
	for ; n >= 999.5 && i < len(prefixes)-1; i++ {
		n /= 1000
	}
	if i == 0 && n == math.Trunc(n) {
		return strconv.FormatFloat(n, 'f', 0, 64) + unit
	}
	return threeDigits(n) + prefixes[i] + unit
}

func threeDigits(n float64) string {
	decimals := 2
	for _, limit := range []float64{9.995, 99.95} {
		if n >= limit {
			decimals--
		}
	}
	return strconv.FormatFloat(n, 'f', decimals, 64)
}

func bytesText(n uint64) string { return amount(float64(n), "B") }

// span formats a duration with its two greatest units.
func span(d time.Duration) string {
	const day = 24 * time.Hour
	switch {
	case d < 0:
		return "0s"
	case d < time.Second:
		return fmt.Sprintf("%dms", d.Milliseconds())
	case d < time.Minute:
		return fmt.Sprintf("%.1fs", d.Truncate(100*time.Millisecond).Seconds())
	case d < time.Hour:
		return fmt.Sprintf("%dm%ds", d/time.Minute, d%time.Minute/time.Second)
	case d < day:
		return fmt.Sprintf("%dh%dm", d/time.Hour, d%time.Hour/time.Minute)
	}
	return fmt.Sprintf("%dd%dh", d/day, d%day/time.Hour)
}

// millisecondsText formats a measured time; 0 is none.
func millisecondsText(ms float64) string {
	if ms == 0 {
		return ""
	}
	return threeDigits(ms) + "ms"
}

// sinceText formats the time that has passed since a moment; the zero one is none.
func sinceText(at, now time.Time) string {
	if at.IsZero() {
		return ""
	}
	return span(now.Sub(at))
}

func plural(n int) string {
	if n == 1 {
		return ""
	}
	return "s"
}
