package discovery_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"usher/internal/discovery"
	"usher/internal/race"
)

var errNoHost = errors.New("no such host")

// zone is a fake name server: what it holds may change at any time. A name
// that is not there does not resolve; "silent" names are never answered.
type zone struct {
	mu      sync.Mutex
	records map[string]string
	silent  map[string]bool
	cost    time.Duration
	asked   map[string][]time.Time

	inFlight, most int
}

func (z *zone) LookupNetIP(ctx context.Context, _, host string) ([]netip.Addr, error) {
	z.mu.Lock()
	if z.asked == nil {
		z.asked = make(map[string][]time.Time)
	}
	z.asked[host] = append(z.asked[host], time.Now())
	z.inFlight++
	z.most = max(z.most, z.inFlight)
	silent := z.silent[host]
	z.mu.Unlock()
	defer func() {
		z.mu.Lock()
		z.inFlight--
		z.mu.Unlock()
	}()
	if silent {
		<-ctx.Done()
		return nil, ctx.Err()
	}
	time.Sleep(z.cost)
	z.mu.Lock()
	defer z.mu.Unlock()
	words, ok := z.records[host]
	if !ok {
		return nil, fmt.Errorf("lookup %s: %w", host, errNoHost)
	}
	found := addrs(words)
	rand.Shuffle(len(found), func(i, j int) { found[i], found[j] = found[j], found[i] })
	return found, nil
}

func (z *zone) LookupSRV(context.Context, string, string, string) (string, []*net.SRV, error) {
	return "", nil, errNoHost
}

func (z *zone) put(host, words string) {
	z.mu.Lock()
	defer z.mu.Unlock()
	z.records[host] = words
}

func (z *zone) remove(host string) {
	z.mu.Lock()
	defer z.mu.Unlock()
	delete(z.records, host)
}

// pauses returns the times between the lookups of host.
func (z *zone) pauses(host string) []time.Duration {
	z.mu.Lock()
	defer z.mu.Unlock()
	var all []time.Duration
	for i, at := range z.asked[host] {
		if i > 0 {
			all = append(all, at.Sub(z.asked[host][i-1]))
		}
	}
	return all
}

// news collects updates until expect reads them.
type news struct {
	mu  sync.Mutex
	all []string
}

func (n *news) publish(is discovery.Update) {
	var addrs []netip.Addr
	for _, r := range is.Records {
		addrs = append(addrs, r.Addr)
	}
	word := fmt.Sprint(is.Name, addrs)
	if is.Err != nil {
		word += " !"
	}
	if is.Missing != nil {
		word += " ?"
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	n.all = append(n.all, word)
}

func (n *news) expect(t *testing.T, want ...string) {
	t.Helper()
	n.mu.Lock()
	defer n.mu.Unlock()
	slices.Sort(n.all)
	if !slices.Equal(n.all, want) {
		t.Errorf("published %q, want %q", n.all, want)
	}
	n.all = nil
}

// middle makes each jittered pause its mean.
func middle() float64 { return 0.5 }

func TestWatcherPublishesChangesOnly(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		z := &zone{records: map[string]string{"db": "10.0.0.2 10.0.0.1 ::1"}}
		var got news
		w := discovery.NewWatcher(discovery.Resolver{Lookup: z}, 0, got.publish)
		defer w.Close()
		w.Set([]string{"db", "db", "late"})
		w.WaitFirst(t.Context())
		got.expect(t, "db[10.0.0.1 10.0.0.2 ::1]", "late[] !")

		// The name server shuffles its answers: not a change.
		time.Sleep(5 * time.Minute)
		got.expect(t)

		z.put("db", "10.0.0.2 10.0.0.3")
		z.put("late", "10.1.0.1")
		time.Sleep(11 * time.Second)
		got.expect(t, "db[10.0.0.2 10.0.0.3]", "late[10.1.0.1]")

		// The last good set stays while a name does not resolve.
		z.remove("db")
		time.Sleep(5 * time.Minute)
		got.expect(t, "db[10.0.0.2 10.0.0.3] !")

		// Its end is an update, with or without a change.
		z.put("db", "10.0.0.3 10.0.0.2")
		time.Sleep(11 * time.Second)
		got.expect(t, "db[10.0.0.2 10.0.0.3]")
		z.remove("db")
		time.Sleep(11 * time.Second)
		got.expect(t, "db[10.0.0.2 10.0.0.3] !")
		z.put("db", "10.0.0.9")
		time.Sleep(11 * time.Second)
		got.expect(t, "db[10.0.0.9]")
	})
}

func TestWatcherRhythm(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		z := &zone{records: map[string]string{"good": "10.0.0.1"}}
		var got news
		w := discovery.NewWatcherWithRandom(discovery.Resolver{Lookup: z}.Resolve, 0, got.publish, middle)
		defer w.Close()
		w.Set([]string{"good", "bad"})
		time.Sleep(36 * time.Second)
		z.put("bad", "10.0.0.2") // found at 45 s
		time.Sleep(24 * time.Second)
		z.remove("bad") // missed at 65 s
		time.Sleep(7 * time.Second)

		for host, want := range map[string][]time.Duration{
			"good": {10, 10, 10, 10, 10, 10},
			"bad":  {1, 2, 4, 8, 10, 10, 10, 10, 10, 1},
		} {
			for i := range want {
				want[i] *= time.Second
			}
			if got := z.pauses(host); !slices.Equal(got, want) {
				t.Errorf("%s: pauses %v, want %v", host, got, want)
			}
		}
	})
}

func TestWatcherJitter(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		z := &zone{records: map[string]string{"db": "10.0.0.1"}}
		var got news
		w := discovery.NewWatcher(discovery.Resolver{Lookup: z}, time.Minute, got.publish)
		defer w.Close()
		w.Set([]string{"db"})
		hours := 5
		if race.Enabled {
			hours = 1
		}
		time.Sleep(time.Duration(hours) * time.Hour)
		pauses := z.pauses("db")
		low, high := slices.Min(pauses), slices.Max(pauses)
		if low < 54*time.Second || high > 66*time.Second {
			t.Errorf("pauses from %v to %v, want 1m ± 10 %%", low, high)
		}
		// At least 55 pauses: the chance that none is in an outer quarter is
		// (3/4)^55, one in seven million.
		if low > 57*time.Second || high < 63*time.Second {
			t.Errorf("pauses from %v to %v: no jitter to speak of", low, high)
		}
	})
}

func TestWatcherStartIsNotHeldUp(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		z := &zone{records: map[string]string{"db": "10.0.0.1"}, silent: map[string]bool{"mute": true}}
		var got news
		w := discovery.NewWatcher(discovery.Resolver{Lookup: z}, 0, got.publish)
		defer w.Close()
		w.Set([]string{"db", "mute"})
		ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
		defer cancel()
		w.WaitFirst(ctx)
		if ctx.Err() == nil {
			t.Error("returned before every name had an answer and before its context ended")
		}
		got.expect(t, "db[10.0.0.1]")
		time.Sleep(time.Hour)
		got.expect(t)
	})
}

func TestWatcherBoundsLookupsInFlight(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		n := 500
		if race.Enabled {
			n = 100
		}
		z := &zone{records: make(map[string]string), cost: 50 * time.Millisecond}
		var hosts []string
		for i := range n {
			hosts = append(hosts, fmt.Sprintf("h%d", i))
			z.records[hosts[i]] = "10.0.0.1"
		}
		var got news
		w := discovery.NewWatcher(discovery.Resolver{Lookup: z}, 0, got.publish)
		defer w.Close()
		start := time.Now()
		w.Set(hosts)
		w.WaitFirst(t.Context())
		// 16 at a time, in rounds of 50 ms: 1.6 s for 500.
		rounds := (n + discovery.MaxInFlight - 1) / discovery.MaxInFlight
		if took, want := time.Since(start), time.Duration(rounds)*50*time.Millisecond; took != want {
			t.Errorf("%d names took %v, want %v", n, took, want)
		}
		if len(got.all) != n {
			t.Errorf("%d names published when WaitFirst returned, want %d", len(got.all), n)
		}
		if z.most != discovery.MaxInFlight {
			t.Errorf("at most %d lookups in flight, want exactly %d under this load", z.most, discovery.MaxInFlight)
		}
	})
}

func TestWatcherSetWhileRunning(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		z := &zone{records: map[string]string{"a": "10.0.0.1", "b": "10.0.0.2"}, cost: time.Second}
		var got news
		w := discovery.NewWatcherWithRandom(discovery.Resolver{Lookup: z}.Resolve, 0, got.publish, middle)
		defer w.Close()
		w.Set([]string{"a"})
		w.WaitFirst(t.Context())
		w.Set([]string{"a", "b"})
		w.WaitFirst(t.Context())
		got.expect(t, "a[10.0.0.1]", "b[10.0.0.2]")

		// a is removed in the middle of a lookup that brings news.
		z.put("a", "10.0.0.9")
		time.Sleep(9*time.Second + 500*time.Millisecond)
		if p := z.pauses("a"); len(p) != 1 {
			t.Fatalf("a was asked for again %d times, want once, and now", len(p))
		}
		w.Set([]string{"b"})
		time.Sleep(time.Minute)
		got.expect(t)
		if p := z.pauses("a"); len(p) != 1 {
			t.Errorf("a was asked for %d times after its removal", len(p)-1)
		}

		// It comes back as if new.
		w.Set([]string{"a", "b"})
		w.WaitFirst(t.Context())
		got.expect(t, "a[10.0.0.9]")
	})
}

// A slow update holds up neither other names nor a Set that keeps its name. A Set that
// removes the name waits for it.
func TestWatcherUpdatesWithoutLocks(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		const slow = time.Minute
		z := &zone{records: map[string]string{"a": "10.0.0.1", "b": "10.0.0.2"}}
		var got news
		w := discovery.NewWatcherWithRandom(discovery.Resolver{Lookup: z}.Resolve, 0, func(u discovery.Update) {
			if u.Name == "a" {
				time.Sleep(slow)
			}
			got.publish(u)
		}, middle)
		defer w.Close()
		start := time.Now()
		w.Set([]string{"a"})
		synctest.Wait()
		w.Set([]string{"a", "b"})
		synctest.Wait()
		got.expect(t, "b[10.0.0.2]")
		if took := time.Since(start); took > 0 {
			t.Errorf("the update of a held up b for %v", took)
		}
		w.Set([]string{"b"})
		if took := time.Since(start); took != slow {
			t.Errorf("Set returned after %v, want %v, the end of the update", took, slow)
		}
	})
}

func TestWatcherCloseWaits(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		z := &zone{silent: make(map[string]bool)}
		var hosts []string
		for i := range 3 * discovery.MaxInFlight {
			hosts = append(hosts, fmt.Sprintf("h%d", i))
			z.silent[hosts[i]] = true
		}
		var got news
		w := discovery.NewWatcher(discovery.Resolver{Lookup: z}, 0, got.publish)
		w.Set(hosts)
		var waiter sync.WaitGroup
		waiter.Go(func() { w.WaitFirst(t.Context()) })
		synctest.Wait()
		w.Close()
		waiter.Wait()
		if z.inFlight != 0 {
			t.Errorf("%d lookups in flight after Close", z.inFlight)
		}
		w.Set([]string{"late"})
		w.WaitFirst(t.Context())
		got.expect(t) // a lookup that was cut off is not news
		if len(z.asked["late"]) != 0 {
			t.Error("a closed watcher looked a name up")
		}
	})
}

// The error that is published is the lookup's own.
func TestWatcherError(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var got error
		w := discovery.NewWatcher(discovery.Resolver{Lookup: &zone{}}, 0,
			func(n discovery.Update) { got = n.Err })
		defer w.Close()
		w.Set([]string{"db.local"})
		w.WaitFirst(t.Context())
		if !errors.Is(got, errNoHost) || !strings.Contains(got.Error(), "db.local") {
			t.Errorf("published error %v, want %v with the name", got, errNoHost)
		}
	})
}
