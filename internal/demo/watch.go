package demo

import (
	"context"
	"fmt"
	"time"

	"usher/internal/api"
)

// rateTime is the time over which rates are measured.
const rateTime = time.Second

// watcher asks the child what the view shows.
type watcher struct {
	child    *Child
	backends Backends
	load     *Load
	kept     *Kept
	hasEnded bool // the clients have left: what they kept is what they had kept

	frame  Frame
	totals map[string]uint64 // of backends, by address, at began
	began  time.Time         // of the measurement of rates
}

// look returns what is so now. While the child does not answer, as in an upgrade, rows
// stay what they were.
func (w *watcher) look(ctx context.Context) Frame {
	before := w.frame.Kept
	w.frame.Load, w.frame.Kept = w.load.Counts(), w.kept.Counts()
	if w.hasEnded {
		w.frame.Kept.Open, w.frame.Kept.Oldest = before.Open, before.Oldest
	}
	ctx, cancel := context.WithTimeout(ctx, frameTime)
	defer cancel()
	if p, err := w.child.Process(ctx); err == nil {
		w.frame.Process = p
	}
	if s, err := w.child.Services(ctx); err == nil && len(s.Services) > 0 {
		w.take(s.Services[0].Backends, time.Now())
	}
	return w.frame
}

// take makes rows of what the child says of its backends.
func (w *watcher) take(backends []api.Backend, now time.Time) {
	rates := make(map[string]float64)
	for _, r := range w.frame.Rows {
		rates[r.Address] = r.Rate
	}
	if passed := now.Sub(w.began); passed >= rateTime {
		totals := make(map[string]uint64)
		for _, b := range backends {
			totals[b.Address] = b.Total
			if before, ok := w.totals[b.Address]; ok {
				rates[b.Address] = float64(b.Total-before) / passed.Seconds()
			}
		}
		w.totals, w.began = totals, now
	}
	rows := make([]Row, len(backends))
	for i, b := range backends {
		rows[i] = Row{
			Name: w.nameOf(b.Address), Address: b.Address, Status: b.Status, Active: b.Active, Total: b.Total, Rate: rates[b.Address],
		}
	}
	w.frame.Rows = rows
}

// nameOf returns the name of the backend at an address. A backend that the user has added
// has none.
func (w *watcher) nameOf(address string) string {
	for _, b := range w.backends {
		if b.addr.String() == address {
			return b.Name()
		}
	}
	return "-"
}

// count says how the clients fare.
func (f *Frame) count() string {
	text := fmt.Sprintf("%d requests, failed clients: %d", f.Load.Answered, f.failed())
	if f.Load.AskedAgain > 0 {
		text += fmt.Sprintf(", asked again: %d", f.Load.AskedAgain)
	}
	return text
}

// keeps says how the long connections fare.
func (f *Frame) keeps() string {
	text := fmt.Sprintf("%d connections kept, the oldest %s", f.Kept.Open, f.Kept.Oldest.Truncate(time.Second))
	if f.Kept.OpenedAgain > 0 {
		text += fmt.Sprintf(", opened again: %d", f.Kept.OpenedAgain)
	}
	return text
}

func (f *Frame) failed() uint64 { return f.Load.Failed + f.Kept.Failed }
