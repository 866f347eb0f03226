package flow

import (
	"fmt"
	"sync/atomic"
)

// quota divides places among services. Each has a reserve that others cannot take; what
// is beyond all reserves is shared. The nth flow of a service takes a shared place if n
// is above its reserve, and the nth gives one back when it ends.
type quota struct {
	shared atomic.Int64
	used   atomic.Int64 // of the shared ones; above them after they have become fewer, and while somebody finds them full
	steps  atomic.Int64 // of lower and raise
}

// share is what a service has of a quota: the number of its flows, and above that its
// reserve. They are one word, so that they change together: each change of one of them
// shows how many flows are beyond the reserve from then on.
type share struct{ word atomic.Uint64 }

const reserveShift = 32

// unbounded is a number of flows that nobody has.
const unbounded = 1<<(64-reserveShift-1) - 1

func (s *share) flows() int64   { return int64(s.word.Load() & (1<<reserveShift - 1)) }
func (s *share) reserve() int64 { return int64(s.word.Load() >> reserveShift) }

// add changes the number of flows, and returns it with the reserve.
func (s *share) add(flows int64) (n, reserve int64) {
	w := s.word.Add(uint64(flows))
	return int64(w & (1<<reserveShift - 1)), int64(w >> reserveShift)
}

// isBeyond reports whether there are more flows than the reserve.
func (s *share) isBeyond() bool {
	n, reserve := s.add(0)
	return n > reserve
}

// enter takes a place for one more flow of a service, and reports whether there is one. If
// not, the flow has to leave all the same: another one may have left as the nth meanwhile,
// and given back what this one took.
func (q *quota) enter(s *share) (n int64, ok bool) {
	n, reserve := s.add(1)
	return n, n <= reserve || q.used.Add(1) <= q.shared.Load() || q.hasRoom()
}

// hasRoom reports whether the places in use, one more flow's included, are not too many. What it compares may be from
// before some steps and after others, so it looks again if there was one.
func (q *quota) hasRoom() bool {
	for {
		step := q.steps.Load()
		if q.used.Load() <= q.shared.Load() {
			return true
		}
		if q.steps.Load() == step {
			return false
		}
	}
}

// leave gives back a place.
func (q *quota) leave(s *share) {
	if n, reserve := s.add(-1); n >= reserve {
		q.used.Add(-1)
	}
}

// isFull reports whether one more flow of a service would find no place.
func (q *quota) isFull(s *share) bool {
	n, reserve := s.add(0)
	return n >= reserve && q.used.Load() >= q.shared.Load()
}

// setReserve changes a reserve while flows come and go. One goroutine at a time may.
func (q *quota) setReserve(s *share, reserve int64) {
	before := s.reserve()
	if reserve == before {
		return
	}
	n := int64(s.word.Add(uint64(reserve-before)<<reserveShift) & (1<<reserveShift - 1))
	q.used.Add(max(n-reserve, 0) - max(n-before, 0))
}

// lower has a service share a part of its reserve. A part of what is free moves at a time, half of it at most: the next
// client finds a place, and no place is in both. Where a place is taken, another one is free in the meantime.
func (q *quota) lower(s *share, to int64) {
	for {
		n, reserve := s.add(0)
		some := reserve - to
		if free := reserve - max(n, to); free > 1 {
			some = free / 2
		} else if free := q.shared.Load() - q.used.Load(); free > 1 {
			some = min(some, free/2)
		}
		if some <= 0 {
			return
		}
		q.steps.Add(1)
		q.setReserve(s, reserve-some)
		q.shared.Add(some)
	}
}

// raise gives a service a part of the shared places as its reserve, in the manner of lower. What is unbounded takes none.
func (q *quota) raise(s *share, to int64) {
	if to == unbounded {
		q.setReserve(s, to)
		return
	}
	for {
		some := to - s.reserve()
		if free := q.shared.Load() - q.used.Load(); free > 1 {
			some = min(some, free/2)
		}
		if some <= 0 {
			return
		}
		q.steps.Add(1)
		q.shared.Add(-some)
		q.setReserve(s, s.reserve()+some)
	}
}

// ReserveError says that services reserve more flows than there may be.
type ReserveError struct{ Reserved, Most int64 }

func (e *ReserveError) Error() string {
	return fmt.Sprintf("the reserves of services add up to %d flows, and there may be %d", e.Reserved, e.Most)
}

// reserves divides places among services. One that asks for a number has that. Half of
// what is left is divided evenly among the others, or all of it if there is but one
// service; none is given more than the most that it can use.
func reserves(places int64, asked, most []int64) (each []int64, shared int64, err error) {
	rest, others := places, int64(0)
	for _, n := range asked {
		rest -= n
		if n == 0 {
			others++
		}
	}
	if rest < 0 {
		return nil, 0, &ReserveError{places - rest, places}
	}
	even := rest / 2 / max(others, 1)
	if len(asked) == 1 {
		even = rest
	}
	each = make([]int64, len(asked))
	shared = places
	for i, n := range asked {
		if n == 0 {
			n = min(even, most[i])
		}
		each[i] = n
		shared -= n
	}
	return each, shared, nil
}

// Division is how the places of a server and its local ports are divided among services,
// which all its slices are parallel to.
type Division struct {
	services            []*Settings
	places              int64
	shared, sharedPorts int64
	reserves, ports     []int64
	arePortsShort       bool // else each service has any number
	most, clientMost    []int64
	evicts              bool
}

// DividesAs reports whether a Division gives a service the same with these settings as with
// others.
func (s *Settings) DividesAs(other *Settings) bool {
	if s.IsUDP() != other.IsUDP() || s.Reserve != other.Reserve || (s.ReclaimIdle > 0) != (other.ReclaimIdle > 0) {
		return false
	}
	return s.UDP.MaxFlows == other.UDP.MaxFlows && s.UDP.MaxClientFlows == other.UDP.MaxClientFlows
}

// Divide gives services their parts of a server's places, and those of udp their parts of
// the local ports, if there are fewer of those; zero is unknown.
func Divide(services []*Settings, places, ports int64) (*Division, error) {
	n := len(services)
	d := &Division{services: services, places: places, ports: make([]int64, n), most: make([]int64, n), clientMost: make([]int64, n)}
	asked, most := make([]int64, n), make([]int64, n)
	var datagrams []int
	var askedPorts, mostPorts []int64
	for i, c := range services {
		d.evicts = d.evicts || c.IsUDP() || c.ReclaimIdle > 0
		asked[i], most[i], d.ports[i] = int64(c.Reserve), unbounded, unbounded
		if c.IsUDP() {
			if c.UDP.MaxFlows > 0 {
				most[i] = int64(c.UDP.MaxFlows)
			}
			datagrams = append(datagrams, i)
			askedPorts, mostPorts = append(askedPorts, asked[i]), append(mostPorts, most[i])
		}
	}
	var err error
	if d.reserves, d.shared, err = reserves(places, asked, most); err != nil {
		return nil, err
	}
	for i := range services {
		d.most[i] = min(most[i], d.reserves[i]+d.shared)
	}
	if ports > 0 && ports < places {
		each, shared, err := reserves(ports, askedPorts, mostPorts)
		if err != nil {
			return nil, fmt.Errorf("local ports for udp: %w", err)
		}
		d.sharedPorts, d.arePortsShort = shared, true
		for k, i := range datagrams {
			d.ports[i] = each[k]
			d.most[i] = min(d.most[i], each[k]+shared)
		}
	}
	for _, i := range datagrams {
		d.clientMost[i] = int64(clientShare(services[i].UDP.MaxClientFlows, d.most[i]))
	}
	return d, nil
}

// Redivide puts a division into effect while flows come and go. Those that live now count;
// where there are more than may be, no more are let in. What shrinks does so first, so
// that no place is given away twice. Meanwhile no client is turned away for which there is
// a place before and after.
func (a *Admission) Redivide(d *Division, removed []*Service) {
	if more := d.places - a.maxConns.Load(); more > 0 {
		a.maxConns.Add(more)
		a.places.shared.Add(more)
	}
	for _, svc := range removed {
		a.places.lower(&svc.places, 0)
		if d.arePortsShort {
			a.ports.lower(&svc.ports, 0)
		} else {
			a.ports.raise(&svc.ports, unbounded)
		}
	}
	for i, c := range d.services {
		a.places.lower(&c.Service.places, d.reserves[i])
		a.ports.lower(&c.Service.ports, d.ports[i])
	}
	for i, c := range d.services {
		svc := c.Service
		a.places.raise(&svc.places, d.reserves[i])
		a.ports.raise(&svc.ports, d.ports[i])
		svc.most.Store(d.most[i])
		svc.clientMost.Store(d.clientMost[i])
	}
	a.maxConns.Store(d.places)
	a.places.shared.Store(d.shared)
	a.ports.shared.Store(d.sharedPorts)
	a.evicts.Store(d.evicts)
}

// leastClientShare is what one address may have of a service however small that is.
const leastClientShare = 64

// clientShare is how many flows one client address may have of a service that may have
// most of them; zero is any number. By default it is half of them: many clients may be
// behind one address, but others must find room beside it.
func clientShare(wanted int, most int64) int {
	share := int64(wanted)
	if wanted == 0 {
		share = max(most/2, leastClientShare)
	}
	if share < 0 || share >= most {
		return 0
	}
	return int(share)
}

// Shares returns how many flows of the service others cannot keep it from having, and
// the most that it may have.
func (s *Service) Shares() (reserve, most int64) {
	return min(s.places.reserve(), s.ports.reserve()), s.most.Load()
}

// ClientShare returns how many flows one client address may have of a udp service; zero
// is any number.
func (s *Service) ClientShare() int { return int(s.clientMost.Load()) }
