//go:build linux

package conformance

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"os"
	"strings"
	"time"
)

// asker is a UDP client of a traffic: one socket, and one datagram on the way.
type asker struct {
	*UDP
	t       *traffic
	to      string
	backend string          // which gave the last answer
	asked   int             // datagrams
	late    map[string]bool // datagrams that were given up, and may be answered yet
}

// ask sends one datagram and waits for the answer to it: the address of the backend and
// all that it was sent. A datagram counts as lost when none comes, and no change was
// told to end the flow.
func (a *asker) ask(r *rand.Rand) error {
	t := a.t
	a.asked++
	at := r.IntN(period)
	text := fmt.Sprintf("%s/%d/%s", a.Addr, a.asked, t.c.block[at:at+r.IntN(kib)])
	sent := time.Now()
	if err := a.Send(netip.MustParseAddrPort(a.to), []byte(text)); err != nil {
		return err
	}
	const look = 100 * time.Millisecond
	for {
		d, err := a.Next(look)
		now := time.Now()
		switch {
		case errors.Is(err, os.ErrDeadlineExceeded) && t.ends.cover(a.backend, sent, now):
			t.cutOff.Add(1)
			a.late[text], a.backend = true, ""
			return nil
		case errors.Is(err, os.ErrDeadlineExceeded) && now.Sub(sent) > t.c.patience():
			t.lost.Add(1)
			a.late[text] = true
			return nil
		case errors.Is(err, os.ErrDeadlineExceeded):
			continue
		case err != nil:
			return err
		case d.From.String() != a.to:
			return a.errorf("an answer from %v to what was sent to %s", d.From, a.to)
		}
		backend, echo, _ := strings.Cut(string(d.Data), " ")
		switch {
		case echo == text:
			a.backend = backend
			t.datagrams.Add(1)
			return nil
		case a.late[echo]:
			delete(a.late, echo)
		default:
			return a.errorf("datagram %d: a corrupted or doubled answer %.60q from %s", a.asked, echo, backend)
		}
	}
}

// answerUDP is the backend's side of an asker.
func answerUDP(b *UDP, d Datagram) {
	_ = b.Send(d.From, append([]byte(b.Addr+" "), d.Data...)) // the client misses it if it fails
}
