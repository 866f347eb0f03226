//go:build linux

package conformance

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

func crowdCases() []Case {
	const group = "crowds"
	return []Case{
		{Name: "no-cross-talk", Group: group, Heavy: true, Run: noCrossTalk},
		{Name: "connect-and-close-flood", Group: group, Heavy: true, Run: flood},
		{Name: "newcomers-beside-bulk", Group: group, Heavy: true, Run: newcomersBesideBulk},
		{Name: "back-to-start-after-10000-flows", Group: group, Heavy: true, Run: backToStart},
	}
}

// noCrossTalk keeps 500 clients busy with random writes and random ends. Each flow
// begins with its number, followed by the stream of that number. Both ends compare the
// stream byte by byte.
func noCrossTalk(c *C) {
	wrong := make(chan error, 1)
	serve := func(e *Conn) {
		if err := echoNumbered(c, e); err != nil {
			select {
			case wrong <- err:
			default:
			}
		}
	}
	b1, b2 := c.Serve(serve), c.Serve(serve)
	p := c.Start(Config{Backends: []string{b1.Addr, b2.Addr}})
	const clients = 500
	rounds := c.Size(4, 2)
	var all sync.WaitGroup // no client sends before all are connected
	all.Add(clients)
	c.Each(clients, func(i int) error {
		r := c.Rand(i)
		for round := range rounds {
			e, err := c.TryDial(p.Addr())
			if round == 0 {
				all.Done()
				all.Wait()
			}
			if err == nil {
				err = numberedClient(c, e, r, uint64(i*rounds+round+1))
			}
			if err != nil {
				return fmt.Errorf("client %d, round %d: %w", i, round, err)
			}
		}
		return nil
	})
	select {
	case err := <-wrong:
		c.Must(err)
	default:
	}
}

func numberedClient(c *C, e *Conn, r *rand.Rand, id uint64) error {
	defer e.Close()
	header := binary.BigEndian.AppendUint64(nil, id)
	if err := e.Say(string(header)); err != nil {
		return err
	}
	if err := e.Hear(string(header)); err != nil {
		return err
	}
	s := c.Stream(id)
	for range 1 + r.IntN(8) {
		n := 1 + r.IntN(1<<(4+r.IntN(11))) // small ones, and now and then 16 KiB
		if err := e.Send(s, n); err != nil {
			return err
		}
		if err := e.Receive(s, n); err != nil {
			return err
		}
		s = s.From(n)
	}
	switch r.IntN(4) {
	case 0:
		return e.Reset()
	case 1: // bytes under way when it closes
		e.Send(s, 1+r.IntN(4*kib))
		return nil
	case 2:
		n := 1 + r.IntN(64*kib)
		if err := e.Send(s, n); err != nil {
			return err
		}
		if err := e.Finish(); err != nil {
			return err
		}
		if err := e.Receive(s, n); err != nil {
			return err
		}
		return e.Finished()
	}
	return nil
}

// echoNumbered sends back what it gets after checking it. Only wrong bytes are
// an error: clients end as they like.
func echoNumbered(c *C, e *Conn) error {
	header := make([]byte, 8)
	e.SetDeadline(time.Now().Add(5 * e.patience))
	if _, err := io.ReadFull(e, header); err != nil {
		return nil
	}
	if _, err := e.Write(header); err != nil {
		return nil
	}
	s := c.Stream(binary.BigEndian.Uint64(header))
	buf := make([]byte, 16*kib)
	for pos := 0; ; {
		n, err := e.Read(buf)
		if want := s.at(pos, n); string(want) != string(buf[:n]) {
			return e.errorf("wrong bytes after byte %d of flow %d", pos, binary.BigEndian.Uint64(header))
		}
		pos += n
		if n > 0 {
			if _, err := e.Write(buf[:n]); err != nil {
				return nil
			}
		}
		if err != nil {
			return nil
		}
	}
}

// settled waits until the proxy holds no more sockets than before and no socket in
// CLOSE_WAIT.
func settled(c *C, p *Proxy, sockets int, backends ...*Backend) {
	c.Wait(2*c.patience(), fmt.Sprintf("the proxy to hold %d sockets as before", sockets), func() bool {
		return p.Descriptors().Sockets <= sockets
	})
	c.Wait(c.within(3*time.Second), "CLOSE_WAIT to be empty", func() bool { return p.CloseWait(backends...) == 0 })
}

// flood connects and leaves at once, with FIN or RST. It leaves before, while or after
// the proxy connects to the backend.
func flood(c *C) {
	b := c.Serve(func(e *Conn) { io.Copy(io.Discard, e) })
	p := c.Start(Config{Backends: []string{b.Addr}})
	before := p.Descriptors()
	const workers = 16
	n := c.Size(4000, 1000)
	c.Each(workers, func(i int) error {
		r := c.Rand(i)
		for range n / workers {
			e, err := c.TryDial(p.Addr())
			if err != nil {
				return err
			}
			if r.IntN(4) == 0 {
				time.Sleep(time.Duration(r.IntN(2000)) * time.Microsecond)
			}
			if r.IntN(2) == 0 {
				err = e.Reset()
			} else {
				err = e.Close()
			}
			if err != nil {
				return err
			}
		}
		return nil
	})
	settled(c, p, before.Sockets, b)
}

// newcomersBesideBulk has new clients come while many others receive as much as the
// proxy can carry. A new client must not wait for a turn of each of those.
func newcomersBesideBulk(c *C) {
	const newcomers, soon = 9, 400 * time.Millisecond
	flows := 200
	if c.o.Instrumented {
		flows = 10 // more would slow the clients' side and keep the processors from all other cases
	}
	b := c.Serve(func(e *Conn) {
		what := make([]byte, 1)
		if _, err := io.ReadFull(e, what); err != nil {
			return
		}
		if what[0] == 'n' {
			e.Say("hello")
			return
		}
		e.SetDeadline(time.Time{})
		for block := make([]byte, 256*kib); ; {
			if _, err := e.Write(block); err != nil {
				return
			}
		}
	})
	p := c.Start(Config{Backends: []string{b.Addr}, Workers: 1})
	var carried atomic.Int64
	for range flows {
		client, err := c.TryDial(p.Addr())
		c.Must(err)
		c.Must(client.Say("b"))
		go func() {
			for buf := make([]byte, 64*kib); ; {
				n, err := client.Read(buf)
				carried.Add(int64(n))
				if err != nil {
					return
				}
			}
		}()
	}
	c.Wait(c.within(5*time.Second), "bulk to flow", func() bool { return carried.Load() > int64(flows)*mib })
	var took []time.Duration
	for range newcomers {
		start := c.stopwatch()
		client, err := c.TryDial(p.Addr())
		c.Must(err)
		c.Must(client.Say("n"))
		c.Must(client.Hear("hello"))
		took = append(took, start.fair())
		client.Close()
	}
	slices.Sort(took)
	if median := took[newcomers/2]; median > soon && !c.o.Instrumented {
		c.Fatalf("a newcomer beside %d bulk flows waits %v (median)", flows, median.Round(time.Millisecond))
	}
}

// noMore expects that the proxy holds no more after many flows than before. If it
// holds more, the flows run again: a pool grows once, a leak grows each time. Spare is how
// many sockets it keeps at times for later use.
func noMore(c *C, p *Proxy, spare int, flows func()) {
	times := 3
	if c.o.Patience > 0 {
		times = 1
	}
	for i := range times {
		before, memory, threads := p.Descriptors(), p.Memory(), p.Threads()
		flows()
		after, grown := p.Descriptors(), p.Memory()-memory
		// Pools and the runtime's own descriptors may vary, flows may not.
		const slack = 64
		more := ""
		switch n := p.Threads(); {
		case after.All > before.All+slack || after.Sockets > before.Sockets+spare:
			more = fmt.Sprintf("%d descriptors, %d of them sockets; %d and %d before", after.All, after.Sockets, before.All, before.Sockets)
		case n > threads+8:
			more = fmt.Sprintf("%d threads, %d before", n, threads)
		case grown > 8*mib && !c.o.Instrumented:
			more = fmt.Sprintf("private memory has grown by %d KiB", grown/kib)
		}
		switch {
		case more == "":
			return
		case i == times-1:
			c.Fatalf("%s", more)
		}
	}
}

// backToStart compares what the proxy holds after 10,000 flows with what it held after
// 1,000. The first 1,000 fill its pools.
func backToStart(c *C) {
	b := c.Serve(func(e *Conn) {
		buf := make([]byte, 64)
		for {
			if _, err := io.ReadFull(e, buf); err != nil {
				return
			}
			if buf[0] == 'Q' { // the backend ends this one
				return
			}
			if _, err := e.Write(buf); err != nil {
				return
			}
		}
	})
	p := c.Start(Config{Backends: []string{b.Addr}})
	empty := p.Descriptors().Sockets
	const workers = 32
	flows := func(n int) {
		c.Step("%d flows", n)
		c.Each(workers, func(i int) error {
			r := c.Rand(i)
			for range n / workers {
				if err := shortFlow(c, p, r); err != nil {
					return err
				}
			}
			return nil
		})
		settled(c, p, empty, b)
	}
	flows(1000)
	noMore(c, p, 0, func() { flows(c.Size(10_000, 2000)) })
}

func shortFlow(c *C, p *Proxy, r *rand.Rand) error {
	e, err := c.TryDial(p.Addr())
	if err != nil {
		return err
	}
	defer e.Close()
	const request = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"
	if err := errors.Join(e.Say(request), e.Hear(request)); err != nil {
		return err
	}
	switch r.IntN(4) {
	case 0:
		return e.Reset()
	case 1:
		if err := e.Say("Q" + request[1:]); err != nil {
			return err
		}
		return e.Finished()
	}
	return nil
}
