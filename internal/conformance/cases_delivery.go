//go:build linux

package conformance

import (
	"fmt"
	"time"
)

// deliveryCases are about bytes that a reader has not taken yet when the other side
// has ended.
func deliveryCases() []Case {
	const group = "ends"
	var cases []Case
	for _, way := range []string{"down", "up"} {
		for _, n := range []int{mib, 3 * mib} {
			cases = append(cases, Case{
				Name: fmt.Sprintf("%d-mib-%s-survive-that-their-sender-is-gone", n/mib, way), Group: group,
				Run: func(c *C) { senderIsGone(c, way, n) },
			})
		}
		cases = append(cases,
			Case{Name: way + "-reset-after-the-end-comes-behind-the-bytes", Group: group, Run: func(c *C) { resetBehindBytes(c, way) }},
			Case{Name: "half-close-timeout-waits-for-a-slow-reader-" + way, Group: group, Run: func(c *C) {
				slowReader(c, way, Config{HalfCloseTimeout: time.Second})
			}},
			Case{Name: "idle-timeout-waits-for-a-slow-reader-" + way, Group: group, Run: func(c *C) {
				slowReader(c, way, Config{IdleTimeout: time.Second})
			}},
			Case{Name: "half-close-timeout-ends-a-reader-that-has-stopped-" + way, Group: group, Run: func(c *C) { stoppedReader(c, way) }},
		)
	}
	return cases
}

// readBuffer is small, so that the proxy holds most of the bytes.
const readBuffer = 64 * kib

// oneWay starts cfg before one backend and returns the ends of a flow. Bytes go down
// from the backend, or up from the client. The reader's buffer is small.
func oneWay(c *C, way string, cfg Config) (sender, reader *Conn) {
	b := c.Backend()
	cfg.Backends = []string{b.Addr}
	reader, sender = c.Pair(c.Start(cfg), b)
	if way == "up" {
		reader, sender = sender, reader
	}
	c.Must(reader.setReadBuffer(readBuffer))
	c.Must(Ping(reader, sender))
	return sender, reader
}

// finishes has the sender send n bytes and its end, all of which the proxy has then, or
// the reader.
func finishes(c *C, sender *Conn, s Stream, n int) {
	sent := c.Begin(func() error {
		if err := sender.Send(s, n); err != nil {
			return err
		}
		return sender.Finish()
	})
	c.WaitStill("the proxy to take no more", sender.Sent)
	if c.WaitStill("the proxy to acknowledge", sender.unacked) > 0 {
		c.Skipf("its buffers take less than %d bytes", n)
	}
	c.Must(sent())
}

// senderIsGone has the sender close for good while most of its bytes are on their way.
// Its kernel answers the next byte with a reset, which takes nothing from the reader.
func senderIsGone(c *C, way string, n int) {
	sender, reader := oneWay(c, way, Config{})
	s := c.Stream(1)
	finishes(c, sender, s, n)
	c.Must(sender.Close())
	c.Must(reader.Say("x"))
	c.Sleep(200 * time.Millisecond) // for the reset
	c.Must(reader.Receive(s, n))
	c.Must(reader.Finished())
}

// resetBehindBytes has the sender reset the connection after its end, on purpose.
func resetBehindBytes(c *C, way string) {
	sender, reader := oneWay(c, way, Config{})
	n, s := mib, c.Stream(2)
	finishes(c, sender, s, n)
	c.Must(sender.Reset())
	c.Sleep(200 * time.Millisecond)
	c.Must(reader.Receive(s, n))
	c.Must(reader.Finished())
	c.Must(reader.Broken())
}

// slowReader takes longer than the timeout for what the proxy has passed on, and never
// stops for as long.
func slowReader(c *C, way string, cfg Config) {
	sender, reader := oneWay(c, way, cfg)
	n, s := 2*mib, c.Stream(3)
	sent := c.Begin(func() error {
		if err := sender.Send(s, n); err != nil || cfg.HalfCloseTimeout == 0 {
			return err
		}
		return sender.Finish()
	})
	const pieces = 30
	used := time.Now()
	for i := range pieces {
		from, to := i*n/pieces, (i+1)*n/pieces
		err := reader.Receive(s.From(from), to-from)
		c.keeps(used, time.Second)
		used = time.Now()
		if err != nil {
			c.Fatalf("%v, after %d of %d bytes", err, from, n)
		}
		c.Sleep(100 * time.Millisecond)
	}
	c.Must(sent())
	if cfg.HalfCloseTimeout > 0 {
		c.Must(reader.Finished())
		return
	}
	err := Ping(reader, sender)
	c.keeps(used, time.Second)
	if err != nil {
		c.Fatalf("the flow had not been idle: %v", err)
	}
	_, err = reader.Ended(c.within(4 * time.Second))
	c.Must(err)
}

// stoppedReader takes nothing: there is no progress, so the timeout ends the flow.
func stoppedReader(c *C, way string) {
	sender, _ := oneWay(c, way, Config{HalfCloseTimeout: time.Second})
	start := c.stopwatch()
	c.Must(sender.Send(c.Stream(4), mib))
	c.Must(sender.Finish())
	_, err := sender.Ended(c.within(6 * time.Second))
	c.Must(err)
	aboutOneSecond(c, start)
}
