package health

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
)

// UDP checks that a target of network "udp" answers a datagram as expected.
//
// With Expect, a reply must contain it. With Send alone, any reply is good. With
// neither, the check is whether a process listens:
//
//   - For loopback on Linux it asks the kernel.
//   - Else it sends one empty datagram and waits for ICMP port unreachable (RFC 1122,
//     4.1.3.3). Silence until the end of the context is good, so a check of a healthy
//     target takes the whole timeout.
//
// Silence proves little. Hosts and firewalls that drop datagrams look healthy, and so
// does everything on Windows, where Go hides such reports. Linux sends about one report
// a second to each peer, so many dead targets on one host take turns to look healthy.
type UDP struct {
	Send   string // payload of the one datagram
	Expect string // part of a reply
}

// Check sends at most one datagram, from a new socket. It ignores replies without
// Expect until ctx ends; the error then describes the last one.
func (c UDP) Check(ctx context.Context, t Target) error {
	if to, err := netip.ParseAddrPort(t.Address); err == nil && c.isSilenceGood() && isBoundHere(to) {
		return nil
	}
	return c.checkByDatagram(ctx, t)
}

func (c UDP) isSilenceGood() bool { return c.Send == "" && c.Expect == "" }

func (c UDP) checkByDatagram(ctx context.Context, t Target) error {
	expect := []byte(c.Expect)
	err := exchange(ctx, t, []byte(c.Send), func(reply []byte) (bool, error) {
		if bytes.Contains(reply, expect) {
			return true, nil
		}
		return false, fmt.Errorf("unexpected reply %s", excerpt(reply))
	})
	if c.isSilenceGood() && errors.Is(err, errSilent) {
		return nil
	}
	return err
}

const (
	maxDatagram = 64 << 10 // more than a UDP payload can have
	// maxReplies bounds the replies that one check reads, so that a flood does not keep
	// it busy until its timeout.
	maxReplies = 32
)

// exchange sends one datagram and passes each reply to evaluate until that decides.
// Undecided, its error says what is wrong with the reply.
func exchange(ctx context.Context, t Target, request []byte, evaluate func(reply []byte) (isDecided bool, err error)) error {
	dialer := t.dialer()
	conn, err := dialer.DialContext(ctx, t.Network, t.Address)
	if err != nil {
		return classifyDatagram(err)
	}
	defer conn.Close()
	// A connected socket gets only the target's datagrams, and ICMP errors about it.
	stop := context.AfterFunc(ctx, func() { _ = conn.SetDeadline(past) })
	defer stop()
	if _, err := conn.Write(append([]byte(t.preface), request...)); err != nil {
		return classifyDatagram(err)
	}
	wrong := errSilent
	buffer := make([]byte, maxDatagram)
	for range maxReplies {
		n, err := conn.Read(buffer)
		switch {
		case err == nil:
		case !errors.Is(err, os.ErrDeadlineExceeded):
			return classifyDatagram(err)
		case errors.Is(ctx.Err(), context.Canceled):
			return ctx.Err()
		default:
			return fmt.Errorf("ask %s: %w", t.Address, wrong)
		}
		isDecided, err := evaluate(buffer[:n])
		if isDecided {
			if err != nil {
				return fmt.Errorf("ask %s: %w", t.Address, err)
			}
			return nil
		}
		wrong = err
	}
	return fmt.Errorf("ask %s: %d replies, none as expected: %w", t.Address, maxReplies, wrong)
}
