package main

import (
	"slices"
	"testing"
)

func TestSpread(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		values []float64
		want   spread
		text   string
	}{
		{nil, spread{}, "–"},
		{[]float64{4}, spread{1, 4, 4, 4}, "4.00"},
		{[]float64{0.75, 0.25}, spread{2, 0.5, 0.25, 0.75}, "0.50 (0.25–0.75)"},
		{[]float64{120, 80, 87.3}, spread{3, 87.3, 80, 120}, "87.3 (80.0–120)"},
		{[]float64{4, 1, 3, 2}, spread{4, 2.5, 1, 4}, "2.50 (1.00–4.00)"},
	} {
		given := slices.Clone(tt.values)
		got := spreadOf(tt.values)
		if got != tt.want || got.String() != tt.text {
			t.Errorf("spreadOf(%v) = %+v, %q, want %+v, %q", tt.values, got, got, tt.want, tt.text)
		}
		if !slices.Equal(tt.values, given) {
			t.Errorf("spreadOf(%v) left its argument as %v", given, tt.values)
		}
	}
}

func TestSignificance(t *testing.T) {
	t.Parallel()
	low, high := []float64{1, 2, 3, 4}, []float64{5, 6, 7, 8}
	for _, tt := range []struct {
		a, b []float64
		want string
	}{
		{nil, high, none}, {low[:3], high[:3], none}, {low, high, "0.029"}, {low, []float64{1.5, 2.5, 3.5, 4.5}, "0.686"},
	} {
		if got := significance(tt.a, tt.b); got != tt.want {
			t.Errorf("%v and %v: %s, want %s", tt.a, tt.b, got, tt.want)
		}
	}
}

func TestShare(t *testing.T) {
	t.Parallel()
	for v, want := range map[float64]string{0: "0", 1e-9: "<0.0001", 0.0001: "0.0001", 0.01234: "0.0123", 12.34: "12.3", 100: "100"} {
		if got := share(v); got != want {
			t.Errorf("share(%v) = %q, want %q", v, got, want)
		}
	}
}

func TestNumber(t *testing.T) {
	t.Parallel()
	for v, want := range map[float64]string{
		0: "0.00", 0.994: "0.99", 9.994: "9.99", 9.996: "10.0", 99.94: "99.9", 99.96: "100", 12345.6: "12346", -0.5: "-0.50",
	} {
		if got := number(v); got != want {
			t.Errorf("number(%v) = %q, want %q", v, got, want)
		}
	}
}
