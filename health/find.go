package health

import (
	"bytes"
	"errors"
	"fmt"
	"io"
)

// maxText is how far into a reply a text is looked for. It bounds what is held.
const maxText = 64 << 10

// finder looks for texts in what a target says, one after the other: each is looked
// for behind the one before.
type finder struct {
	from io.Reader
	held []byte // read, and behind the last text found
}

// find reads until one of texts is there: anywhere, or, anchored, as the next bytes.
// It leaves what follows the text for the next call. Texts are not empty; the one
// that is complete first counts, so that it does not matter in which pieces a reply comes.
func (f *finder) find(texts []string, anchored bool) error {
	longest := 0
	for _, text := range texts {
		longest = max(longest, len(text))
	}
	searched := 0 // no text ends within so many bytes of held
	for {
		switch end, possible := f.look(texts, anchored, max(0, searched-longest+1)); {
		case end > 0:
			f.held = f.held[end:]
			return nil
		case !possible:
			return fmt.Errorf("unexpected reply %s", excerpt(f.held))
		case len(f.held) >= maxText:
			return fmt.Errorf("not in the first %d KiB of the reply %s", maxText>>10, excerpt(f.held))
		}
		searched = len(f.held)
		if err := f.more(); err != nil {
			return err
		}
	}
}

// look returns where the text that is complete first ends, 0 if none is, and whether one
// is still possible then.
func (f *finder) look(texts []string, anchored bool, from int) (end int, possible bool) {
	for _, text := range texts {
		at := 0
		if anchored {
			n := min(len(text), len(f.held))
			if string(f.held[:n]) != text[:n] {
				continue
			}
			possible = true
			if n < len(text) {
				continue
			}
		} else {
			possible = true
			if at = bytes.Index(f.held[from:], []byte(text)); at < 0 {
				continue
			}
			at += from
		}
		if last := at + len(text); end == 0 || last < end {
			end = last
		}
	}
	return end, possible
}

// more reads once.
func (f *finder) more() error {
	if cap(f.held)-len(f.held) < 512 {
		grown := make([]byte, len(f.held), min(max(4096, 2*cap(f.held)), maxText+512))
		copy(grown, f.held)
		f.held = grown
	}
	n, err := f.from.Read(f.held[len(f.held):cap(f.held)])
	f.held = f.held[:len(f.held)+n]
	if n > 0 || err == nil {
		return nil // an error comes again
	}
	if heard := words(err, len(f.held) > 0); !errors.Is(heard, err) && len(f.held) > 0 {
		return fmt.Errorf("%w: %s", heard, excerpt(f.held))
	}
	return words(err, len(f.held) > 0)
}
