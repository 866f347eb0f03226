//go:build linux

package conformance

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"
)

// traffic is a load of flows whose bytes are all compared, while the proxy changes.
// Each flow streams both ways at once until its client ends it. Any other end is a
// fault, unless a change was told to end the flow.
type traffic struct {
	c        *C
	tcp, udp []string // addresses of the proxy that always serve
	ends     toldEnds

	nextFlow atomic.Uint64
	flows    sync.Map // *checkedFlow by id

	stop    chan struct{}
	running sync.WaitGroup

	served, ended   atomic.Int64 // flows: to their end, and told to end before
	datagrams, lost atomic.Int64 // answered, and neither answered nor told to be lost
	cutOff          atomic.Int64 // datagrams whose flow was told to end
}

// checkedFlow is what both ends know of a TCP flow.
type checkedFlow struct {
	id      uint64
	begun   time.Time
	backend string       // its address, once it has answered
	up      atomic.Int64 // bytes that the backend has received, when it has read the end
	down    atomic.Int64 // bytes that the backend has sent, when it has sent the end
}

const (
	greetingSize = 32      // the address of the backend, padded
	endless      = 1 << 30 // pieces
)

func (t *traffic) begin(clients, askers int) {
	t.stop = make(chan struct{})
	for i := range clients {
		t.running.Go(func() { t.client(t.c.Rand(1000+i), i%3 == 0) })
	}
	for i := range askers {
		t.running.Go(func() { t.asker(1+i, t.c.Rand(2000+i)) })
	}
}

// end has all clients finish what they do, and waits for them.
func (t *traffic) end() {
	close(t.stop)
	t.running.Wait()
}

// isOver reports whether the load ends.
func (t *traffic) isOver() bool {
	select {
	case <-t.stop:
		return true
	case <-t.c.ctx.Done():
		return true
	default:
		return false
	}
}

// pause waits, but not beyond the end of the load.
func (t *traffic) pause(d time.Duration) {
	select {
	case <-time.After(d):
	case <-t.stop:
	case <-t.c.ctx.Done():
	}
}

// client makes one flow after the other. A long one lasts until the load ends.
func (t *traffic) client(r *rand.Rand, long bool) {
	for !t.isOver() {
		pieces := 1 + r.IntN(10)
		if long {
			pieces = endless
		}
		t.visit(t.tcp[r.IntN(len(t.tcp))], pieces, r)
		t.pause(time.Duration(r.IntN(100)) * time.Millisecond)
	}
}

// visit makes a flow to an address of the proxy, and fails the case unless it goes well
// or was told to end.
func (t *traffic) visit(addr string, pieces int, r *rand.Rand) {
	f := &checkedFlow{id: t.nextFlow.Add(1), begun: time.Now()}
	t.flows.Store(f.id, f)
	defer t.flows.Delete(f.id)
	err := t.exchange(f, addr, pieces, r)
	failed := time.Now()
	switch {
	case err == nil:
		t.served.Add(1)
	case t.ends.cover(f.backend, f.begun, failed):
		t.ended.Add(1)
	case t.c.ctx.Err() == nil:
		t.c.Errorf("a flow by %s with backend %q, %v old: %v", addr, f.backend, failed.Sub(f.begun).Round(time.Millisecond), err)
	}
}

// exchange is the client's side of a flow.
func (t *traffic) exchange(f *checkedFlow, addr string, pieces int, r *rand.Rand) error {
	e, err := t.c.TryDial(addr)
	if err != nil {
		return err
	}
	defer e.Close()
	if err := e.Say(string(binary.BigEndian.AppendUint64(nil, f.id))); err != nil {
		return err
	}
	greeting := make([]byte, greetingSize)
	e.SetReadDeadline(time.Now().Add(e.patience))
	if _, err := io.ReadFull(e, greeting); err != nil {
		return e.errorf("hear the backend's address: %w", short(err))
	}
	f.backend = string(bytes.TrimRight(greeting, " "))

	var sent int64
	sending := make(chan error, 1)
	go func() {
		var err error
		if sent, err = t.send(e, t.c.Stream(2*f.id), pieces, t.stop, r); err == nil {
			err = e.Finish()
		}
		if err != nil {
			e.Close()
		}
		sending <- err
	}()
	got, err := receiveAll(e, t.c.Stream(2*f.id+1))
	if err != nil {
		e.Close()
	}
	if err := errors.Join(err, <-sending); err != nil {
		return err
	}
	if up, down := f.up.Load(), f.down.Load(); up != sent || down != got {
		return fmt.Errorf("clean end after %d of %d bytes up and %d of %d bytes down", up, sent, got, down)
	}
	return nil
}

// send sends a stream in pieces with pauses, until stop is closed, and returns how many
// bytes. Most pieces are small; some fill several buffers.
func (t *traffic) send(e *Conn, s Stream, pieces int, stop <-chan struct{}, r *rand.Rand) (sent int64, err error) {
	for range pieces {
		n := 1 + r.IntN(2*kib)
		if r.IntN(16) == 0 {
			n = 1 + r.IntN(256*kib)
		}
		if err := e.Send(s, n); err != nil {
			return sent, err
		}
		s, sent = s.From(n), sent+int64(n)
		select {
		case <-time.After(time.Duration(20+r.IntN(80)) * time.Millisecond):
		case <-stop:
			return sent, nil
		case <-t.c.ctx.Done():
			return sent, t.c.ctx.Err()
		}
	}
	return sent, nil
}

// wrongByte is the error of bytes that are not those that were sent.
type wrongByte struct{ error }

// receiveAll compares all that comes with a stream, up to a clean end, and returns how
// many bytes that are.
func receiveAll(e *Conn, s Stream) (got int64, err error) {
	buf := make([]byte, 64*kib)
	for {
		e.SetReadDeadline(time.Now().Add(e.patience))
		n, err := e.Read(buf)
		if want := s.at(0, n); !bytes.Equal(buf[:n], want) {
			return got, wrongByte{e.errorf("a byte from the %dth on is wrong", got)}
		}
		s, got = s.From(n), got+int64(n)
		switch {
		case errors.Is(err, io.EOF):
			return got, nil
		case err != nil:
			return got, e.errorf("receive byte %d: %w", got, short(err))
		}
	}
}

// serve is the backend's side of a flow. The client sees if it does not come to its
// end. A check ends without having said anything.
func (t *traffic) serve(e *Conn) {
	header := make([]byte, 8)
	e.SetReadDeadline(time.Now().Add(e.patience))
	if _, err := io.ReadFull(e, header); err != nil {
		return
	}
	known, ok := t.flows.Load(binary.BigEndian.Uint64(header))
	if !ok {
		// The client may have failed meanwhile. Bytes that are wrong make it fail, too.
		return
	}
	f := known.(*checkedFlow)
	if e.Say(fmt.Sprintf("%-*s", greetingSize, e.LocalAddr())) != nil {
		return
	}
	over := make(chan struct{})
	received := make(chan error, 1)
	go func() {
		defer close(over)
		got, err := receiveAll(e, t.c.Stream(2*f.id))
		f.up.Store(got)
		received <- err
	}()
	sent, err := t.send(e, t.c.Stream(2*f.id+1), endless, over, t.c.Rand(int(f.id)))
	f.down.Store(sent)
	if err != nil {
		e.Close()
	}
	readErr := <-received
	if wrong := (wrongByte{}); errors.As(readErr, &wrong) {
		t.c.Errorf("%v", wrong)
	}
	if err == nil && readErr == nil {
		_ = e.Finish() // the client sees whether it arrives
	}
}

// asker sends one datagram after the other, each when the one before is answered. It
// changes its socket now and then.
func (t *traffic) asker(i int, r *rand.Rand) {
	for !t.isOver() {
		u, err := t.c.openUDP("client", t.c.host(i)+":0")
		if err != nil {
			t.c.Errorf("%v", err)
			return
		}
		a := &asker{t: t, UDP: u, to: t.udp[r.IntN(len(t.udp))], late: make(map[string]bool)}
		for n := 1 + r.IntN(200); n > 0 && !t.isOver(); n-- {
			if err := a.ask(r); err != nil {
				if t.c.ctx.Err() == nil {
					t.c.Errorf("a client of %s with backend %q: %v", a.to, a.backend, err)
				}
				break
			}
			t.pause(time.Duration(r.IntN(20)) * time.Millisecond)
		}
		u.Close()
	}
}

// toldEnds are the ends of flows that changes were told to make.
type toldEnds struct {
	mu  sync.Mutex
	all []*toldEnd
}

type toldEnd struct {
	backends    []string
	from, until time.Time // of the change; until is zero before it is over
}

// begin says that the flows of some backends may end from now on; over, that those that
// begin from then on may not.
func (e *toldEnds) begin(backends []string) (over func()) {
	if len(backends) == 0 {
		return func() {}
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	end := &toldEnd{backends: backends, from: time.Now()}
	e.all = append(e.all, end)
	return func() {
		e.mu.Lock()
		defer e.mu.Unlock()
		end.until = time.Now()
	}
}

// cover reports whether a change was told to end what began and failed at those times.
// A backend that is not known yet may be any.
func (e *toldEnds) cover(backend string, begun, failed time.Time) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	for _, end := range e.all {
		if failed.Before(end.from) || !end.until.IsZero() && begun.After(end.until) {
			continue
		}
		for _, b := range end.backends {
			if backend == "" || b == backend {
				return true
			}
		}
	}
	return false
}
