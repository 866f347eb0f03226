package health_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"usher/health"
	"usher/internal/race"
)

var errSick = errors.New("sick")

// fake is a Checker with a script that records its checks. Each check takes cost, or
// ends with its context.
type fake struct {
	cost   time.Duration
	answer func(t health.Target, nth int) error // nth counts a target's checks from 0

	mu       sync.Mutex
	starts   map[health.Target][]time.Time
	inFlight int
	most     int
}

func (f *fake) Check(ctx context.Context, t health.Target) error {
	f.mu.Lock()
	if f.starts == nil {
		f.starts = make(map[health.Target][]time.Time)
	}
	nth := len(f.starts[t])
	f.starts[t] = append(f.starts[t], time.Now())
	f.inFlight++
	f.most = max(f.most, f.inFlight)
	f.mu.Unlock()
	defer func() {
		f.mu.Lock()
		f.inFlight--
		f.mu.Unlock()
	}()
	if f.cost > 0 {
		select {
		case <-time.After(f.cost):
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	if f.answer == nil {
		return nil
	}
	return f.answer(t, nth)
}

// load returns how many checks are in flight, and how many were at most.
func (f *fake) load() (now, most int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.inFlight, f.most
}

// reset resets the most checks in flight, and returns the former value.
func (f *fake) reset() (most int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	most, f.most = f.most, f.inFlight
	return most
}

func (f *fake) startsOf(t health.Target) []time.Time {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.Clone(f.starts[t])
}

// log collects reports as "a up" or "a down: reason". It fails the test if two reports
// of one target overlap.
type log struct {
	t    *testing.T
	mu   sync.Mutex
	all  []string
	busy map[health.Target]*atomic.Bool
}

func (l *log) report(t health.Target, up bool, err error) {
	l.mu.Lock()
	if l.busy == nil {
		l.busy = make(map[health.Target]*atomic.Bool)
	}
	if l.busy[t] == nil {
		l.busy[t] = new(atomic.Bool)
	}
	busy := l.busy[t]
	word := t.Name + " up"
	if !up {
		word = fmt.Sprintf("%s down: %v", t.Name, err)
	} else if err != nil {
		l.t.Errorf("%s is up with error %v", t.Name, err)
	}
	l.all = append(l.all, word)
	l.mu.Unlock()

	if !busy.CompareAndSwap(false, true) {
		l.t.Errorf("two reports of %s at a time", t.Name)
	}
	time.Sleep(time.Millisecond) // gives an overlap its chance
	busy.Store(false)
}

func (l *log) words() []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.Clone(l.all)
}

func (l *log) expect(want ...string) {
	l.t.Helper()
	if got := l.words(); !slices.Equal(got, want) {
		l.t.Errorf("reports %q, want %q", got, want)
	}
}

func named(names ...string) []health.Target {
	targets := make([]health.Target, 0, len(names))
	for _, n := range names {
		targets = append(targets, health.Target{Name: n, Network: "tcp", Address: n + ":1"})
	}
	return targets
}

func numbered(n int) []health.Target {
	names := make([]string, n)
	for i := range names {
		names[i] = fmt.Sprint(i)
	}
	return named(names...)
}

// script answers the nth check of each target by the nth letter: + good, - bad, ?
// inconclusive. The last letter repeats.
func script(letters string) func(health.Target, int) error {
	return func(_ health.Target, nth int) error {
		switch letters[min(nth, len(letters)-1)] {
		case '+':
			return nil
		case '?':
			return fmt.Errorf("%w: no descriptor", health.ErrInconclusive)
		}
		return errSick
	}
}

func TestMonitorReportsFirstResultAndChanges(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name, script string
		want         []string
	}{
		{"up from the start", "+", []string{"a up"}},
		{"down from the start", "-", []string{"a down: sick"}},
		{"falls and rises", "++---++", []string{"a up", "a down: sick", "a up"}},
		{"flapping is not falling", "+--+--+--+", []string{"a up"}},
		{"flapping is not rising", "-+-+-+-", []string{"a down: sick"}},
		{"inconclusive results count for nothing", "+--?????+", []string{"a up"}},
		{"nor do they break a run", "+-?-?-", []string{"a up", "a down: sick"}},
		{"an inconclusive start is no result", "??-", []string{"a down: sick"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				reports := log{t: t}
				m := health.NewMonitor(&fake{answer: script(tt.script)}, health.Policy{}, reports.report)
				defer m.Close()
				m.Set(named("a"))
				time.Sleep(time.Minute)
				reports.expect(tt.want...)
			})
		})
	}
}

// Inconclusive checks are reported at most once a minute for all targets.
func TestMonitorReportsInconclusiveChecks(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var told []string
		var at []time.Duration
		start := time.Now()
		m := health.NewMonitorWithRandom(&fake{answer: script("+?")}, health.Policy{
			Interval: 10 * time.Second,
			OnInconclusive: func(t2 health.Target, err error) {
				told = append(told, t2.Name+": "+err.Error())
				at = append(at, time.Since(start))
			},
		}, func(health.Target, bool, error) {}, middle)
		m.Set(numbered(20))
		time.Sleep(2*time.Minute + 6*time.Second)
		m.Set(nil)
		time.Sleep(5 * time.Minute)
		m.Close()
		if !slices.Equal(at, seconds(5, 65, 125)) {
			t.Errorf("told after %v of %q, want once a minute", at, told)
		}
		for _, word := range told {
			if want := ": check not possible: no descriptor"; word[len(word)-len(want):] != want {
				t.Errorf("told of %q", word)
			}
		}
	})
}

func TestMonitorTimeout(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		reports := log{t: t}
		m := health.NewMonitor(&fake{cost: time.Hour}, health.Policy{Timeout: 700 * time.Millisecond}, reports.report)
		defer m.Close()
		start := time.Now()
		m.Set(named("a"))
		m.WaitFirst(t.Context())
		reports.expect("a down: context deadline exceeded")
		if took := time.Since(start).Truncate(100 * time.Millisecond); took != 700*time.Millisecond {
			t.Errorf("first result after %v, want 700ms", took)
		}
	})
}

func TestMonitorSpreadsChecks(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		const n, interval = 200, 2 * time.Second
		const seed = 1 // another one tests other cases
		var mu sync.Mutex
		random := rand.New(rand.NewPCG(seed, 0))
		checker := &fake{}
		m := health.NewMonitorWithRandom(checker, health.Policy{Interval: interval},
			func(health.Target, bool, error) {},
			func() float64 {
				mu.Lock()
				defer mu.Unlock()
				return random.Float64()
			})
		defer m.Close()
		start := time.Now()
		m.Set(numbered(n))
		time.Sleep(time.Minute)

		var tenth [10]int // of an interval in which second checks fell
		distinct := make(map[time.Duration]bool)
		for _, target := range numbered(n) {
			starts := checker.startsOf(target)
			if len(starts) < 2 || !starts[0].Equal(start) {
				t.Fatalf("target %s: checks at %v, want the first at %v", target.Name, starts, start)
			}
			phase := starts[1].Sub(start)
			if phase < 0 || phase >= interval {
				t.Fatalf("target %s: second check after %v, want less than %v", target.Name, phase, interval)
			}
			tenth[phase*10/interval]++
			for i := range starts[2:] {
				pause := starts[i+2].Sub(starts[i+1])
				if pause < interval*9/10 || pause > interval*11/10 {
					t.Fatalf("target %s: pause of %v, want %v ± 10 %%", target.Name, pause, interval)
				}
				distinct[pause] = true
			}
		}
		// 20 are expected in each tenth; 60 or 0 is 9 or 4.7 standard
		// deviations away.
		if slices.Min(tenth[:]) == 0 || slices.Max(tenth[:]) > 3*n/10 {
			t.Errorf("second checks by tenth of the interval: %v, want about %d in each", tenth, n/10)
		}
		if len(distinct) < n {
			t.Errorf("only %d distinct pauses among %d targets: no jitter", len(distinct), n)
		}
	})
}

func TestMonitorBoundsChecksInFlight(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		n := 2000
		if race.Enabled {
			n = 500
		}
		checker := &fake{cost: 900 * time.Millisecond, answer: script("-")}
		var down atomic.Int64
		m := health.NewMonitor(checker, health.Policy{}, func(health.Target, bool, error) { down.Add(1) })
		defer m.Close()
		m.Set(numbered(n))
		m.WaitFirst(t.Context())
		if down.Load() != int64(n) {
			t.Errorf("%d first results reported when WaitFirst returned, want %d", down.Load(), n)
		}
		time.Sleep(time.Minute)
		if _, most := checker.load(); most != health.MaxInFlight {
			t.Errorf("at most %d checks in flight, want exactly %d under this load", most, health.MaxInFlight)
		}
		// 60 s of 256 checks at a time, 0.9 s each, shared by 2,000: 8 each, and more with fewer targets.
		for _, target := range numbered(n) {
			if got := len(checker.startsOf(target)); got < 7 {
				t.Fatalf("target %s was checked %d times in a minute: starved", target.Name, got)
			}
		}
	})
}
