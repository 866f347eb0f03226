package proxy

import (
	"net"
	"net/netip"
	"os"
	"syscall"
	"testing"
	"time"
	"usher/balancer"
	"usher/proxy/flow"
)

// verdictCases say what each error of the kernel means, for both engines.
var verdictCases = []struct {
	errno       syscall.Errno
	established Outcome // of a flow whose client fails so
	dial        string  // see verdictOnDial
	send, twice flow.SendVerdict
	oneClient   bool // accept goes on to the next
}{
	{syscall.ECONNRESET, flow.ClientReset, "failed: reset", flow.SendRefused, flow.SendRefused, true},
	{syscall.EPIPE, flow.ClientReset, "failed: reset", flow.SendRefused, flow.SendRefused, true},
	{syscall.ECONNABORTED, flow.ClientReset, "failed: reset", flow.SendRefused, flow.SendRefused, true},
	{syscall.ETIMEDOUT, flow.ClientLost, "failed: timeout", flow.SendAgain, flow.SendRefused, true},
	{syscall.EHOSTUNREACH, flow.ClientLost, "failed: unreachable", flow.SendRefused, flow.SendRefused, true},
	{syscall.ENETUNREACH, flow.ClientLost, "failed: unreachable", flow.SendRefused, flow.SendRefused, true},
	{syscall.EHOSTDOWN, flow.ClientLost, "failed: unreachable", flow.SendRefused, flow.SendRefused, true},
	{syscall.ENETDOWN, flow.ClientLost, "failed: unreachable", flow.SendRefused, flow.SendRefused, true},
	{syscall.ECONNREFUSED, flow.ClientLost, "failed: refused", flow.SendRefused, flow.SendRefused, true},
	{syscall.ENOPROTOOPT, flow.ClientLost, "failed: refused", flow.SendRefused, flow.SendRefused, true},
	{syscall.EACCES, flow.ClientLost, "failed: refused", flow.SendRefused, flow.SendRefused, true},
	{syscall.EMFILE, flow.ClientReset, "held", flow.SendFull, flow.SendFull, false},
	{syscall.ENFILE, flow.ClientReset, "held", flow.SendFull, flow.SendFull, false},
	{syscall.ENOBUFS, flow.ClientReset, "held", flow.SendFull, flow.SendFull, false},
	{syscall.ENOMEM, flow.ClientReset, "held", flow.SendFull, flow.SendFull, false},
	{syscall.ENOSPC, flow.ClientReset, "held", flow.SendFull, flow.SendFull, false},
	{syscall.EADDRNOTAVAIL, flow.ClientReset, "not counted", flow.SendAgain, flow.SendRefused, false},
	{syscall.EADDRINUSE, flow.ClientReset, "not counted", flow.SendAgain, flow.SendRefused, false},
	{syscall.EAGAIN, flow.ClientReset, "again", flow.SendFull, flow.SendFull, false},
	{syscall.EMSGSIZE, flow.ClientReset, "failed: other", flow.SendAgain, flow.SendOversized, false},
	{syscall.EINTR, flow.ClientReset, "failed: other", flow.SendAgain, flow.SendRefused, true},
	{syscall.EPROTO, flow.ClientReset, "failed: other", flow.SendAgain, flow.SendRefused, true},
	{syscall.EPERM, flow.ClientReset, "failed: other", flow.SendAgain, flow.SendRefused, false},
	{0, flow.ClientReset, "failed: other", flow.SendAgain, flow.SendRefused, false},
}

// errnoAdapter is how an engine takes an error of the kernel.
type errnoAdapter struct {
	class func(syscall.Errno) flow.Class
	send  func(e syscall.Errno, again bool) flow.SendVerdict
	// begin returns the flow that the next two are for.
	begin       func() *flow.Flow
	dial        func(syscall.Errno) flow.Action
	established func(syscall.Errno) Outcome
}

func testVerdicts(t *testing.T, engine errnoAdapter) {
	for _, tc := range verdictCases {
		f := engine.begin()
		c := service(t, netip.MustParseAddrPort("10.0.0.1:80"))
		c.ConnectTimeout = time.Hour
		beginFlowOf(f, c)
		if got := verdictOnDial(c.Pool.Backends()[0], engine.dial(tc.errno)); got != tc.dial {
			t.Errorf("%v of a dial: %s, want %s", tc.errno, got, tc.dial)
		}

		f = engine.begin()
		beginFlowOf(f, service(t, netip.MustParseAddrPort("10.0.0.1:80")))
		f.Connected(0)
		if got := engine.established(tc.errno); got != tc.established {
			t.Errorf("%v of a client: %v, want %v", tc.errno, got, tc.established)
		}
		for again, want := range map[bool]flow.SendVerdict{false: tc.send, true: tc.twice} {
			if got := engine.send(tc.errno, again); got != want {
				t.Errorf("%v of a datagram, again %v: %v, want %v", tc.errno, again, got, want)
			}
		}
		if got := engine.class(tc.errno).IsClientFault(); got != tc.oneClient {
			t.Errorf("%v of an accept: one client's %v, want %v", tc.errno, got, tc.oneClient)
		}
	}
}

// verdictOnDial tells what became of an attempt to the only backend.
func verdictOnDial(b *balancer.Backend, a flow.Action) string {
	switch {
	case b.Active() > 0 && a.Do == flow.Wait:
		return "again"
	case b.Active() > 0:
		return "still reserved"
	case a.Do == flow.Wait:
		return "held"
	}
	for why := range balancer.FailureReasons {
		if b.FailuresBy(why) > 0 {
			return "failed: " + why.String()
		}
	}
	return "not counted"
}

// TestErrnoVerdictsPortable has the portable engine take each error as package net wraps it.
func TestErrnoVerdictsPortable(t *testing.T) {
	t.Parallel()
	wrap := func(e syscall.Errno) error {
		return &net.OpError{Op: "dial", Net: "tcp", Err: os.NewSyscallError("connect", e)}
	}
	var x *stream
	testVerdicts(t, errnoAdapter{
		class: func(e syscall.Errno) flow.Class { return classifyError(wrap(e)) },
		send:  func(e syscall.Errno, again bool) flow.SendVerdict { return classifySend(wrap(e), again) },
		begin: func() *flow.Flow {
			x = &stream{engine: &portableEngine{server: &Server{epoch: time.Now()}}}
			x.conn[flow.Client], x.conn[flow.Backend] = net.Pipe()
			return &x.Flow
		},
		dial: func(e syscall.Errno) flow.Action { return x.dialed(dialed{err: wrap(e)}) },
		established: func(e syscall.Errno) Outcome {
			x.readFailed(flow.Client, wrap(e))
			return x.ending
		},
	})
	if class := classifyError(net.ErrClosed); class != flow.ClassOther {
		t.Errorf("%v has class %d", net.ErrClosed, class)
	}
}
