package demo

import (
	"context"
	"io"
	"net"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

const patience = time.Minute

// await waits until a condition holds that must come to hold.
func await(t *testing.T, what string, is func() bool) {
	t.Helper()
	for deadline := time.Now().Add(patience); !is(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("it never came to this: %s", what)
		}
	}
}

// load returns quick clients of addr.
func load(addr string) *Load {
	l := NewLoad(addr)
	l.every, l.linger = time.Millisecond, 2*time.Millisecond
	l.patience = patience // of a slow machine
	return l
}

// background runs something that ends with its context, and returns what ends it.
func background(t *testing.T, run func(context.Context)) (end func()) {
	ctx, cancel := context.WithCancel(t.Context())
	var running sync.WaitGroup
	running.Go(func() { run(ctx) })
	end = func() { cancel(); running.Wait() }
	t.Cleanup(end)
	return end
}

// While a backend is dead its clients ask again, and have their replies once it is back.
// None has failed.
func TestLoadAsksAgain(t *testing.T) {
	t.Parallel()
	b := start(t, 0)
	l := load(b.Addrs()[0].String())
	end := background(t, l.Run)
	for range 3 {
		answered := l.Counts().Answered
		await(t, "clients are served", func() bool { return l.Counts().Answered > answered+20 })
		asked := l.Counts().AskedAgain
		b[0].Kill()
		await(t, "clients ask again", func() bool { return l.Counts().AskedAgain > asked })
		if err := b[0].Return(); err != nil {
			t.Fatal(err)
		}
	}
	end()
	if c := l.Counts(); c.Failed != 0 || c.Answered > b[0].served.Load() {
		t.Errorf("%+v, and %d were served", c, b[0].served.Load())
	}
}

// Replies that are no backend's do not count.
func TestLoadReadsReplies(t *testing.T) {
	t.Parallel()
	for _, reply := range []string{"", "HTTP/1.1 200 OK\r\n\r\nbye", "HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhello from ", "HTTP/1.1 500 No\r\n\r\nhello from "} {
		addr := answering(t, func(c net.Conn) { _, _ = io.WriteString(c, reply) })
		if err := request(t.Context(), addr, 0); err == nil {
			t.Errorf("%q is good", reply)
		}
	}
}

// answering serves clients one by one, and closes their connections after that.
func answering(t *testing.T, serve func(net.Conn)) (addr string) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var accepting sync.WaitGroup
	accepting.Go(func() {
		for {
			conn, err := ln.Accept()
			if err != nil {
				return
			}
			_, _ = conn.Read(make([]byte, 1024)) // a request
			serve(conn)
			conn.Close()
		}
	})
	t.Cleanup(func() { ln.Close(); accepting.Wait() })
	return ln.Addr().String()
}

// A client fails whose patience is at an end. Time in which the demo was stopped does not
// count: patience ends by ticks, of which a ticker keeps one.
func TestLoadPatience(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		l := NewLoad("")
		var all []*client
		var ends []context.Context
		for ctx := t.Context(); ; {
			c, of := l.admit(ctx)
			if c == nil {
				break
			}
			all, ends = append(all, c), append(ends, of)
		}
		if len(all) != l.atOnce {
			t.Fatalf("%d clients at once, want %d", len(all), l.atOnce)
		}
		time.Sleep(time.Hour)
		l.admit(t.Context())
		if ends[0].Err() != nil {
			t.Error("the time of a stop counts")
		}
		for l.now <= all[0].late {
			l.admit(t.Context())
		}
		if context.Cause(ends[0]) != errPatience || ends[1].Err() != nil {
			t.Errorf("clients end by %v and %v", context.Cause(ends[0]), ends[1].Err())
		}
		l.visit(ends[0], all[0])
		if c := l.Counts(); c != (LoadCounts{Failed: 1}) || len(l.waiting) != l.atOnce-1 {
			t.Errorf("%+v, %d wait", c, len(l.waiting))
		}
		for i := range all {
			all[i].giveUp(nil)
		}
	})
}

// Long connections are opened again when their backend dies. One that ends while its
// backend lives counts as a failure.
func TestKept(t *testing.T) {
	t.Parallel()
	b := start(t, 0)
	k := NewKept(b.Addrs()[0].String(), b)
	k.count, k.every = 3, time.Millisecond
	end := background(t, k.Run)
	all := func() bool { return k.Counts().Open == k.count }
	verify := func(want int) {
		t.Helper()
		await(t, "all are open", all)
		if alive, all := k.Verify(t.Context(), k.Snapshot()); alive != want || all != want {
			t.Errorf("%d of %d carry lines, want %d", alive, all, want)
		}
	}
	verify(3)
	before := k.Snapshot()
	b[0].Kill()
	await(t, "all have ended", func() bool { return k.Counts().Open == 0 })
	if err := b[0].Return(); err != nil {
		t.Fatal(err)
	}
	verify(3)
	if c := k.Counts(); c.OpenedAgain != 3 || c.Failed != 0 || c.Oldest <= 0 {
		t.Errorf("after a kill: %+v", c)
	}
	if alive, all := k.Verify(t.Context(), before); alive != 0 || all != 0 {
		t.Errorf("%d of %d before the kill are there", alive, all)
	}
	before = k.Snapshot()
	before[0].Close()
	await(t, "a failure is counted", func() bool { return k.Counts().Failed == 1 })
	if alive, all := k.Verify(t.Context(), before); alive != 2 || all != 3 {
		t.Errorf("%d of %d are there, want 2 of 3", alive, all)
	}
	verify(3)
	end()
	if c := k.Counts(); c.OpenedAgain != 3 || c.Failed != 1 || c.Open != 0 {
		t.Errorf("at the end: %+v", c)
	}
}
