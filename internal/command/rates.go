package command

import (
	"time"

	"usher/internal/api"
)

// rates are per second, over the time between two samples.
type rates struct{ flows, up, down float64 }

// counters are what rates are made of.
type counters struct{ total, up, down uint64 }

// since returns the rates from the counters of a sample to c. Counters that have fallen are of another process, or of a
// service that was removed in between.
func (c counters) since(before counters, passed time.Duration) *rates {
	if passed <= 0 || c.total < before.total || c.up < before.up || c.down < before.down {
		return nil
	}
	s := passed.Seconds()
	return &rates{float64(c.total-before.total) / s, float64(c.up-before.up) / s, float64(c.down-before.down) / s}
}

// rateColumns are those of rows with rates, which may be nil.
func rateColumns[T any](of func(T) *rates) []column[T] {
	text := func(unit string, rate func(*rates) float64) func(T) string {
		return func(row T) string {
			if r := of(row); r != nil {
				return amount(rate(r), unit)
			}
			return ""
		}
	}
	return []column[T]{
		{name: "FLOWS/S", wide: true, cell: text("", func(r *rates) float64 { return r.flows })},
		{name: "UP/S", wide: true, cell: text("B", func(r *rates) float64 { return r.up })},
		{name: "DOWN/S", wide: true, cell: text("B", func(r *rates) float64 { return r.down })},
	}
}

func countersOfService(s *api.Service) counters { return counters{s.Total, s.BytesUp, s.BytesDown} }

func countersOfBackend(b *api.Backend) counters { return counters{b.Total, b.BytesUp, b.BytesDown} }
