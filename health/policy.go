package health

import "time"

// Policy says how often and how patiently targets are checked. A field that
// is zero or negative takes the value of [DefaultPolicy].
type Policy struct {
	// The time from the start of one check of a target to the start of the next:
	// while it is up, while it is down, and while results contradict its state but
	// are not yet enough to change it. The last two are Interval if they are zero
	// or negative. A check that takes longer delays the next one; there are never two of
	// a target at a time.
	Interval, DownInterval, ChangeInterval time.Duration

	Timeout time.Duration // of one check
	Rise    int           // good results in a row that bring a target up
	Fall    int           // bad results in a row that take it down

	// Inconclusive, if set, is told of a check that said nothing about its target
	// ([ErrInconclusive]): the state of the target may be out of date then. Such
	// checks have their cause on this side, mostly one for all targets, so a Monitor
	// tells of one in a minute. Calls are made as those of a Report.
	Inconclusive func(t Target, err error)

	// Slots are shared by all monitors that shall be bounded together. Nil: 256
	// for this one alone, 16 if its checks are programs.
	Slots *Slots
}

// DefaultPolicy takes a dead target down within 8 s, and brings one that has
// returned up within 5 s.
func DefaultPolicy() Policy {
	return Policy{
		Interval: 2 * time.Second, DownInterval: 2 * time.Second, ChangeInterval: 2 * time.Second,
		Timeout: time.Second, Rise: 2, Fall: 3,
	}
}

func (p Policy) withDefaults() Policy {
	d := DefaultPolicy()
	if p.Interval > 0 {
		d.Interval, d.DownInterval, d.ChangeInterval = p.Interval, p.Interval, p.Interval
	}
	if p.DownInterval > 0 {
		d.DownInterval = p.DownInterval
	}
	if p.ChangeInterval > 0 {
		d.ChangeInterval = p.ChangeInterval
	}
	if p.Timeout > 0 {
		d.Timeout = p.Timeout
	}
	if p.Rise > 0 {
		d.Rise = p.Rise
	}
	if p.Fall > 0 {
		d.Fall = p.Fall
	}
	d.Inconclusive = p.Inconclusive
	return d
}

// interval is the time to the next check of a target. One that is unknown, for want of
// something on this side, is not helped by haste.
func (p Policy) interval(t *Tracker) time.Duration {
	switch {
	case t.Changing():
		return p.ChangeInterval
	case t.Known() && !t.Up():
		return p.DownInterval
	}
	return p.Interval
}

const (
	// maxInFlight bounds the checks that one Monitor has under way at any time, unless
	// its policy says otherwise. It caps the descriptors that health takes from the
	// data path. Checks beyond it wait their turn, the longest due first, so a round
	// of more than maxInFlight targets that all time out takes longer than the interval.
	maxInFlight = 256
	// maxPrograms is the same for checks that start a program, whose price is not in
	// descriptors.
	maxPrograms = 16
)

// slotsFor returns what bounds the checks of a monitor.
func (p Policy) slotsFor(c Checker) *Slots {
	if p.Slots != nil {
		return p.Slots
	}
	if _, ok := c.(*Exec); ok {
		return NewSlots(maxPrograms)
	}
	return NewSlots(maxInFlight)
}

// Slots bound the checks that are under way at any time in all the monitors that have
// them in their policy.
type Slots struct {
	taken chan struct{} // one element for each check in flight
}

// NewSlots returns n slots, one if n is less.
func NewSlots(n int) *Slots { return &Slots{taken: make(chan struct{}, max(n, 1))} }

const (
	// atOnce is how many of the targets that come with one Set are checked without
	// delay.
	atOnce = 256
	// atPace is the time between those beyond atOnce.
	atPace = time.Millisecond
)

// firstDelay spreads the first checks of n targets that come together: the first 256 are
// due at once, the others one after the other, 1 ms apart or so close that all of them
// are due within one interval. So a few hundred start without delay, and 10,000 do
// not start faster than they are checked later on.
func (p Policy) firstDelay(i, n int) time.Duration {
	if i < atOnce {
		return 0
	}
	pace := min(atPace, p.Interval/time.Duration(n-atOnce+1))
	return time.Duration(i-atOnce+1) * pace
}
