package health

import (
	"errors"
	"net"
	"os"
	"syscall"
	"testing"
	"time"
)

// Errors of this host say nothing about a target; all others do.
func TestErrorsOfThisHost(t *testing.T) {
	t.Parallel()
	tcp := Target{Network: "tcp", Address: "127.0.0.1:9"}
	for _, tt := range []struct {
		errno    syscall.Errno
		target   Target
		dial     bool
		datagram bool
	}{
		{syscall.EMFILE, tcp, true, true},
		{syscall.ENFILE, tcp, true, true},
		{syscall.ENOBUFS, tcp, true, true},
		{syscall.ENOMEM, tcp, true, true},
		{syscall.EAGAIN, tcp, false, true},
		{syscall.ECONNREFUSED, tcp, false, false},
		{syscall.ENETUNREACH, tcp, false, false},
		{syscall.ETIMEDOUT, tcp, false, false},
		{syscall.EADDRNOTAVAIL, tcp, true, false},                                             // all ports are in use
		{syscall.EADDRNOTAVAIL, Target{Network: "tcp", Address: "[fe80::1]:9"}, false, false}, // no way to it
		{syscall.EADDRNOTAVAIL, Target{Network: "unix", Address: "/x"}, false, false},
	} {
		err := &net.OpError{Op: "dial", Net: "tcp", Err: os.NewSyscallError("connect", tt.errno)}
		if got := classifyDial(err, tt.target); errors.Is(got, ErrInconclusive) != tt.dial || !errors.Is(got, tt.errno) {
			t.Errorf("dial %v: %v, want inconclusive %t", tt.target, got, tt.dial)
		}
		if got := classifyDatagram(err); errors.Is(got, ErrInconclusive) != tt.datagram || !errors.Is(got, tt.errno) {
			t.Errorf("datagram: %v, want inconclusive %t", got, tt.datagram)
		}
	}
}

// A few targets start at once, thousands within one interval.
func TestFirstDelay(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		i, n           int
		interval, want time.Duration
	}{
		{0, 1, time.Minute, 0},
		{255, 256, time.Minute, 0},
		{256, 300, time.Minute, time.Millisecond},
		{1999, 2000, time.Minute, 1744 * time.Millisecond},
		{5127, 10_000, 2 * time.Second, time.Second}, // half way of those beyond the first 256
	} {
		if got := (Policy{Interval: tt.interval}).firstDelay(tt.i, tt.n); got.Round(time.Millisecond) != tt.want {
			t.Errorf("check %d of %d in %v is due after %v, want %v", tt.i, tt.n, tt.interval, got, tt.want)
		}
	}
}

// Programs cost more than sockets.
func TestSlotsFor(t *testing.T) {
	t.Parallel()
	own := NewSlots(3)
	for want, got := range map[int]*Slots{
		256: Policy{}.slotsFor(TCP{}), 16: Policy{}.slotsFor(&Exec{}), 3: Policy{Slots: own}.slotsFor(&Exec{}), 1: NewSlots(0),
	} {
		if cap(got.taken) != want {
			t.Errorf("%d slots, want %d", cap(got.taken), want)
		}
	}
}
