package balancer

import (
	"fmt"
	"net/netip"
	"testing"
	"time"
)

// plainDestinations is the rule as a list in the order of last use.
type plainDestinations struct {
	uses []plainUse // of one destination the last counts
	last map[netip.Addr]plainUse
	n    int
	now  time.Duration
}

type plainUse struct {
	addr netip.Addr
	at   time.Duration
	n    int
}

func (m *plainDestinations) advance(now time.Duration) {
	m.now = max(m.now, now)
	for removed := 0; removed < 2 && len(m.uses) > 0; {
		first := m.uses[0]
		if m.last[first.addr] != first {
			m.uses = m.uses[1:]
			continue
		}
		idle := m.now - first.at
		if idle < 24*time.Hour && (len(m.last) <= 16384 || idle < 6*time.Minute) {
			return
		}
		delete(m.last, first.addr)
		removed++
	}
}

func (m *plainDestinations) touch(a netip.Addr) {
	m.n++
	m.last[a] = plainUse{a, m.now, m.n}
	m.uses = append(m.uses, m.last[a])
}

func (m *plainDestinations) use(a netip.Addr) bool {
	last, ok := m.last[a]
	if ok && m.now-last.at >= 24*time.Hour {
		delete(m.last, a)
		return false
	}
	if ok {
		m.touch(a)
	}
	return ok
}

func (m *plainDestinations) add(a netip.Addr) bool {
	if len(m.last) >= 24576 {
		return false
	}
	m.touch(a)
	return true
}

// TestDestinationsEqualPlain with few and with many destinations, and steps of time from
// none to a day.
func TestDestinationsEqualPlain(t *testing.T) {
	t.Parallel()
	ofOneGoroutine(t)
	rnd := newRand(t)
	for _, of := range []int{1, 10, 1000, 20_000, 60_000} {
		d := newDestinations[netip.Addr]()
		m := &plainDestinations{last: map[netip.Addr]plainUse{}}
		now, step := time.Duration(0), time.Duration(0)
		most := 0
		steps := 40_000
		if of == 60_000 {
			steps = 150_000 // enough for too many, whatever the steps of time are
		}
		for i := range steps {
			if i%10_000 == 0 {
				step = []time.Duration{0, 1e6, 10e6, 60e6, 1e9, 60e9}[rnd.IntN(6)]
			}
			if step > 0 {
				now += time.Duration(rnd.Int64N(int64(step)))
			}
			if rnd.IntN(10_000) == 0 {
				now += time.Duration(rnd.Int64N(int64(25 * time.Hour)))
			}
			clock := now - time.Duration(rnd.IntN(1000)) // of different flows
			a := ipv4(uint32(rnd.IntN(of)))
			d.advance(clock)
			m.advance(clock)
			e, known := d.use(a), m.use(a)
			if (e != nil) != known || known && (e.value != a || e.used != m.now) {
				t.Fatalf("%d destinations, step %d: %v is %+v, want known %v", of, i, a, e, known)
			}
			if !known {
				e, added := d.add(a), m.add(a)
				if (e != nil) != added {
					t.Fatalf("%d destinations, step %d: added %v, want %v", of, i, e != nil, added)
				}
				if added {
					e.value = a
				}
			}
			if d.n != len(m.last) {
				t.Fatalf("%d destinations, step %d: %d entries, want %d", of, i, d.n, len(m.last))
			}
			most = max(most, d.n)
		}
		if err := d.check(); err != nil {
			t.Error(err)
		}
		if of == 60_000 && most <= destinationsFull {
			t.Errorf("there were never more than %d entries", most)
		}
	}
}

// check says what is wrong with the links.
func (d *destinations[T]) check() error {
	free := 0
	for e := d.free; e != nil; e = e.chain {
		free++
	}
	if (free+d.n)%destinationChunk != 0 || free+d.n > destinationsMost {
		return fmt.Errorf("%d entries in use and %d free", d.n, free)
	}
	chained := 0
	for i := range d.buckets {
		for e := d.buckets[i]; e != nil; e = e.chain {
			chained++
			if d.bucket(&e.key) != &d.buckets[i] {
				return fmt.Errorf("%v is in the wrong bucket", e.key)
			}
		}
	}
	listed := 0
	for e := d.oldest; e != nil; e = e.newer {
		listed++
		if e.newer == nil && e != d.newest || e.newer != nil && (e.newer.older != e || e.newer.used < e.used) {
			return fmt.Errorf("%v is out of order", e.key)
		}
	}
	if chained != d.n || listed != d.n {
		return fmt.Errorf("%d entries, %d chained, %d listed", d.n, chained, listed)
	}
	return nil
}

func TestDestinationsAddresses(t *testing.T) {
	t.Parallel()
	d := newDestinations[int]()
	for i, same := range [][]netip.Addr{
		{{}},
		{netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("::ffff:192.0.2.1")},
		{netip.MustParseAddr("192.0.2.2")},
		{netip.MustParseAddr("fe80::1"), netip.MustParseAddr("fe80::1%eth0"), netip.MustParseAddr("fe80::1%eth1")},
	} {
		if d.use(same[0]) != nil && same[0].IsValid() {
			t.Errorf("%v is another's", same[0])
		}
		d.add(same[0]).value = i
		for _, a := range same {
			if e := d.use(a); e == nil || e.value != i {
				t.Errorf("%v is not %v", a, same[0])
			}
		}
	}
}
