package health

import (
	"bytes"
	"errors"
	"fmt"
	"io"
)

// maxText is how many bytes of a reply are searched for a text. It bounds memory.
const maxText = 64 << 10

// textFinder searches a reply for texts in order: each one after the text before.
type textFinder struct {
	from io.Reader
	held []byte // read, after the text found last
}

// find reads until one of texts is complete: anywhere or, if anchored, as the next
// bytes. The one that is complete first counts, so the pieces in which a reply arrives
// make no difference. What follows it is left for the next call. Texts are not empty.
func (f *textFinder) find(texts []string, anchored bool) error {
	longest := 0
	for _, text := range texts {
		longest = max(longest, len(text))
	}
	searched := 0 // no text ends within so many bytes of held
	for {
		switch end, isPossible := f.match(texts, anchored, max(0, searched-longest+1)); {
		case end > 0:
			f.held = f.held[end:]
			return nil
		case !isPossible:
			return fmt.Errorf("unexpected reply %s", excerpt(f.held))
		case len(f.held) >= maxText:
			return fmt.Errorf("not in the first %d KiB of the reply %s", maxText>>10, excerpt(f.held))
		}
		searched = len(f.held)
		if err := f.read(); err != nil {
			return err
		}
	}
}

// match returns where the text that is complete first ends, or 0 and whether one may
// still come.
func (f *textFinder) match(texts []string, anchored bool, from int) (end int, isPossible bool) {
	for _, text := range texts {
		at := 0
		if anchored {
			n := min(len(text), len(f.held))
			if string(f.held[:n]) != text[:n] {
				continue
			}
			isPossible = true
			if n < len(text) {
				continue
			}
		} else {
			isPossible = true
			if at = bytes.Index(f.held[from:], []byte(text)); at < 0 {
				continue
			}
			at += from
		}
		if last := at + len(text); end == 0 || last < end {
			end = last
		}
	}
	return end, isPossible
}

// read reads once.
func (f *textFinder) read() error {
	if cap(f.held)-len(f.held) < 512 {
		grown := make([]byte, len(f.held), min(max(4096, 2*cap(f.held)), maxText+512))
		copy(grown, f.held)
		f.held = grown
	}
	n, err := f.from.Read(f.held[len(f.held):cap(f.held)])
	f.held = f.held[:len(f.held)+n]
	if n > 0 || err == nil {
		return nil // the next read returns an error again
	}
	reason := explainRead(err, len(f.held) > 0)
	if !errors.Is(reason, err) && len(f.held) > 0 {
		return fmt.Errorf("%w: %s", reason, excerpt(f.held))
	}
	return reason
}
