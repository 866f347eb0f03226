package balancer

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
)

// arrange makes a pool of the backends whose letters are before the bar, and of the backups
// whose letters are behind it.
func arrange(t *testing.T, o Options, letters string) *Pool {
	t.Helper()
	p, err := NewPool(o)
	if err != nil {
		t.Fatal(err)
	}
	bar := strings.IndexByte(letters, '|')
	kinds := letters[:bar] + letters[bar+1:]
	s := specs(len(kinds))
	for i, c := range kinds {
		s[i].Backup = i >= bar
		switch c {
		case '0':
			s[i].Weight = 0
		case 'h':
			s[i].Endpoint = Endpoint{Host: fmt.Sprintf("db%d.local:5432", i)}
		case 'm':
			s[i].Limits.Max = 1
		}
	}
	p.Update(s, 0)
	for i, b := range p.Backends() {
		switch kinds[i] {
		case 'u', '0':
			setStatus(p, b, Up)
		case 'm':
			setStatus(p, b, Up)
			p.AcquireSticky(b, AffinityPolicy{})
		case 'd':
			setStatus(p, b, Down)
		case 'e':
			setStatus(p, b, Up)
			eject(p, true, b)
		case 'D':
			setAdmin(p, Drain, b)
		case 'M':
			setAdmin(p, Maint, b)
		}
	}
	return p
}

// layout makes a pool of letters, and returns to which of them flows go, likewise.
func layout(t *testing.T, o Options, letters string) string {
	t.Helper()
	p := arrange(t, o, letters)
	bar := strings.IndexByte(letters, '|')
	kinds := letters[:bar] + letters[bar+1:]
	got := ""
	count := picks(p, 20*len(kinds))
	for i, b := range p.Backends() {
		if i == bar {
			got += "|"
		}
		if count[b] > 0 {
			got += kinds[i : i+1]
		}
	}
	if bar == len(kinds) {
		got += "|"
	}
	if down := !strings.ContainsAny(got, "u?"); p.AllDown() != down {
		t.Errorf("%q: all down is %v, flows go to %q", letters, p.AllDown(), got)
	}
	if (got == "|") != (count[nil] > 0) {
		t.Errorf("%q: flows go to %q, %d nowhere", letters, got, count[nil])
	}
	return got
}

func TestMembers(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct{ letters, open, isClosed string }{
		{"uu?dDM0h|", "uu|", "uu|"},
		{"u?|", "u|", "u|"},
		{"??dDM0h|", "??|", "??|"},
		{"ddDM0h|", "dd|", "|"},
		{"D|", "|", "|"},
		{"M|", "|", "|"},
		{"0|", "|", "|"},
		{"h|", "|", "|"},
		{"0?d|", "?|", "?|"},
		{"hd|", "d|", "|"},
		{"u?d|u", "u|", "u|"},
		{"?d|u", "|u", "|u"}, // up as a backup is better than not known
		{"?d|?d", "?|", "?|"},
		{"d|?d", "|?", "|?"},
		{"dd|d", "dd|", "|"},
		{"e|u", "|u", "|u"},
		{"e|e", "e|", "|"},
		{"DM0h|u?d", "|u", "|u"},
		{"DM0h|d", "|d", "|"},
		{"u|0DMh", "u|", "u|"},
		{"d|0DMh", "d|", "|"},
		{"|uu?", "|uu", "|uu"},
		{"0|0", "|", "|"},
	} {
		for _, failClosed := range []bool{false, true} {
			want := tt.open
			if failClosed {
				want = tt.isClosed
			}
			for _, scheduler := range []string{"rr", "lc"} { // each takes in a change its own way
				if got := layout(t, Options{Scheduler: scheduler, FailClosed: failClosed}, tt.letters); got != want {
					t.Errorf("%s, %q, fail closed %v: flows go to %q, want %q", scheduler, tt.letters, failClosed, got, want)
				}
			}
		}
	}
}

func TestPanicShare(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		share   int
		letters string
		want    string
	}{
		{0, "udddd|", "u|"},
		{50, "ud|", "u|"}, // as many as must be
		{50, "udd|", "udd|"},
		{51, "ud|", "ud|"},
		{1, "udddddddd|", "u|"},
		{100, "uuuuuuuud|", "uuuuuuuud|"},
		{100, "uuu|", "uuu|"},
		{50, "uee|", "uee|"},
		// Those not checked yet come before those that are down.
		{50, "u??|", "u??|"},
		{50, "uu?|", "uu|"},
		{50, "u?dd|", "u?|"},
		{60, "u?dd|", "u?dd|"},
		{50, "?dd|", "?dd|"},
		{50, "?d|", "?|"},
		{100, "ddd|", "ddd|"},
		// Who cannot be used does not count.
		{50, "udDDMM00hh|", "u|"},
		{60, "udDDMM00hh|", "ud|"},
		// Backups neither count nor take part, but come first when nothing else is up.
		{50, "ud|ddddd", "u|"},
		{50, "udd|uuuuu", "udd|"},
		{50, "ddd|ud", "|u"},
		{100, "?dd|ud", "|u"},
		{100, "|ud", "|u"},
	} {
		for _, scheduler := range []string{"rr", "lc"} {
			if got := layout(t, Options{Scheduler: scheduler, Panic: tt.share}, tt.letters); got != tt.want {
				t.Errorf("%s, panic share %d, %q: flows go to %q, want %q", scheduler, tt.share, tt.letters, got, tt.want)
			}
		}
	}
}

// TestFallback follows a flow that is refused everywhere. A bar stands before the backups;
// m is the one with room for one flow, which it has.
func TestFallback(t *testing.T) {
	t.Parallel()
	eachScheduler(t, func(t *testing.T, scheduler string) {
		for _, tt := range []struct{ letters, open, isClosed, upOnly string }{
			{"uu|", "uu", "uu", "uu"},
			{"u|u", "uu", "uu", "uu"}, // before any check has told that the first is down
			{"uu|d", "uud", "uu", "uu"},
			{"ud|ud", "uudd", "uu", "uu"},
			{"u?d|?u", "uu??d", "uu??", "uu"},
			{"?d|d", "?dd", "?", ""},
			{"de|", "dd", "", ""},
			{"u|edD", "udd", "u", "u"},
			{"uDM0h|DM0h", "u", "u", "u"},
			{"ud|m", "um", "um", "um"}, // waiting may help
		} {
			for _, form := range []struct {
				o      Options
				upOnly bool
				want   string
			}{{Options{}, false, tt.open}, {Options{FailClosed: true}, false, tt.isClosed}, {Options{}, true, tt.upOnly}} {
				form.o.Scheduler, form.o.Random = scheduler, rand.Uint64
				if got := refusals(t, form.o, tt.letters, form.upOnly); got != form.want {
					t.Errorf("%q, fail closed %v, up only %v: %q, want %q", tt.letters, form.o.FailClosed, form.upOnly, got, form.want)
				}
			}
		}
	})
}

// refusals returns where a flow goes that is refused everywhere.
func refusals(t *testing.T, o Options, letters string, upOnly bool) (went string) {
	t.Helper()
	p := arrange(t, o, letters)
	letters = strings.Replace(letters, "|", "", 1)
	f, tried := client(1), new(Tried)
	f.UpOnly = upOnly
	for {
		b, busy := p.Acquire(f, tried)
		if busy {
			return went + "m"
		}
		if b == nil {
			return went
		}
		if tried.Has(b) {
			t.Fatalf("%q: %v again", letters, b)
		}
		went += strings.Replace(letters[slices.Index(p.Backends(), b):][:1], "e", "d", 1) // ejected is down
		b.CountFailure(FailedOther)
		p.Release(b)
		tried.Add(b)
	}
}

// TestFallbackTakesTurns: one of those that are down lives, and once found it is first.
func TestFallbackTakesTurns(t *testing.T) {
	t.Parallel()
	p := arrange(t, Options{}, "u"+strings.Repeat("d", fallbackLooks)+"|")
	lives := p.Backends()[fallbackLooks/2]
	var late Tried
	late.Add(p.Backends()[0])
	counts := map[*Backend]int{}
	for range 3 * fallbackLooks {
		b := acquire(p, client(0), &late)
		counts[b]++
		p.Release(b)
		if b == lives {
			b.ClearFailing()
		} else {
			b.CountFailure(FailedOther)
		}
	}
	if counts[lives] < 2*fallbackLooks {
		t.Errorf("the one of %d that lives was tried %d times in %d", fallbackLooks, counts[lives], 3*fallbackLooks)
	}
}
