package flow

import "fmt"

// MustHold ends the program where an invariant does not hold, if they are checked.
func MustHold(x interface{ CheckInvariants() error }) {
	if !checking {
		return
	}
	if err := x.CheckInvariants(); err != nil {
		panic(fmt.Sprintf("%T: %v", x, err))
	}
}

// CheckInvariants says what must hold of a flow between two reports, and does not.
func (f *Flow) CheckInvariants() error {
	if err := f.checkOwn(); err != nil {
		return err
	}
	q := f.Settings.queue
	if err := q.CheckInvariants(); err != nil || f.phase == waiting || f.ticket == nil {
		return err
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	if f.ticket.state != outside {
		return fmt.Errorf("phase %d, and the ticket is %d", f.phase, f.ticket.state)
	}
	return nil
}

// checkOwn is CheckInvariants without the queue.
func (f *Flow) checkOwn() error {
	isTrying := f.phase == connecting && f.tries > 0
	switch {
	case f.holding != (isTrying || f.phase == relaying):
		return fmt.Errorf("phase %d after %d tries, and a backend is reserved: %v", f.phase, f.tries, f.holding)
	case f.holding && f.backend == nil:
		return fmt.Errorf("the reserved backend is nil")
	case f.phase == connecting && f.attempt > f.budget:
		return fmt.Errorf("the attempt may take until %v, all of them until %v", f.attempt, f.budget)
	case f.redial > f.attempt || f.redial > 0 && f.phase != connecting:
		return fmt.Errorf("phase %d, again at %v of an attempt until %v", f.phase, f.redial, f.attempt)
	case f.portless > f.tries || f.step > f.tries:
		return fmt.Errorf("%d tries, %d of them since the hold, %d without a port", f.tries, f.step, f.portless)
	case f.fins&^f.finished != 0:
		return fmt.Errorf("FINs %b passed on, %b received", f.fins, f.finished)
	case f.phase != greeting && f.needs != 0:
		return fmt.Errorf("phase %d, and it needs %b", f.phase, f.needs)
	case f.isHeld && f.phase != silent:
		return fmt.Errorf("phase %d, and it is held", f.phase)
	case f.phase != relaying && f.phase != silent && f.idle.marked:
		return fmt.Errorf("phase %d, marked as idle", f.phase)
	case f.phase != relaying && (f.fins != 0 || f.IsDelivering()):
		return fmt.Errorf("phase %d, FINs %b, delivering: %v", f.phase, f.fins, f.IsDelivering())
	case f.IsDelivering() && !f.HasReceivedFIN(f.failedSide):
		return fmt.Errorf("side %d has failed before its FIN and is delivered", f.failedSide)
	}
	return nil
}

// CheckInvariants says what must hold of the places while no flow comes or goes, and does not.
func (a *Admission) CheckInvariants() error {
	if a.Open.Load() > 0 {
		return nil
	}
	if places, ports := a.places.used.Load(), a.ports.used.Load(); places != 0 || ports != 0 {
		return fmt.Errorf("no flow is left, and %d shared places and %d shared ports are taken", places, ports)
	}
	return nil
}

// CheckInvariants says what must hold of a queue, and does not.
func (q *queue) CheckInvariants() error {
	q.mu.Lock()
	defer q.mu.Unlock()
	inside, last := int64(0), (*ticket)(nil)
	for t := q.first; t != nil; last, t = t, t.next {
		if inside++; t.state != inLine || t.prev != last {
			return fmt.Errorf("the ticket number %d is %d, and not behind the one before", inside, t.state)
		}
	}
	switch n := q.n.Load(); {
	case last != q.last:
		return fmt.Errorf("the last of %d tickets is another one", inside)
	case n < inside:
		return fmt.Errorf("%d in line, of %d in all", inside, n)
	case q.missed && (inside > 0 || n == 0):
		return fmt.Errorf("room was missed with %d in line, %d in all", inside, n)
	}
	return nil
}

// CheckInvariants says what must hold of a worker's sessions between two reports, and does
// not.
func (m *Sessions) CheckInvariants() error {
	live, listed := 0, 0
	for _, chunk := range m.slots {
		for i := range chunk {
			x := &chunk[i]
			if x.Service == nil {
				continue
			}
			live++
			if id, ok := m.once[onceKey{x.ent.Key(), x.backend}]; ok && id == x.ID {
				listed++
			}
			if err := x.CheckInvariants(); err != nil {
				return fmt.Errorf("session of %v with %v: %w", x.Client, x.backend, err)
			}
		}
	}
	switch {
	case live != m.table.Len():
		return fmt.Errorf("%d sessions, %d rows", live, m.table.Len())
	case listed != len(m.once):
		return fmt.Errorf("%d sessions get the next datagram of their clients, %d are listed", listed, len(m.once))
	}
	return nil
}

func (x *Session) CheckInvariants() error {
	switch k := &x.kept; {
	case x.backend == nil || x.ent.Backend() != x.backend || x.ent.Service() != x.Service:
		return fmt.Errorf("its row is of %v", x.ent.Backend())
	case !x.Settings.UDP.OnePacket && x.places != 1 || x.places < 0 || x.stale < 0 || x.stale > x.places:
		return fmt.Errorf("%d reservations, %d of them old", x.places, x.stale)
	case x.asked < 0 || x.replies < 0:
		return fmt.Errorf("%d datagrams asked, %d replies", x.asked, x.replies)
	case k.datagrams < 0 || k.bytes < 0 || k.copies < 0 || k.used < 0 || k.used > resendMost:
		return fmt.Errorf("%d datagrams of %d bytes may be refused, %d copies in %d bytes", k.datagrams, k.bytes, k.copies, k.used)
	}
	return nil
}
