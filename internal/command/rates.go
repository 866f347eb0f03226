package command

import "usher/internal/figures"

// rateColumns are those of rows with rates, which may be nil.
func rateColumns[T any](of func(T) *figures.Rates) []column[T] {
	text := func(unit string, rate func(*figures.Rates) float64) func(T) string {
		return func(row T) string {
			if r := of(row); r != nil {
				return figures.Amount(rate(r), unit)
			}
			return ""
		}
	}
	return []column[T]{
		{name: "FLOWS/S", wide: true, cell: text("", func(r *figures.Rates) float64 { return r.Flows })},
		{name: "UP/S", wide: true, cell: text("B", func(r *figures.Rates) float64 { return r.Up })},
		{name: "DOWN/S", wide: true, cell: text("B", func(r *figures.Rates) float64 { return r.Down })},
	}
}
