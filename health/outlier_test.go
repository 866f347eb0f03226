package health_test

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"
	"time"

	"usher/health"
)

func newDetector(t testing.TB, p health.OutlierPolicy) *health.OutlierDetector[string] {
	t.Helper()
	e, err := health.NewOutlierDetector[string](p)
	if err != nil {
		t.Fatal(err)
	}
	return e
}

func TestNewOutlierDetector(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name string
		p    health.OutlierPolicy
		want []string
	}{
		{name: "nothing"},
		{name: "all", p: health.OutlierPolicy{Threshold: 1, Base: time.Second, Max: time.Second, Forgive: 1, MaxShare: 100}},
		{name: "a long base", p: health.OutlierPolicy{Base: time.Hour}},
		{name: "threshold", p: health.OutlierPolicy{Threshold: -1}, want: []string{"threshold", "negative"}},
		{name: "giant threshold", p: health.OutlierPolicy{Threshold: 1<<31 - 1}, want: []string{"threshold", "range"}},
		{name: "base", p: health.OutlierPolicy{Base: -1}, want: []string{"base", "negative"}},
		{name: "max", p: health.OutlierPolicy{Max: -1}, want: []string{"max", "negative"}},
		{name: "giant max", p: health.OutlierPolicy{Max: 1<<63 - 1}, want: []string{"longest", "range"}},
		{name: "forgive", p: health.OutlierPolicy{Forgive: -1}, want: []string{"forgive", "negative"}},
		{name: "share", p: health.OutlierPolicy{MaxShare: -1}, want: []string{"share", "negative"}},
		{name: "giant share", p: health.OutlierPolicy{MaxShare: 101}, want: []string{"101 %"}},
		{name: "max below base", p: health.OutlierPolicy{Base: time.Minute, Max: time.Second}, want: []string{"1s", "1m0s"}},
	} {
		_, err := health.NewOutlierDetector[string](tt.p)
		expectRefusal(t, tt.name, err, tt.want)
	}
}

// The share is rounded down, but to at least one. The last backend stays.
func TestOutlierDetectorShare(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct{ pool, share, want int }{
		{1, 10, 0}, {1, 100, 0},
		{2, 10, 1}, {2, 50, 1}, {2, 100, 1},
		{3, 10, 1}, {3, 66, 1}, {3, 67, 2}, {3, 100, 2},
		{10, 10, 1}, {10, 19, 1}, {10, 20, 2}, {10, 99, 9}, {10, 100, 9},
		{2, 0, 1}, {3, 0, 1}, {4, 0, 2}, {5, 0, 2}, {10, 0, 5}, // half by default
		{100, 1, 1}, {100, 10, 10}, {199, 1, 1}, {200, 1, 2}, {1000, 10, 100},
	} {
		e := newDetector(t, health.OutlierPolicy{Threshold: 1, MaxShare: tt.share})
		pool := make([]string, tt.pool)
		for i := range pool {
			pool[i] = fmt.Sprint(i)
		}
		e.Set(pool, 0)
		got := 0
		for _, b := range pool {
			if e.OnFailure(b, 0) {
				got++
			}
		}
		if got != tt.want {
			t.Errorf("%d of %d are ejected at a share of %d %%, want %d", got, tt.pool, tt.share, tt.want)
		}
	}
}

// Events: +a and -a are a success and a failure of a, 30s is the time, ~ab and ^ab make a and b
// unavailable and available, =ab sets the pool. What an event causes follows it: !a
// ejects a, >a ends its ejection. Nothing else may happen.
func TestOutlierDetector(t *testing.T) {
	t.Parallel()
	policy := health.OutlierPolicy{Threshold: 3, Base: 10 * time.Second, Max: 35 * time.Second, Forgive: time.Minute, MaxShare: 50}
	for _, tt := range []struct{ name, events string }{
		{"the third in a row", "=ab -a -a -a !a"},
		{"a success ends the run", "=ab -a -a +a -a -a +a -a -a -a !a"},
		{"another's success does not", "=ab -a -a +b -a !a"},
		{"runs are apart", "=abcd -a -b -a -b -a !a -b !b"},
		{"time alone does not end a run", "=ab -a -a 1h -a !a"},
		{"returns after the base", "=ab -a -a -a !a 9999ms 10s >a"},
		{"begins anew", "=ab -a -a -a !a 10s >a -a -a +a -a -a -a !a"},
		{"longer and longer, to the most", "=ab -a -a -a !a 10s >a -a -a -a !a 29s 30s >a -a -a -a !a 59s 60s >a -a -a -a !a 94s 95s >a -a -a -a !a 129s 130s >a"},
		{"one is forgiven after good time", "=ab -a -a -a !a 10s >a -a -a -a !a 30s >a 90s -a -a -a !a 109s 110s >a"},
		{"not before", "=ab -a -a -a !a 10s >a -a -a -a !a 30s >a 89999ms -a -a -a !a 119s 119999ms >a"},
		{"all are forgiven in the end", "=ab -a -a -a !a 10s >a -a -a -a !a 30s >a 1000s -a -a -a !a 1009s 1010s >a"},
		{"failures of the ejected do not count", "=ab -a -a -a !a -a -a -a -a -a 10s >a -a -a -a !a 29s 30s >a"},
		{"no more than the share", "=abcd -a -a -a !a -b -b -b !b -c -c -c -c 10s >a >b -c !c"},
		{"a success while there is no room", "=abc -a -a -a !a -b -b -b +b 10s >a -b -b -b !b"},
		{"never the last", "=a -a -a -a -a -a"},
		{"never the last that its checks find good", "=ab ~b -a -a -a -a ^b -a !a"},
		{"returns when the others go", "=ab -a -a -a !a ~b >a"},
		{"the first due returns when the others go", "=abcd -b -b -b !b 1s -a -a -a !a ~c ~d >b"},
		{"none returns when all go at once", "=abcd -a -a -a !a -d -d -d !d ~abcd"},
		{"those away do not", "=abcd -a -a -a !a ~a ~b ~c ~d"},
		{"one that comes back from being away serves", "=abcd -a -a -a !a ~a ~b ~c ~d ^a >a"},
		{"away is not ejected", "=abc ~a -a -a -a -a ^a -a -a -a !a"},
		{"ejected, then away", "=abc -a -a -a !a ~a 10s >a ^a"},
		{"the ejected leave", "=abcd -a -a -a !a =bcd =abcd -a -a -a !a 10s >a"},
		{"the pool shrinks below the share", "=abcd -a -a -a !a 1s -b -b -b !b =abc >a 10s 11s >b"},
		{"the pool shrinks to the ejected", "=ab -a -a -a !a =a >a"},
		{"an empty pool", "= -a -a -a"},
		{"there twice", "=aab -a -a -a !a"},
		{"strangers", "=ab -x -x -x +x ~x ^x"},
		{"a run outlives a new pool", "=ab -a -a =abc -a !a"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			e := newDetector(t, policy)
			away := make(map[string]bool)
			var now time.Duration
			var owed []string // caused, and not yet read
			for i, word := range strings.Fields(tt.events) {
				at := fmt.Sprintf("word %d, %s", i+1, word)
				if word[0] == '!' || word[0] == '>' {
					if len(owed) == 0 || owed[0] != word {
						t.Fatalf("%s: happened %q", at, owed)
					}
					owed = owed[1:]
					continue
				}
				if len(owed) > 0 {
					t.Fatalf("before %s: happened %q", at, owed)
				}
				b := word[1:]
				switch word[0] {
				case '+':
					e.OnSuccess(b)
				case '-':
					if e.OnFailure(b, now) {
						owed = append(owed, "!"+b)
					}
				case '~', '^':
					for _, b := range strings.Split(b, "") {
						away[b] = word[0] == '~'
					}
					owed = returns(e.SetUnavailable(func(b string) bool { return away[b] }, now))
				case '=':
					owed = returns(e.Set(strings.Split(b, "")[:len(b)], now))
				default:
					d, err := time.ParseDuration(word)
					if err != nil {
						t.Fatal(err)
					}
					next, some := e.NextUneject()
					now = d
					owed = returns(e.UnejectDue(now))
					if due := some && next <= now; due != (len(owed) > 0) {
						t.Errorf("%s: next was at %v, %t, and returned %q", at, next, some, owed)
					}
				}
			}
			if len(owed) > 0 {
				t.Errorf("at the end: happened %q", owed)
			}
		})
	}
}

func returns(back []string) []string {
	words := make([]string, len(back))
	for i, b := range back {
		words[i] = ">" + b
	}
	return words
}

// For the race detector, and with the bounds that always hold.
func TestOutlierDetectorConcurrent(t *testing.T) {
	t.Parallel()
	e := newDetector(t, health.OutlierPolicy{Threshold: 2, Base: time.Millisecond, Max: 10 * time.Millisecond, MaxShare: 50})
	names := strings.Split("abcdefgh", "")
	e.Set(names, 0)
	var workers sync.WaitGroup
	for worker := range 4 {
		workers.Go(func() {
			random := rand.New(rand.NewPCG(uint64(worker), 0))
			for i := range 5000 {
				now, b := time.Duration(i)*10*time.Microsecond, names[random.IntN(len(names))]
				switch random.IntN(20) {
				case 0:
					e.Set(names, now)
				case 1:
					e.SetUnavailable(func(x string) bool { return x == b && random.IntN(4) == 0 }, now)
				case 2, 3:
					e.UnejectDue(now)
				case 4, 5, 6:
					e.OnSuccess(b)
				case 7:
					e.NextUneject()
				default:
					e.OnFailure(b, now)
				}
			}
		})
	}
	workers.Wait()
	e.SetUnavailable(func(string) bool { return false }, time.Second)
	ejected := 0
	for _, b := range names {
		if e.IsEjected(b) {
			ejected++
		}
	}
	if back := e.UnejectDue(time.Hour); len(back) != ejected || ejected > 4 {
		t.Errorf("%d are ejected, %d return", ejected, len(back))
	}
	if at, some := e.NextUneject(); some {
		t.Errorf("one more returns at %v", at)
	}
}

func TestOutlierDetectorAllocatesNothing(t *testing.T) {
	e := newDetector(t, health.OutlierPolicy{})
	e.Set([]string{"a", "b"}, 0)
	if n := testing.AllocsPerRun(100, func() {
		e.OnSuccess("a")
		e.OnFailure("a", 0)
	}); n > 0 {
		t.Errorf("%v allocations", n)
	}
}
