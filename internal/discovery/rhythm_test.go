package discovery_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"usher/internal/discovery"
	"usher/internal/race"
)

// book is a resolver whose answer can be set.
type book struct {
	mu     sync.Mutex
	answer discovery.Answer
	err    error
	asked  []time.Duration // since the start
	start  time.Time
}

func (b *book) set(a discovery.Answer, err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.answer, b.err = a, err
}

func (b *book) resolve(context.Context, string) (discovery.Answer, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.asked = append(b.asked, time.Since(b.start))
	a := b.answer
	a.Records = slices.Clone(a.Records)
	return a, b.err
}

// times returns when it was asked.
func (b *book) times() []time.Duration {
	b.mu.Lock()
	defer b.mu.Unlock()
	return slices.Clone(b.asked)
}

// found makes an answer for db.
func found(ttl time.Duration, words string) discovery.Answer {
	a := discovery.Answer{TTL: ttl}
	for _, ip := range addrs(words) {
		a.Records = append(a.Records, discovery.Record{Host: "db", Addr: ip})
	}
	return a
}

// A name is looked up again when its TTL ends, and not before.
func TestWatcherHonoursTTL(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := &book{start: time.Now()}
		b.set(found(30*time.Second, "10.0.0.1"), nil)
		var got news
		w := discovery.NewWatcherWithRandom(b.resolve, 0, got.publish, func() float64 { return 0 })
		defer w.Close()
		w.Set([]string{"db"})
		time.Sleep(61 * time.Second) // asked at 0, 30 and 60 s
		b.set(found(time.Second, "10.0.0.1"), nil)
		time.Sleep(31*time.Second + 500*time.Millisecond) // 90, 91, 92 s
		b.set(discovery.Answer{}, errNoHost)
		time.Sleep(7 * time.Second) // 93, 93.9, 95.7, 99.3 s: the pauses of failures
		want := []time.Duration{0, 30, 60, 90, 91, 92, 93}
		for i := range want {
			want[i] *= time.Second
		}
		want = append(want, 93900*time.Millisecond, 95700*time.Millisecond, 99300*time.Millisecond)
		if got := b.times(); !slices.Equal(got, want) {
			t.Errorf("asked at %v, want %v", got, want)
		}
		got.expect(t, "db[10.0.0.1]", "db[10.0.0.1] !")
	})
}

// Missing addresses stay, and those of the other family are updated.
func TestWatcherKeepsWhatIsMissing(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := &book{start: time.Now()}
		silent := errors.New("no answer")
		b.set(discovery.Missing(found(10*time.Second, "10.0.0.1"), "db", true, silent), nil)
		var got news
		w := discovery.NewWatcherWithRandom(b.resolve, 0, got.publish, middle)
		defer w.Close()
		w.Set([]string{"db"})
		w.WaitFirst(t.Context())
		got.expect(t, "db[10.0.0.1] ?")
		b.set(found(10*time.Second, "10.0.0.1 fd00::1"), nil)
		time.Sleep(2 * time.Second) // it is asked for soon
		got.expect(t, "db[10.0.0.1 fd00::1]")
		b.set(discovery.Missing(found(10*time.Second, "10.0.0.2"), "db", true, silent), nil)
		time.Sleep(5 * time.Minute)
		got.expect(t, "db[10.0.0.2 fd00::1] ?")
		b.set(discovery.Missing(found(10*time.Second, "fd00::2"), "db", false, silent), nil)
		time.Sleep(15 * time.Second)
		got.expect(t, "db[10.0.0.2 fd00::2] ?")
		if n := len(b.times()); n > 40 {
			t.Errorf("asked %d times in 5 minutes for a family that nobody answers for", n)
		}
		b.set(found(10*time.Second, "fd00::2"), nil)
		time.Sleep(15 * time.Second)
		got.expect(t, "db[fd00::2]")
	})
}

// A thousand failing names are not looked up a thousand times a second.
func TestWatcherSparesAServerThatIsGone(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		n := 1000
		if race.Enabled {
			n = 600
		}
		b := &book{start: time.Now()}
		b.set(discovery.Answer{}, errNoHost)
		var hosts []string
		for i := range n {
			hosts = append(hosts, fmt.Sprintf("h%d", i))
		}
		var got news
		w := discovery.NewWatcherWithRandom(b.resolve, 0, got.publish, rand.Float64)
		defer w.Close()
		w.Set(hosts)
		time.Sleep(31 * time.Second)
		if asked := len(b.times()); asked < 3*n || asked > 5*n {
			t.Errorf("asked %d times in 31 s for %d names, want about 4 times for each", asked, n)
		}
	})
}

// Names without an answer delay others only for a moment, and have the whole time of the resolver.
func TestWatcherSlowNamesMakeRoom(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		z := &zone{records: make(map[string]string), silent: make(map[string]bool)}
		var hosts, want []string
		for i := range 100 {
			hosts = append(hosts, fmt.Sprintf("mute%d", i), fmt.Sprintf("good%d", i))
			z.silent[hosts[2*i]] = true
			z.records[hosts[2*i+1]] = "10.0.0.1"
			want = append(want, hosts[2*i+1]+"[10.0.0.1]")
		}
		var got news
		w := discovery.NewWatcher(discovery.Resolver{Lookup: z}, time.Hour, got.publish)
		defer w.Close()
		w.Set(hosts)
		time.Sleep(30 * time.Second)
		got.mu.Lock()
		good, crowded := got.all[:0:0], 0
		for _, word := range got.all {
			if strings.HasSuffix(word, "!") {
				crowded++
			} else {
				good = append(good, word)
			}
		}
		got.all = good
		got.mu.Unlock()
		slices.Sort(want)
		got.expect(t, want...)
		z.mu.Lock()
		defer z.mu.Unlock()
		if crowded != 100-discovery.MaxSlow || z.most > discovery.MaxInFlight+discovery.MaxSlow {
			t.Errorf("%d names are given up, want all but the slow ones; %d look-ups at once", crowded, z.most)
		}
	})
}
