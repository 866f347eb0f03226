// Package figures makes rates of counters, and formats numbers, sizes and times for people.
package figures

import (
	"fmt"
	"math"
	"strconv"
	"time"
)

// Count writes a number of things: "1 flow" or "5 flows".
func Count(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return strconv.Itoa(n) + " " + what + "s"
}

// Amount formats a number with three digits and the unit of a power of 1000: 999B, 1.23kB, 45.6MB.
func Amount(n float64, unit string) string {
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

// Bytes formats a size.
func Bytes(n uint64) string { return Amount(float64(n), "B") }

// Span formats a duration with its two greatest units.
func Span(d time.Duration) string {
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

// Milliseconds formats a measured time; 0 is none.
func Milliseconds(ms float64) string {
	if ms == 0 {
		return ""
	}
	return threeDigits(ms) + "ms"
}

// Since formats the time that has passed since a moment; the zero one is none.
func Since(at, now time.Time) string {
	if at.IsZero() {
		return ""
	}
	return Span(now.Sub(at))
}
