package health_test

import (
	"cmp"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"usher/health"
)

func newEjector(t testing.TB, p health.EjectPolicy) *health.Ejector[string] {
	t.Helper()
	e, err := health.NewEjector[string](p)
	if err != nil {
		t.Fatal(err)
	}
	return e
}

func TestNewEjector(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name string
		p    health.EjectPolicy
		want []string
	}{
		{name: "nothing"},
		{name: "all", p: health.EjectPolicy{Threshold: 1, Base: time.Second, Max: time.Second, Forgive: 1, MaxShare: 100}},
		{name: "a long base", p: health.EjectPolicy{Base: time.Hour}},
		{name: "threshold", p: health.EjectPolicy{Threshold: -1}, want: []string{"threshold", "negative"}},
		{name: "giant threshold", p: health.EjectPolicy{Threshold: 1<<31 - 1}, want: []string{"threshold", "range"}},
		{name: "base", p: health.EjectPolicy{Base: -1}, want: []string{"base", "negative"}},
		{name: "max", p: health.EjectPolicy{Max: -1}, want: []string{"max", "negative"}},
		{name: "giant max", p: health.EjectPolicy{Max: 1<<63 - 1}, want: []string{"longest", "range"}},
		{name: "forgive", p: health.EjectPolicy{Forgive: -1}, want: []string{"forgive", "negative"}},
		{name: "share", p: health.EjectPolicy{MaxShare: -1}, want: []string{"share", "negative"}},
		{name: "giant share", p: health.EjectPolicy{MaxShare: 101}, want: []string{"101 %"}},
		{name: "max below base", p: health.EjectPolicy{Base: time.Minute, Max: time.Second}, want: []string{"1s", "1m0s"}},
	} {
		_, err := health.NewEjector[string](tt.p)
		expectRefusal(t, tt.name, err, tt.want)
	}
}

// The share is rounded down, but never to nobody, and the last one stays.
func TestEjectorShare(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct{ pool, share, want int }{
		{1, 10, 0}, {1, 100, 0},
		{2, 10, 1}, {2, 50, 1}, {2, 100, 1},
		{3, 10, 1}, {3, 66, 1}, {3, 67, 2}, {3, 100, 2},
		{10, 10, 1}, {10, 19, 1}, {10, 20, 2}, {10, 99, 9}, {10, 100, 9},
		{2, 0, 1}, {3, 0, 1}, {4, 0, 2}, {5, 0, 2}, {10, 0, 5}, // half by default
		{100, 1, 1}, {100, 10, 10}, {199, 1, 1}, {200, 1, 2}, {1000, 10, 100},
	} {
		e := newEjector(t, health.EjectPolicy{Threshold: 1, MaxShare: tt.share})
		pool := make([]string, tt.pool)
		for i := range pool {
			pool[i] = fmt.Sprint(i)
		}
		e.Set(pool, 0)
		got := 0
		for _, b := range pool {
			if e.Failure(b, 0) {
				got++
			}
		}
		if got != tt.want {
			t.Errorf("%d of %d are ejected at a share of %d %%, want %d", got, tt.pool, tt.share, tt.want)
		}
	}
}

// Events are words: +a and -a a success and a failure of a, !a an ejection by the failure
// before, 30s the time, >a a return, ~a and ^a the checks take a out and in, =ab a new pool.
// What an event must cause stands behind it, and nothing else may happen.
func TestEjector(t *testing.T) {
	t.Parallel()
	policy := health.EjectPolicy{Threshold: 3, Base: 10 * time.Second, Max: 35 * time.Second, Forgive: time.Minute, MaxShare: 50}
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
			e := newEjector(t, policy)
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
					e.Success(b)
				case '-':
					if e.Failure(b, now) {
						owed = append(owed, "!"+b)
					}
				case '~', '^':
					owed = returns(e.Away(b, word[0] == '~', now))
				case '=':
					owed = returns(e.Set(strings.Split(b, "")[:len(b)], now))
				default:
					d, err := time.ParseDuration(word)
					if err != nil {
						t.Fatal(err)
					}
					next, some := e.Next()
					now = d
					owed = returns(e.Return(now))
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

// slowEjector keeps everything in one list and counts it anew for each question.
type slowEjector struct {
	policy  health.EjectPolicy
	members []*slowMember
}

type slowMember struct {
	name          string
	streak        int
	away, ejected bool
	until         time.Duration
	turn          int // of the ejection
	returned      time.Duration
	times         int
}

func (s *slowEjector) find(name string) *slowMember {
	for _, m := range s.members {
		if m.name == name {
			return m
		}
	}
	return nil
}

func (s *slowEjector) counts() (ejected, serving, room int) {
	for _, m := range s.members {
		if m.ejected {
			ejected++
		} else if !m.away {
			serving++
		}
	}
	room = len(s.members) * s.policy.MaxShare / 100
	if room < 1 {
		room = 1
	}
	if room >= len(s.members) {
		room = len(s.members) - 1
	}
	return ejected, serving, room - ejected
}

// dueFirst sorts those ejected by when they return.
func (s *slowEjector) dueFirst() []*slowMember {
	var out []*slowMember
	for _, m := range s.members {
		if m.ejected {
			out = append(out, m)
		}
	}
	slices.SortFunc(out, func(a, b *slowMember) int {
		return cmp.Or(cmp.Compare(a.until, b.until), a.turn-b.turn)
	})
	return out
}

func (s *slowEjector) readmit(m *slowMember, now time.Duration) string {
	m.ejected, m.returned, m.streak = false, now, 0
	return m.name
}

func (s *slowEjector) settle(now time.Duration) (back []string) {
	for {
		_, _, room := s.counts()
		if room >= 0 || len(s.dueFirst()) == 0 {
			break
		}
		back = append(back, s.readmit(s.dueFirst()[0], now))
	}
	if _, serving, _ := s.counts(); serving == 0 {
		for _, m := range s.dueFirst() {
			if !m.away {
				return append(back, s.readmit(m, now))
			}
		}
	}
	return back
}

func (s *slowEjector) failure(name string, now time.Duration, turn int) bool {
	m := s.find(name)
	if m == nil {
		return false
	}
	m.streak++
	_, serving, room := s.counts()
	if m.streak < s.policy.Threshold || m.away || m.ejected || room <= 0 || serving < 2 {
		m.streak = min(m.streak, s.policy.Threshold-1)
		return false
	}
	for at := m.returned + s.policy.Forgive; at <= now && m.times > 0; at += s.policy.Forgive {
		m.times--
	}
	length := time.Duration(0)
	for range m.times + 1 {
		length += s.policy.Base
	}
	if time.Duration(m.times)*s.policy.Base < s.policy.Max {
		m.times++
	}
	m.ejected, m.streak, m.turn = true, 0, turn
	m.until = now + min(length, s.policy.Max)
	return true
}

func TestEjectorSimulation(t *testing.T) {
	t.Parallel()
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	random := rand.New(rand.NewPCG(seed, 0))
	names := strings.Split("abcdefghijkl", "")
	ejections := 0
	for range 200 {
		policy := health.EjectPolicy{
			Threshold: 1 + random.IntN(4),
			Base:      time.Duration(1+random.IntN(20)) * time.Second,
			Forgive:   time.Duration(1+random.IntN(60)) * time.Second,
			MaxShare:  1 + random.IntN(100),
		}
		policy.Max = policy.Base + time.Duration(random.IntN(100))*time.Second
		e, slow := newEjector(t, policy), &slowEjector{policy: policy}
		var now time.Duration
		for turn := range 400 {
			b := names[random.IntN(len(names))]
			var got, want any
			switch k := random.IntN(100); {
			case turn == 0 || k < 2:
				pool := slices.Clone(names[:random.IntN(len(names)+1)])
				random.Shuffle(len(pool), func(i, j int) { pool[i], pool[j] = pool[j], pool[i] })
				members := make([]*slowMember, 0, len(pool))
				for _, name := range pool {
					m := slow.find(name)
					if m == nil {
						m = &slowMember{name: name}
					}
					members = append(members, m)
				}
				slow.members = members
				got, want = fmt.Sprint(e.Set(pool, now)), fmt.Sprint(slow.settle(now))
			case k < 10:
				away := random.IntN(3) == 0
				var back []string
				if m := slow.find(b); m != nil && m.away != away {
					m.away = away
					if !away {
						m.streak = 0
					}
					back = slow.settle(now)
				}
				got, want = fmt.Sprint(e.Away(b, away, now)), fmt.Sprint(back)
			case k < 20:
				e.Success(b)
				if m := slow.find(b); m != nil {
					m.streak = 0
				}
			case k < 30:
				now += time.Duration(random.Int64N(int64(10 * time.Second)))
				var back []string
				for _, m := range slow.dueFirst() {
					if m.until <= now {
						back = append(back, slow.readmit(m, now))
					}
				}
				got, want = fmt.Sprint(e.Return(now)), fmt.Sprint(back)
			default:
				ejected := e.Failure(b, now)
				got, want = ejected, slow.failure(b, now, turn)
				if ejected {
					ejections++
				}
			}
			if got != want {
				t.Fatalf("turn %d, policy %+v: %v, want %v", turn, policy, got, want)
			}
			ejected, serving, room := slow.counts()
			away := 0
			for _, m := range slow.members {
				if m.away {
					away++
				}
				if e.Ejected(m.name) != m.ejected {
					t.Fatalf("turn %d: %s ejected %t, want %t", turn, m.name, !m.ejected, m.ejected)
				}
			}
			if ejected > 0 && (room < 0 || serving == 0 && away < len(slow.members)) {
				t.Fatalf("turn %d: %d of %d are ejected, %d serve, room %d", turn, ejected, len(slow.members), serving, room)
			}
			at, some := e.Next()
			if due := slow.dueFirst(); some != (len(due) > 0) || some && at != due[0].until {
				t.Fatalf("turn %d: next %v, %t", turn, at, some)
			}
		}
	}
	if ejections < 1000 {
		t.Errorf("only %d ejections: the test has lost its teeth", ejections)
	}
}

// Under the race detector, and with the bounds that hold whatever happens.
func TestEjectorConcurrent(t *testing.T) {
	t.Parallel()
	e := newEjector(t, health.EjectPolicy{Threshold: 2, Base: time.Millisecond, Max: 10 * time.Millisecond, MaxShare: 50})
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
					e.Away(b, random.IntN(4) == 0, now)
				case 2, 3:
					e.Return(now)
				case 4, 5, 6:
					e.Success(b)
				case 7:
					e.Next()
				default:
					e.Failure(b, now)
				}
			}
		})
	}
	workers.Wait()
	for _, b := range names {
		e.Away(b, false, time.Second)
	}
	ejected := 0
	for _, b := range names {
		if e.Ejected(b) {
			ejected++
		}
	}
	if back := e.Return(time.Hour); len(back) != ejected || ejected > 4 {
		t.Errorf("%d are ejected, %d return", ejected, len(back))
	}
	if at, some := e.Next(); some {
		t.Errorf("one more returns at %v", at)
	}
}

func TestEjectorSuccessAllocatesNothing(t *testing.T) {
	e := newEjector(t, health.EjectPolicy{})
	e.Set([]string{"a", "b"}, 0)
	if n := testing.AllocsPerRun(100, func() {
		e.Success("a")
		e.Failure("a", 0)
	}); n > 0 {
		t.Errorf("%v allocations", n)
	}
}
