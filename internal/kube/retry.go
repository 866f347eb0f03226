package kube

import "time"

// Pauses between tries. Something that was freed may be what is missing, so the first try after it is early.
const (
	retryFirst = time.Second
	retryMost  = 30 * time.Second
)

// retry says when to try again what cannot be had. The zero value has nothing to try.
type retry struct {
	timer   *time.Timer
	pause   time.Duration // before the next try
	isArmed bool
}

// need has something tried again, or nothing any more. isSoon: there is hope, as something was freed.
func (r *retry) need(is, isSoon bool) {
	switch {
	case !is:
		r.stop()
		r.pause = 0
	case isSoon:
		r.stop()
		r.pause = 0
		r.arm()
	default:
		r.arm()
	}
}

// arm has it tried after the pause, which grows from try to try.
func (r *retry) arm() {
	if r.isArmed {
		return
	}
	r.pause = min(max(2*r.pause, retryFirst), retryMost)
	r.isArmed = true
	if r.timer == nil {
		r.timer = time.NewTimer(r.pause)
		return
	}
	r.timer.Reset(r.pause)
}

// due receives when it is time. The next try is armed anew.
func (r *retry) due() <-chan time.Time {
	if !r.isArmed {
		return nil
	}
	return r.timer.C
}

// took notes that the try that was due is under way.
func (r *retry) took() { r.isArmed = false }

func (r *retry) stop() {
	if r.isArmed {
		r.timer.Stop()
		r.isArmed = false
	}
}
