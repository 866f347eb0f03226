package discovery

import (
	"context"
	"maps"
	"math/rand/v2"
	"net/netip"
	"slices"
	"sync"
	"time"
)

const (
	// DefaultInterval is the time between two lookups of a name that resolves.
	DefaultInterval = 10 * time.Second
	// firstRetry follows the first failure; each one after it doubles the
	// pause, up to the interval.
	firstRetry = time.Second
	// maxInFlight bounds the lookups that one Watcher has under way, and so
	// the load on name servers and the descriptors in use.
	maxInFlight = 16
)

// Publish is told the addresses of a host when it first resolves, and when
// they change; and that it does not resolve (err is not nil) when that
// begins, with the last addresses that were known, or none. The end of such
// a time is news too, even with the addresses unchanged. Addrs is in the form
// that [Resolver.Addrs] gives it, and must not be modified.
//
// Calls come one at a time, from the watcher's goroutines. A Publish must not
// call back into its Watcher.
type Publish func(host string, addrs []netip.Addr, err error)

// Watcher keeps a changing set of names resolved until it is closed. All
// methods may be called by any goroutine.
type Watcher struct {
	resolver Resolver
	interval time.Duration
	publish  Publish
	random   func() float64 // uniform in [0, 1), called by all names

	slots chan struct{} // one element for each lookup in flight
	names sync.WaitGroup

	// mu serialises publishing too: a name's context is cancelled under it,
	// so that nothing is published of a name that Set has removed.
	mu     sync.Mutex
	active map[string]*name
	closed bool
}

// name is one host being watched.
type name struct {
	host   string
	first  chan struct{} // closed after the first answer is published, or at the end
	ctx    context.Context
	cancel context.CancelFunc
}

// NewWatcher returns a Watcher that has nothing to do until [Watcher.Set]. An
// interval of zero or less means DefaultInterval.
func NewWatcher(r Resolver, interval time.Duration, publish Publish) *Watcher {
	return newWatcher(r, interval, publish, rand.Float64)
}

// newWatcher takes the randomness that spreads lookups over time.
func newWatcher(r Resolver, interval time.Duration, publish Publish, random func() float64) *Watcher {
	if interval <= 0 {
		interval = DefaultInterval
	}
	return &Watcher{
		resolver: r,
		interval: interval,
		publish:  publish,
		random:   random,
		slots:    make(chan struct{}, maxInFlight),
		active:   make(map[string]*name),
	}
}

// Set replaces the names. Those that stay go on as they were, new ones are
// looked up at once, and nothing more is published of those gone after Set
// has returned. On a closed Watcher Set does nothing.
func (w *Watcher) Set(hosts []string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.closed {
		return
	}
	wanted := make(map[string]bool, len(hosts))
	for _, h := range hosts {
		wanted[h] = true
	}
	for h, n := range w.active {
		if !wanted[h] {
			n.cancel()
			delete(w.active, h)
		}
	}
	for h := range wanted {
		if w.active[h] != nil {
			continue
		}
		n := &name{host: h, first: make(chan struct{})}
		n.ctx, n.cancel = context.WithCancel(context.Background())
		w.active[h] = n
		w.names.Go(func() { w.watch(n) })
	}
}

// WaitFirst returns when the first answer for every name has been published,
// good or bad, or when ctx ends: a name server that keeps silent holds up a
// start no longer than ctx allows, and is heard later.
func (w *Watcher) WaitFirst(ctx context.Context) {
	w.mu.Lock()
	names := slices.Collect(maps.Values(w.active))
	w.mu.Unlock()
	for _, n := range names {
		select {
		case <-n.first:
		case <-ctx.Done():
			return
		}
	}
}

// Close stops all lookups and waits for the watcher's goroutines. After it,
// nothing is published.
func (w *Watcher) Close() {
	w.mu.Lock()
	w.closed = true
	for _, n := range w.active {
		n.cancel()
	}
	clear(w.active)
	w.mu.Unlock()
	w.names.Wait()
}

// watch looks one name up until it is cancelled.
func (w *Watcher) watch(n *name) {
	known := sync.OnceFunc(func() { close(n.first) })
	defer known()

	var last answer
	timer := time.NewTimer(0) // the first lookup is due now
	defer timer.Stop()
	for {
		select {
		case <-timer.C:
		case <-n.ctx.Done():
			return
		}
		select {
		case w.slots <- struct{}{}:
		case <-n.ctx.Done():
			return
		}
		addrs, err := w.resolver.Addrs(n.ctx, n.host)
		<-w.slots
		if last.update(addrs, err) {
			w.tell(n, last.addrs, err)
		}
		known()
		timer.Reset(w.jittered(last.pause(w.interval)))
	}
}

// tell publishes, unless the name has been cancelled. A lookup that failed
// because of that is not published either.
func (w *Watcher) tell(n *name, addrs []netip.Addr, err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if n.ctx.Err() == nil {
		w.publish(n.host, addrs, err)
	}
}

// jittered is uniform in [0.9, 1.1) times d.
func (w *Watcher) jittered(d time.Duration) time.Duration {
	return time.Duration((0.9 + 0.2*w.random()) * float64(d))
}

// answer is what is known of one name. Zero: never asked.
type answer struct {
	addrs    []netip.Addr // of the last lookup that succeeded
	failures int          // in a row, up to now
}

// update takes in the result of a lookup and reports whether it is news.
func (a *answer) update(addrs []netip.Addr, err error) bool {
	if err != nil {
		a.failures++
		return a.failures == 1
	}
	news := a.failures > 0 || !slices.Equal(a.addrs, addrs)
	a.addrs, a.failures = addrs, 0
	return news
}

// pause is how long to wait for the next lookup.
func (a *answer) pause(interval time.Duration) time.Duration {
	if a.failures == 0 {
		return interval
	}
	pause := firstRetry
	for i := 1; i < a.failures && pause < interval; i++ {
		pause *= 2
	}
	return min(pause, interval)
}
