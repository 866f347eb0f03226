package command

import (
	"bytes"
	"io"
	"strings"
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
