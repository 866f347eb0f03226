package balancer

import "math/bits"

// logTable draws exponentially distributed numbers, -ln u. Unlike math.Log it gives the
// same to the last bit on all machines, which instances need that are to agree on a
// table: a conversion of each product keeps compilers from fusing it with the sum around
// it. Ten digits are right.
type logTable [logSteps]struct {
	ln      float64 // of the middle of a step of 1 … 2
	inverse float64 // of the middle
}

const (
	logSteps = 1 << logBits
	logBits  = 8
	ln2      = 0.693147180559945309417232121458176568
)

func newLogTable() *logTable {
	t := new(logTable)
	for i := range t {
		middle := 1 + (float64(i)+0.5)/logSteps
		t[i].inverse = 1 / middle
		// ln m = 2·artanh s = 2·(s + s³/3 + s⁵/5 + …); s is at most 1/3.
		s := (middle - 1) / (middle + 1)
		power, square := 2*s, float64(s*s)
		for k := 1.0; k < 30; k += 2 {
			t[i].ln += power / k
			power *= square
		}
	}
	return t
}

// pause returns -ln u for u = (x+1/2)/2^32, so that u is neither 0 nor 1.
func (t *logTable) pause(x uint32) float64 {
	odd := uint64(x)<<1 | 1 // u·2^33
	zeros := bits.LeadingZeros64(odd)
	fraction := odd << zeros // u·2^(zeros-30) is 1 … 2, these are its bits
	at := &t[fraction<<1>>(64-logBits)]
	f := float64(fraction>>11) / (1 << 52)
	r := float64(f*at.inverse) - 1 // at most 2^-9 either way
	// ln(1+r) = r - r²/2 + r³/3 - …
	ln := r - float64(r*float64(r*(0.5-float64(r/3))))
	return float64(float64(zeros-30)*ln2) - at.ln - ln
}
