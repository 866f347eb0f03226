package balancer

import (
	"fmt"
	"strings"
	"testing"
)

// TestTiers names the backends of each case by the letter of their status. The rule is the
// pool's; rr and lc show it exactly, each by its own way to take in a change.
func TestTiers(t *testing.T) {
	t.Parallel()
	status := map[byte]Status{'?': Unknown, 'u': Up, 'd': Down, 'D': Drain, 'M': Maint}
	for _, tt := range []struct {
		backends       string // 0: up, but of weight 0; h: a name that does not resolve
		open, isClosed string
	}{
		{"uu?dDM0h", "uu", "uu"},
		{"u?", "u", "u"},
		{"??dDM0h", "??", "??"},
		{"ddDM0h", "dd", ""},
		{"DM0h", "", ""},
		{"D", "", ""},
		{"M", "", ""},
		{"0", "", ""},
		{"0?d", "?", "?"},
		{"h", "", ""},
		{"hd", "d", ""},
	} {
		for _, failClosed := range []bool{false, true} {
			want := tt.open
			if failClosed {
				want = tt.isClosed
			}
			for _, scheduler := range []string{"rr", "lc"} {
				p, err := NewPool(Options{Scheduler: scheduler, FailClosed: failClosed})
				if err != nil {
					t.Fatal(err)
				}
				s := specs(len(tt.backends))
				for i, c := range tt.backends {
					switch c {
					case '0':
						s[i].Weight = 0
					case 'h':
						s[i].Endpoint = Endpoint{Host: "db.local:5432"}
					}
				}
				p.Update(s)
				for i, b := range p.Backends() {
					switch c := tt.backends[i]; c {
					case '0':
						p.SetStatus(b, Up)
					case 'h':
						if b.Status() != Down {
							t.Errorf("a name that does not resolve starts %v", b.Status())
						}
						p.SetStatus(b, Up) // even if somebody believes so
					default:
						p.SetStatus(b, status[c])
					}
				}
				got := ""
				count := picks(p, 200)
				for i, b := range p.Backends() {
					if count[b] > 0 {
						got += tt.backends[i : i+1]
					}
				}
				if got != want || (want == "") != (count[nil] > 0) {
					t.Errorf("%s, fail closed %v, backends %q: flows go to %q (%d nowhere), want %q",
						scheduler, failClosed, tt.backends, got, count[nil], want)
				}
			}
		}
	}
}

// layout makes a pool of the backends whose letters are before the bar, and of the backups
// whose letters are behind it, and returns to which of them flows go, likewise.
func layout(t *testing.T, o Options, letters string) string {
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
		}
	}
	p.Update(s)
	for i, b := range p.Backends() {
		switch kinds[i] {
		case 'u', '0':
			p.SetStatus(b, Up)
		case 'd':
			p.SetStatus(b, Down)
		case 'e':
			p.SetStatus(b, Up)
			p.Eject(b)
		case 'D':
			p.SetStatus(b, Drain)
		case 'M':
			p.SetStatus(b, Maint)
		}
	}
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
	if (got == "|") != (count[nil] > 0) {
		t.Errorf("%q: flows go to %q, %d nowhere", letters, got, count[nil])
	}
	return got
}

func TestBackups(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct{ letters, open, isClosed string }{
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
			if got := layout(t, Options{FailClosed: failClosed}, tt.letters); got != want {
				t.Errorf("%q, fail closed %v: flows go to %q, want %q", tt.letters, failClosed, got, want)
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

// TestEject follows one backend through findings, orders and ejections.
func TestEject(t *testing.T) {
	t.Parallel()
	p, err := NewPool(Options{})
	if err != nil {
		t.Fatal(err)
	}
	p.Update(specs(2))
	b := p.Backends()[0]
	set := func(s Status) func() bool { return func() bool { return p.SetStatus(b, s) } }
	eject := func() bool { return p.Eject(b) }
	readmit := func() bool { return p.Readmit(b) }
	resume := func() bool { return p.Resume(b) }
	for i, tt := range []struct {
		do               func() bool
		changed, ejected bool
		want             Status
	}{
		{readmit, false, false, Unknown},
		{eject, true, true, Down},
		{eject, false, true, Down},
		{set(Up), false, true, Down}, // kept for later
		{readmit, true, false, Up},
		{eject, true, true, Down},
		{set(Down), false, true, Down},
		{readmit, false, false, Down},
		{set(Up), true, false, Up},
		{set(Drain), true, false, Drain},
		{eject, false, true, Drain},
		{set(Maint), true, true, Maint},
		{resume, true, true, Down},
		{set(Drain), true, true, Drain},
		{readmit, false, false, Drain},
		{resume, true, false, Up},
	} {
		if changed := tt.do(); changed != tt.changed || b.Ejected() != tt.ejected || b.Status() != tt.want {
			t.Fatalf("step %d: changed %v, ejected %v, status %v; want %+v", i, changed, b.Ejected(), b.Status(), tt)
		}
	}
	p.Update(specs(2)[1:])
	if p.Eject(b) || b.Ejected() {
		t.Error("a removed backend was ejected")
	}
	p.Update(specs(2))
	if fresh := p.Backends()[0]; fresh.Ejected() || fresh.Status() != Unknown {
		t.Errorf("its successor starts %v, ejected %v", fresh.Status(), fresh.Ejected())
	}
}

// TestBackupRelievesThoseThatTriedAll: a flow that all members have failed goes on to a
// backup, before any check has told; others do not.
func TestBackupRelievesThoseThatTriedAll(t *testing.T) {
	t.Parallel()
	eachScheduler(t, func(t *testing.T, scheduler string) {
		s := specs(4)
		s[2].Backup, s[3].Backup = true, true
		s[3].Limits.Max = 1
		for i := range s {
			s[i].Weight = 10
		}
		p := newPool(t, scheduler, s)
		all := p.Backends()
		p.SetStatus(all[2], Down)
		var tried Tried
		for i := range 2 {
			b := acquire(p, client(i), &tried)
			if b == nil || b.Backup() {
				t.Fatalf("try %d goes to %v", i, b)
			}
			p.Release(b)
			tried.Add(b)
		}
		b := acquire(p, client(3), &tried)
		if b != all[3] {
			t.Fatalf("after all members: %v, want the backup that is up", b)
		}
		if c, busy := p.Acquire(client(4), &tried); c != nil || !busy {
			t.Errorf("with the backup full: %v, busy %v", c, busy)
		}
		p.Release(b)
		tried.Add(b)
		if c, busy := p.Acquire(client(5), &tried); c != nil || busy {
			t.Errorf("with all tried: %v, busy %v", c, busy)
		}
		if n := all[3].Active(); n != 0 {
			t.Errorf("the backup has %d flows left", n)
		}
		p.Update(s[:3])
		if c := acquire(p, client(6), &tried); c != nil {
			t.Errorf("a backup that is gone relieves: %v", c)
		}
	})
}
