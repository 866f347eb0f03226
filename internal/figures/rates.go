package figures

import (
	"time"

	"usher/internal/api"
)

// Rates are per second, over the time between two samples.
type Rates struct{ Flows, Up, Down float64 }

// Counters are what rates are made of.
type Counters struct{ Total, Up, Down uint64 }

// OfService are the counters of a service.
func OfService(s *api.Service) Counters { return Counters{s.Total, s.BytesUp, s.BytesDown} }

// OfBackend are the counters of a backend.
func OfBackend(b *api.Backend) Counters { return Counters{b.Total, b.BytesUp, b.BytesDown} }

// Since returns the rates from the counters of a sample to c. Counters that have fallen are of another process, or of a
// service that was removed in between: there are no rates then.
func (c Counters) Since(before Counters, passed time.Duration) *Rates {
	if passed <= 0 || c.Total < before.Total || c.Up < before.Up || c.Down < before.Down {
		return nil
	}
	s := passed.Seconds()
	return &Rates{float64(c.Total-before.Total) / s, float64(c.Up-before.Up) / s, float64(c.Down-before.Down) / s}
}
