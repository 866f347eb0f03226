package proxy

import (
	"syscall"
	"testing"
	"time"

	"usher/proxy/flow"
)

// TestErrnoVerdictsEpoll has the event loops take each error as the kernel returns it.
func TestErrnoVerdictsEpoll(t *testing.T) {
	t.Parallel()
	w := &worker{server: &Server{epoch: time.Now()}}
	var c *conn
	testVerdicts(t, errnoAdapter{
		class: classifyErrno,
		send:  func(e syscall.Errno, again bool) flow.SendVerdict { return classifyErrno(e).SendVerdict(again) },
		begin: func() *flow.Flow {
			c = new(conn)
			return &c.Flow
		},
		dial: func(e syscall.Errno) flow.Action { return w.dialFailed(c, e) },
		established: func(e syscall.Errno) Outcome {
			c.noteFailure(flow.Client, e)
			return c.half[flow.Client].broken
		},
	})
}
