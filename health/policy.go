package health

import "time"

// Policy says how often and how patiently targets are checked. A field that is zero or
// negative takes the value of [DefaultPolicy].
type Policy struct {
	// Time from the start of one check of a target to the start of the next: while the
	// target is up; while it is down; while results contradict its state without
	// changing it yet. The last two default to Interval. A check that takes longer
	// delays the next one: a target has one check at a time.
	Interval, DownInterval, ChangeInterval time.Duration

	Timeout time.Duration // of one check
	Rise    int           // good results in a row that bring a target up
	Fall    int           // bad results in a row that bring it down

	// OnInconclusive, if set, is called for a check that could not be made
	// ([ErrInconclusive]): the state of its target may be out of date. The cause is on
	// this host and mostly common to all targets, so a Monitor calls it at most once a
	// minute. The rules of [Report] apply.
	OnInconclusive func(t Target, err error)

	// OnPass, if set, is called for each good result. The rules of [Report] apply.
	OnPass func(t Target)

	// Slots bounds the checks in flight of all monitors that share it. Nil: 256 for
	// this monitor alone, 16 if its checks are programs.
	Slots *Slots
}

// DefaultPolicy takes a dead target down within 8 s, and brings one that has returned
// up within 5 s.
func DefaultPolicy() Policy {
	return Policy{
		Interval: 2 * time.Second, DownInterval: 2 * time.Second, ChangeInterval: 2 * time.Second,
		Timeout: time.Second, Rise: 2, Fall: 3,
	}
}

func (p Policy) withDefaults() Policy {
	d := DefaultPolicy()
	orElse := func(d, other time.Duration) time.Duration {
		if d > 0 {
			return d
		}
		return other
	}
	p.Interval = orElse(p.Interval, d.Interval)
	p.DownInterval = orElse(p.DownInterval, p.Interval)
	p.ChangeInterval = orElse(p.ChangeInterval, p.Interval)
	p.Timeout = orElse(p.Timeout, d.Timeout)
	if p.Rise <= 0 {
		p.Rise = d.Rise
	}
	if p.Fall <= 0 {
		p.Fall = d.Fall
	}
	return p
}

// interval returns the time to the next check of a target. An unknown target, whose
// checks could not be made, gets Interval: haste would not help.
func (p Policy) interval(t *tracker) time.Duration {
	switch {
	case t.opposed > 0:
		return p.ChangeInterval
	case t.isKnown && !t.isUp:
		return p.DownInterval
	}
	return p.Interval
}

const (
	// maxInFlight bounds the checks in flight of a Monitor without Slots, and so the
	// descriptors that health takes from the data path. Other checks wait, the longest
	// due first: many targets that time out stretch a round beyond the interval.
	maxInFlight = 256
	// maxPrograms is the same for checks that start a program.
	maxPrograms = 16
)

func (p Policy) slotsFor(c Checker) *Slots {
	if p.Slots != nil {
		return p.Slots
	}
	if _, ok := c.(*Exec); ok {
		return NewSlots(maxPrograms)
	}
	return NewSlots(maxInFlight)
}

// Slots bounds the checks in flight of all monitors that share it.
type Slots struct {
	taken chan struct{} // one element for each check in flight
}

// NewSlots returns n slots, at least one.
func NewSlots(n int) *Slots { return &Slots{taken: make(chan struct{}, max(n, 1))} }

const (
	firstBurst = 256              // targets of one Set that are checked at once
	firstPace  = time.Millisecond // between the others
)

// firstDelay returns when the first check of the ith of n new targets is due. The first
// 256 are due at once, the others 1 ms apart, or closer if that takes longer than one
// interval. So thousands do not start faster than they are checked later on.
func (p Policy) firstDelay(i, n int) time.Duration {
	if i < firstBurst {
		return 0
	}
	pace := min(firstPace, p.Interval/time.Duration(n-firstBurst+1))
	return time.Duration(i-firstBurst+1) * pace
}
