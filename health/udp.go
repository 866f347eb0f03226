package health

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"syscall"
	"time"
)

// UDP checks that a target of network "udp" answers a datagram as expected.
//
// With Expect, a reply must contain it. With Send alone, any reply will do. With
// neither, the check sends one empty datagram and waits for the kernel to report
// that nobody listens there (ICMP port unreachable, RFC 1122, 4.1.3.3): silence
// until the end of the context is a good answer, so that a healthy target takes
// the whole timeout of each check. Hosts and firewalls that drop instead of
// refusing look healthy then, and so does everything to Windows, where Go keeps
// such reports from sockets. Hosts send few of them, too (Linux about one in a second
// to each peer): many dead targets on one host take turns to look healthy.
type UDP struct {
	Send   string // the payload of the one datagram that is sent
	Expect string // part of a reply
}

// Check sends one datagram from a socket of its own. Replies that do not fit are
// passed over until ctx ends; the error then tells of the last one.
func (c UDP) Check(ctx context.Context, t Target) error {
	silenceIsGood := c.Send == "" && c.Expect == ""
	expect := []byte(c.Expect)
	err := ask(ctx, t, []byte(c.Send), func(reply []byte) (bool, error) {
		if bytes.Contains(reply, expect) {
			return true, nil
		}
		return false, fmt.Errorf("unexpected reply %s", excerpt(reply))
	})
	if silenceIsGood && errors.Is(err, errSilent) {
		return nil
	}
	return err
}

const (
	// maxDatagram is more than any datagram holds.
	maxDatagram = 64 << 10
	// maxReplies is how many replies to one question are looked at, so that a
	// target that floods its probe does not keep it busy until its timeout.
	maxReplies = 32
)

// errSilent ends the wait for a target that has not sent anything.
var errSilent = errors.New("no reply in time")

// ask sends one datagram to the target and gives judge each one that comes back,
// until judge has decided. An undecided judge says what is wrong with the reply.
func ask(ctx context.Context, t Target, question []byte, judge func(reply []byte) (decided bool, err error)) error {
	var dialer net.Dialer
	conn, err := dialer.DialContext(ctx, t.Network, t.Address)
	if err != nil {
		return fault(err)
	}
	defer conn.Close()
	// The socket is connected: only the target's datagrams get here, and the ICMP
	// errors about it.
	stop := context.AfterFunc(ctx, func() { _ = conn.SetDeadline(time.Unix(1, 0)) })
	defer stop()
	if _, err := conn.Write(question); err != nil {
		return fault(err)
	}
	wrong := errSilent
	buffer := make([]byte, maxDatagram)
	for range maxReplies {
		n, err := conn.Read(buffer)
		switch {
		case err == nil:
		case !errors.Is(err, os.ErrDeadlineExceeded):
			return fault(err)
		case errors.Is(ctx.Err(), context.Canceled):
			return ctx.Err()
		default:
			return fmt.Errorf("ask %s: %w", t.Address, wrong)
		}
		decided, err := judge(buffer[:n])
		if decided {
			if err != nil {
				return fmt.Errorf("ask %s: %w", t.Address, err)
			}
			return nil
		}
		wrong = err
	}
	return fmt.Errorf("ask %s: %d replies, none as expected: %w", t.Address, maxReplies, wrong)
}

// fault passes on what the kernel said to a probe, which names the attempt and
// the address. EAGAIN is Linux's word for a UDP socket that finds no free local
// port: one more shortage on this side.
func fault(err error) error {
	if shortage(err) || errors.Is(err, syscall.EAGAIN) {
		return fmt.Errorf("%w: %w", ErrInconclusive, err)
	}
	return err
}

// excerpt is the beginning of a stranger's bytes, for a line of a log.
func excerpt(b []byte) string {
	const most = 48
	if len(b) > most {
		return fmt.Sprintf("%q… of %d bytes", b[:most], len(b))
	}
	return fmt.Sprintf("%q", b)
}
