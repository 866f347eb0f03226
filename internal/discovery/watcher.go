package discovery

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

const (
	// defaultInterval is the time between two lookups of a name whose TTL is unknown.
	defaultInterval = 10 * time.Second
	// firstRetry follows the first failure. Each further one doubles the pause, up to
	// that after a good answer.
	firstRetry = time.Second
	// maxInFlight bounds the lookups in flight of one Watcher. A lookup that takes longer
	// than slowAfter leaves its slot and becomes one of at most maxSlow. It is cancelled
	// if there are as many already.
	maxInFlight = 16
	maxSlow     = 6
	slowAfter   = 2 * time.Second
	// minRetryGap is the least mean time between two retries of failing names. When a
	// name server goes, there may be thousands.
	minRetryGap = 20 * time.Millisecond
)

var errTooManySlow = errors.New("no answer yet, and too many others wait for theirs")

// Update is a change of a name: other records, an error, or a missing part.
type Update struct {
	Name    string
	Records []Record // the last known ones; sorted, read-only
	Err     error    // it does not resolve
	Missing error    // see Answer
}

// OnUpdate receives changes of names: the first answer, other records, an error and
// its end, a missing part and its end.
//
// Calls come from the watcher's goroutines, concurrently for different names, one at a
// time for each. No lock is held, but an OnUpdate must not call Set or Close, which wait
// for it.
type OnUpdate func(Update)

// Watcher keeps a changing set of names resolved until it is closed. All methods are
// safe for concurrent use.
type Watcher struct {
	resolve  func(ctx context.Context, name string) (Answer, error)
	interval time.Duration
	onUpdate OnUpdate
	random   func() float64 // uniform in [0, 1), safe for concurrent use

	slots chan struct{} // one element for each lookup in flight
	slow  chan struct{} // one element for each that has left slots
	names sync.WaitGroup

	failing atomic.Int64 // names that do not resolve

	mu       sync.Mutex // never held during an update
	active   map[string]*name
	known    map[string]Update // of names that are to be watched; see Know
	isClosed bool
}

// name is one name being watched. Its context is cancelled, and its updates begin, under
// the watcher's mu: once Set has waited for them, none follows.
type name struct {
	host    string
	state   nameState
	first   chan struct{} // closed after the first update, or at the end
	ctx     context.Context
	cancel  context.CancelFunc
	updates sync.WaitGroup
}

// NewWatcher returns a Watcher that has nothing to do until [Watcher.Set]. An interval
// of zero or less means 10 s.
func NewWatcher(r Resolver, interval time.Duration, onUpdate OnUpdate) *Watcher {
	return newWatcher(r.shared().Resolve, interval, onUpdate, rand.Float64)
}

func newWatcher(resolve func(context.Context, string) (Answer, error), interval time.Duration, onUpdate OnUpdate, random func() float64) *Watcher {
	if interval <= 0 {
		interval = defaultInterval
	}
	return &Watcher{
		resolve:  resolve,
		interval: interval,
		onUpdate: onUpdate,
		random:   random,
		slots:    make(chan struct{}, maxInFlight),
		slow:     make(chan struct{}, maxSlow),
		active:   make(map[string]*name),
	}
}

// Set replaces the names, of hosts or SRV record sets. Those that stay keep their state.
// New ones are looked up at once. No update of a removed one comes after Set has
// returned. On a closed Watcher Set does nothing.
func (w *Watcher) Set(hosts []string) {
	for _, n := range w.replace(hosts) {
		n.updates.Wait()
	}
}

// Know has a name that is given to Set later begin with a former answer: only what differs
// from it is an update, and WaitFirst does not wait for it.
func (w *Watcher) Know(u Update) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.known == nil {
		w.known = make(map[string]Update)
	}
	w.known[u.Name] = u
}

// replace returns the names that are gone.
func (w *Watcher) replace(hosts []string) (gone []*name) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.isClosed {
		return nil
	}
	wanted := make(map[string]bool, len(hosts))
	for _, h := range hosts {
		wanted[h] = true
	}
	for h, n := range w.active {
		if !wanted[h] {
			n.cancel()
			delete(w.active, h)
			gone = append(gone, n)
		}
	}
	for h := range wanted {
		if w.active[h] != nil {
			continue
		}
		n := &name{host: h, first: make(chan struct{})}
		n.ctx, n.cancel = context.WithCancel(context.Background())
		if u, is := w.known[h]; is {
			n.begin(u)
		}
		w.active[h] = n
		w.names.Go(func() { w.watch(n) })
	}
	w.known = nil
	return gone
}

// begin has a name go on from a former answer.
func (n *name) begin(u Update) {
	n.state = nameState{records: u.Records}
	if u.Err != nil {
		n.state.failures = 1
	}
	close(n.first)
}

// WaitFirst waits for the first update of each name, or until ctx ends.
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

// Close stops all lookups and waits for the watcher's goroutines. No update follows.
func (w *Watcher) Close() {
	w.mu.Lock()
	w.isClosed = true
	for _, n := range w.active {
		n.cancel()
	}
	clear(w.active)
	w.mu.Unlock()
	w.names.Wait()
}

// watch looks one name up until it is cancelled.
func (w *Watcher) watch(n *name) {
	first := sync.OnceFunc(func() { close(n.first) })
	select {
	case <-n.first:
		first = func() {} // it is known
	default:
	}
	defer func() { first() }()

	state := n.state
	w.failing.Add(state.failing())
	defer func() { w.failing.Add(-state.failing()) }()
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
		answer, err := w.lookup(n)
		before := state.failing()
		if state.update(answer, err) {
			w.publish(n, Update{Name: n.host, Records: state.records, Err: err, Missing: state.missing})
		}
		first()
		minRetry := time.Duration(w.failing.Add(state.failing()-before)) * minRetryGap
		timer.Reset(state.pause(w.interval, minRetry, w.random()))
	}
}

// lookup makes one lookup. The caller has taken a slot, which it gives back.
func (w *Watcher) lookup(n *name) (Answer, error) {
	ctx, cancel := context.WithCancelCause(n.ctx)
	defer cancel(nil)
	slot, moved := w.slots, make(chan chan struct{}, 1)
	late := time.AfterFunc(slowAfter, func() {
		select {
		case w.slow <- struct{}{}:
			<-w.slots
			moved <- w.slow
		default:
			cancel(errTooManySlow)
			moved <- w.slots
		}
	})
	answer, err := w.resolve(ctx, n.host)
	if !late.Stop() {
		slot = <-moved
	}
	<-slot
	if err != nil && context.Cause(ctx) == errTooManySlow {
		err = fmt.Errorf("lookup %s: %w", n.host, errTooManySlow)
	}
	return answer, err
}

// publish reports an update, unless the name is cancelled.
func (w *Watcher) publish(n *name, u Update) {
	w.mu.Lock()
	if n.ctx.Err() != nil {
		w.mu.Unlock()
		return
	}
	n.updates.Add(1)
	w.mu.Unlock()
	defer n.updates.Done()
	w.onUpdate(u)
}

// nameState is what is known of a name, without clock or socket. Zero: never asked.
type nameState struct {
	records  []Record      // of the last answer, and former ones of its missing parts
	ttl      time.Duration // of the last answer, 0: unknown
	missing  error         // of the last answer
	failures int           // in a row
	partial  int           // answers in a row with a missing part
}

// update takes the result of a lookup and returns whether it is a change. Parts about
// which an answer says nothing stay as they were.
func (k *nameState) update(a Answer, err error) (hasChanged bool) {
	if err != nil {
		k.failures++
		return k.failures == 1
	}
	a.keepMissing(k.records)
	hasChanged = k.failures > 0 || !slices.Equal(k.records, a.Records) || (k.missing == nil) != (a.Missing == nil)
	k.records, k.ttl, k.missing, k.failures = a.Records, a.TTL, a.Missing, 0
	k.partial++
	if a.Missing == nil {
		k.partial = 0
	}
	return hasChanged
}

// failing returns 1 for a name that does not resolve, else 0.
func (k *nameState) failing() int64 { return int64(min(k.failures, 1)) }

// pause returns the time to the next lookup; after a failure at least minRetry, if the
// interval allows. Jitter of 10 % keeps names from falling into step. It never shortens
// a TTL: caches would return the same answer.
func (k *nameState) pause(interval, minRetry time.Duration, random float64) time.Duration {
	d, jitter := interval, 0.9+0.2*random
	if k.ttl > 0 {
		d = k.ttl
	}
	switch {
	case k.failures > 0:
		d = min(max(backoff(max(k.failures, k.partial), interval), minRetry), interval)
	case k.partial > 0:
		d = backoff(k.partial, d)
	case k.ttl > 0:
		jitter = 1 + 0.1*random
	}
	return time.Duration(jitter * float64(d))
}

// backoff returns the pause after a number of failed tries, up to limit.
func backoff(tries int, limit time.Duration) time.Duration {
	pause := firstRetry
	for i := 1; i < tries && pause < limit; i++ {
		pause *= 2
	}
	return min(pause, limit)
}
