package figures

import (
	"testing"
	"time"
)

func TestAmounts(t *testing.T) {
	t.Parallel()
	for n, want := range map[float64]string{0: "0B", 0.5: "0.50B", 999: "999B", 999.6: "1.00kB", 1234: "1.23kB", 99_950: "100kB", 123e6: "123MB", 18e18: "18.0EB"} {
		if got := Amount(n, "B"); got != want {
			t.Errorf("%v: %s, want %s", n, got, want)
		}
	}
	for d, want := range map[time.Duration]string{
		-1: "0s", 0: "0ms", 999 * time.Millisecond: "999ms", 1999 * time.Millisecond: "1.9s", time.Minute: "1m0s",
		time.Hour - 1: "59m59s", 25 * time.Hour: "1d1h",
	} {
		if got := Span(d); got != want {
			t.Errorf("%v: %s, want %s", d, got, want)
		}
	}
}
