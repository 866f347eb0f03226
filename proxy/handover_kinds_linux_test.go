package proxy

import (
	"bytes"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"usher/balancer"
	"usher/proxy/flow"
)

// handedOver is a server with one service that is handed over.
type handedOver struct {
	*Server
	t    *testing.T
	c    *ServiceConfig
	addr string
}

func startHandedOver(t *testing.T, c ServiceConfig) *handedOver {
	t.Helper()
	s, addr := start(t, Options{Engine: "epoll", Workers: 2}, c)
	return &handedOver{s, t, &c, addr}
}

// next hands the server over.
func (h *handedOver) next() {
	h.t.Helper()
	h.Server = handOver(h.t, h.Server, h.c)
}

// nextWith hands the server over in a state that is as wanted.
func (h *handedOver) nextWith(what string, isWanted func(*State) bool) {
	h.t.Helper()
	for deadline := time.Now().Add(30 * time.Second); ; {
		st, err := h.Suspend()
		if err != nil {
			h.t.Fatal(err)
		}
		if isWanted(st) {
			h.Server = takeOver(h.t, h.Server, st, h.c)
			return
		}
		h.Resume()
		if time.Now().After(deadline) {
			h.t.Fatalf("not in time: %s", what)
		}
		time.Sleep(time.Millisecond)
	}
}

// anyHalf reports whether a side of a connection is so.
func anyHalf(is func(*halfState) bool) func(*State) bool {
	return func(st *State) bool {
		for i := range st.Workers {
			for j := range st.Workers[i].Conns {
				if c := &st.Workers[i].Conns[j]; is(&c.Half[0]) || is(&c.Half[1]) {
					return true
				}
			}
		}
		return false
	}
}

func TestHalfClosedFlowsAreHandedOver(t *testing.T) {
	t.Parallel()
	goOn := make(chan struct{})
	h := startHandedOver(t, service(t, serve(t, func(c *net.TCPConn) {
		what, _ := io.ReadAll(c)
		<-goOn
		_, _ = c.Write(append([]byte("got "), what...))
	})))
	c := dial(t, h.addr)
	_, _ = c.Write([]byte("all"))
	_ = c.CloseWrite()
	isHalf := func(st *State) bool {
		return anyHalf(func(half *halfState) bool { return half.Ended })(st)
	}
	h.nextWith("the client's FIN was passed on", isHalf)
	h.next()
	close(goOn)
	if answer, err := io.ReadAll(c); err != nil || string(answer) != "got all" {
		t.Errorf("%q, %v", answer, err)
	}

	got := make(chan string, 1)
	h = startHandedOver(t, service(t, serve(t, func(c *net.TCPConn) {
		_, _ = c.Write([]byte("hello"))
		_ = c.CloseWrite()
		what, _ := io.ReadAll(c)
		got <- string(what)
	})))
	c = dial(t, h.addr)
	if greeting, err := io.ReadAll(c); err != nil || string(greeting) != "hello" {
		t.Errorf("%q, %v", greeting, err)
	}
	h.nextWith("the backend's FIN was passed on", isHalf)
	_, _ = c.Write([]byte("still "))
	h.next()
	_, _ = c.Write([]byte("here"))
	_ = c.CloseWrite()
	if what := <-got; what != "still here" {
		t.Errorf("the backend got %q", what)
	}
	eventually(t, "the flow ends in order", func() bool { return h.Services()[0].Ended(flow.Finished) == 1 })
}

// TestBytesOnTheirWayAreHandedOver: what was read and not sent, in a buffer or in a pipe, and
// what the kernel has. It does not run in parallel: an ordinary user has a budget of pipe
// pages, which other tests use up.
func TestBytesOnTheirWayAreHandedOver(t *testing.T) {
	const size = 16 << 20
	sent := make([]byte, size)
	rand.NewChaCha8([32]byte{1}).Read(sent)
	for name, is := range map[string]func(*halfState) bool{
		"in a pipe":   func(half *halfState) bool { return half.Pipe != nil },
		"in a buffer": func(half *halfState) bool { return len(half.Rest) > 0 },
	} {
		h := startHandedOver(t, service(t, serve(t, func(c *net.TCPConn) {
			for rest := sent; len(rest) > 0; {
				n := min(len(rest), 1<<20)
				if name == "in a buffer" { // no reads that are large
					n = min(len(rest), 8<<10)
					time.Sleep(100 * time.Microsecond)
				}
				if _, err := c.Write(rest[:n]); err != nil {
					return
				}
				rest = rest[n:]
			}
		})))
		c := dial(t, h.addr)
		_ = c.SetReadBuffer(256 << 10)
		received := make([]byte, size)
		at := 0
		found := false
		for at < size/4 { // the client reads little at a time, so it is soon as full as it gets
			st, err := h.Suspend()
			if err != nil {
				t.Fatal(err)
			}
			if found = anyHalf(is)(st); found {
				h.Server = takeOver(t, h.Server, st, h.c)
				break
			}
			h.Resume()
			time.Sleep(2 * time.Millisecond)
			n, err := io.ReadFull(c, received[at:at+size/1024])
			if at += n; err != nil {
				t.Fatalf("%s: %v after %d bytes", name, err, at)
			}
		}
		if !found && name == "in a pipe" {
			t.Error("nothing was found in a pipe")
		}
		for _, part := range []int{size / 4, size / 2, size} {
			n, err := io.ReadFull(c, received[at:max(part, at)])
			if at += n; err != nil {
				t.Fatalf("%s: %v after %d bytes", name, err, at)
			}
			h.next()
		}
		if rest, err := io.ReadAll(c); err != nil || len(rest) > 0 || !bytes.Equal(received, sent) {
			t.Errorf("%s: what arrived is not what was sent: %d bytes more, %v", name, len(rest), err)
		}
		if _, down := h.Services()[0].Bytes(); down > size {
			t.Errorf("%s: %d bytes down, sent were %d", name, down, size)
		}
		c.Close()
		eventually(t, "the flow is counted", func() bool {
			_, down := h.Services()[0].Bytes()
			return h.Open() == 0 && down == size
		})
	}
}

func TestFlowsThatConnectAreHandedOver(t *testing.T) {
	t.Parallel()
	c := service(t)
	path := filepath.Join(t.TempDir(), "full")
	ln, release := fullBacklog(t, path)
	c.Pool.Update([]balancer.Spec{{Endpoint: balancer.Endpoint{Path: path}, Weight: 1, Check: balancer.Up}}, 0)
	h := startHandedOver(t, c)
	conn := dial(t, h.addr)
	eventually(t, "it connects", func() bool { return h.Open() == 1 })
	h.next()
	h.next()
	go func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			go func() {
				_, _ = io.Copy(c, c)
				c.Close()
			}()
		}
	}()
	release()
	roundTrip(t, conn)

	h = startHandedOver(t, service(t, blackhole(t), echo(t)))
	for range 2 { // one of them begins with the backend that does not answer
		conn := dial(t, h.addr)
		eventually(t, "it connects", func() bool { return h.Open() > 0 })
		h.next()
		roundTrip(t, conn)
	}
}

func TestHeldClientsAreHandedOver(t *testing.T) {
	t.Parallel()
	c := service(t)
	c.Wait = time.Minute
	h := startHandedOver(t, c)
	conn := dial(t, h.addr)
	eventually(t, "it is held", func() bool { return h.Open() == 1 })
	h.next()
	h.c.Pool.Update(specs(echo(t)), 0)
	roundTrip(t, conn)
}

func TestQueuesAreHandedOver(t *testing.T) {
	t.Parallel()
	b := newBackend(t)
	c := limited(t, 1, b)
	c.QueueLength, c.QueueTimeout = 10, time.Minute
	h := startHandedOver(t, c)
	holder := dial(t, h.addr)
	roundTrip(t, holder)
	var waiting []*net.TCPConn
	for i := range 5 {
		waiting = append(waiting, dial(t, h.addr))
		eventually(t, "the client waits", func() bool { return h.Services()[0].Queued() == int64(i+1) })
	}
	h.next()
	h.next()
	if n := h.Services()[0].Queued(); n != 5 {
		t.Errorf("%d wait, want 5", n)
	}
	roundTrip(t, holder)
	holder.Close()
	for _, w := range waiting {
		roundTrip(t, w)
		h.next()
		w.Close()
	}
	eventually(t, "all flows end", func() bool { return h.Open() == 0 })
	if most := b.most.Load(); most > 2 { // its FIN is seen before the connection has gone
		t.Errorf("%d connections at a time", most)
	}
}

// TestRemovedBackendsAreHandedOver: they are there for their flows alone.
func TestRemovedBackendsAreHandedOver(t *testing.T) {
	t.Parallel()
	first, second := newBackend(t), newBackend(t)
	h := startHandedOver(t, service(t, first.addr))
	old := dial(t, h.addr)
	roundTrip(t, old)
	h.c.Pool.Update(specs(second.addr), 0)
	h.next()
	roundTrip(t, old)
	if all := h.c.Pool.Backends(); len(all) != 1 || all[0].Endpoint().Addr != second.addr || all[0].ID() != 2 {
		t.Errorf("the pool has %v", all)
	}
	roundTrip(t, dial(t, h.addr))
	if n := second.connections.Load(); n != 1 {
		t.Errorf("%d new flows at the new backend", n)
	}
	old.Close()
	eventually(t, "the old flow ends", func() bool { return h.Open() == 1 })
}

func TestSettingsOfFlowsAreHandedOver(t *testing.T) {
	t.Parallel()
	c := service(t, echo(t))
	c.IdleTimeout = time.Hour
	h := startHandedOver(t, c)
	old := dial(t, h.addr)
	roundTrip(t, old)
	h.c.IdleTimeout = 3 * time.Second
	apply(t, h.Server, *h.c)
	brief := dial(t, h.addr)
	roundTrip(t, brief)
	h.c.IdleTimeout = time.Hour
	h.next()
	eventually(t, "a flow ends that began with a brief timeout", func() bool { return h.Services()[0].Ended(flow.IdleTimeout) == 1 })
	roundTrip(t, old)
}

func TestAffinityIsHandedOver(t *testing.T) {
	t.Parallel()
	backends := []*backendOf{newBackend(t), newBackend(t), newBackend(t)}
	c := persistent(t, backends[0].addr, backends[1].addr, backends[2].addr)
	h := startHandedOver(t, c)
	first := dial(t, h.addr)
	roundTrip(t, first)
	at := slices.IndexFunc(backends, func(b *backendOf) bool { return b.connections.Load() > 0 })
	for i := range 5 {
		h.next()
		roundTrip(t, dial(t, h.addr))
		if n := backends[at].connections.Load(); n != int64(i+2) {
			t.Errorf("%d of %d connections at the client's backend", n, i+2)
		}
		rows := slices.Collect(h.Clients())
		if len(rows) != 1 || rows[0].Flows != i+2 {
			t.Errorf("clients %v", rows)
		}
	}
}

func TestSocketFilesAreHandedOver(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "socket")
	c := service(t, echo(t))
	c.Listeners = []Listener{{Network: "unix", Path: path, Mode: 0o600}}
	h := startHandedOver(t, c)
	ask := func() {
		t.Helper()
		conn, err := net.Dial("unix", path)
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		roundTrip(t, conn)
	}
	before, err := os.Lstat(path)
	if err != nil {
		t.Fatal(err)
	}
	h.next()
	ask()
	if now, err := os.Lstat(path); err != nil || !os.SameFile(before, now) || !now.ModTime().Equal(before.ModTime()) {
		t.Errorf("the file is another one: %v", err)
	}
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	h.next()
	apply(t, h.Server, *h.c) // it makes the file anew
	ask()
	h.Close()
	if _, err := os.Lstat(path); !os.IsNotExist(err) {
		t.Errorf("the file is left: %v", err)
	}
}

func TestSessionsAreHandedOver(t *testing.T) {
	t.Parallel()
	type reply struct {
		text []byte
		to   net.Addr
	}
	backend, err := net.ListenPacket("udp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { backend.Close() })
	hear := func() reply {
		t.Helper()
		_ = backend.SetReadDeadline(time.Now().Add(time.Minute))
		buffer := make([]byte, 1<<16)
		n, from, err := backend.ReadFrom(buffer)
		if err != nil {
			t.Fatal(err)
		}
		return reply{buffer[:n], from}
	}
	h := startHandedOver(t, udpService(t, UDPConfig{}, backend.LocalAddr().(*net.UDPAddr).AddrPort()))
	to := h.Services()[0].Config().Listeners[0].Addr
	for i := range 20 {
		c := dialUDP(t, to)
		say(t, c, fmt.Sprint("question ", i))
		r := hear()
		st, err := h.Suspend()
		if err != nil {
			t.Fatal(err)
		}
		// A reply and a datagram come while nobody reads them.
		if _, err := backend.WriteTo(append(r.text, " answered"...), r.to); err != nil {
			t.Fatal(err)
		}
		say(t, c, "more")
		h.Server = takeOver(t, h.Server, st, h.c)
		if got, want := heard(t, c), fmt.Sprint("question ", i, " answered"); got != want {
			t.Errorf("%q, want %q", got, want)
		}
		if again := hear(); string(again.text) != "more" || again.to.String() != r.to.String() {
			t.Errorf("%q from %v, want more from %v", again.text, again.to, r.to)
		}
	}
	svc := h.Services()[0]
	if svc.Accepted() != 20 || svc.Active() != 20 || svc.Dropped(flow.DropRefused) != 0 {
		t.Errorf("%d sessions of %d, %d datagrams dropped", svc.Active(), svc.Accepted(), svc.Dropped(flow.DropRefused))
	}
}

// TestDatagramsByThemselvesAreHandedOver: each is scheduled anew, by sessions that stay.
func TestDatagramsByThemselvesAreHandedOver(t *testing.T) {
	t.Parallel()
	_, a := udpNamed(t, "a")
	_, b := udpNamed(t, "b")
	h := startHandedOver(t, udpService(t, UDPConfig{OnePacket: true}, a, b))
	c := dialUDP(t, h.Services()[0].Config().Listeners[0].Addr)
	seen := make(map[string]bool)
	for range 5 {
		seen[ask(t, c, "who?")] = true
		seen[ask(t, c, "who?")] = true
		h.next()
	}
	if len(seen) != 2 || h.Open() != 2 {
		t.Errorf("%d flows, of %v", h.Open(), seen)
	}
}

// TestSessionsOfAGoneListenerAreHandedOver: their service and their address are gone.
func TestSessionsOfAGoneListenerAreHandedOver(t *testing.T) {
	t.Parallel()
	a, b := namedUDP(t, "a", UDPConfig{}), namedUDP(t, "b", UDPConfig{})
	a.Listeners[0].Addr = ownPorts(t, 1)[0]
	b.Listeners[0].Addr = a.Listeners[0].Addr
	s := startServer(t, Options{Engine: "epoll", Workers: 2}, a)
	var old []*net.UDPConn
	var first []string
	for range 8 {
		c := dialUDP(t, a.Listeners[0].Addr)
		old, first = append(old, c), append(first, ask(t, c, "who?"))
	}
	apply(t, s, b)
	for range 3 {
		s = handOver(t, s, &b)
		for i, c := range old {
			if got := ask(t, c, "who?"); got != first[i] {
				t.Errorf("the flow of %q went on as %q", first[i], got)
			}
		}
		if got := ask(t, dialUDP(t, a.Listeners[0].Addr), "who?"); got[0] != 'b' {
			t.Errorf("%q answers for b", got)
		}
	}
	if n := s.Open(); n != 11 {
		t.Errorf("%d flows, want 11", n)
	}
}

// TestSharedListenersAreHandedOver with the names that tell their services apart.
func TestSharedListenersAreHandedOver(t *testing.T) {
	t.Parallel()
	l := Listener{Network: "tcp", Addr: ownPorts(t, 1)[0]}
	a, b := namedAt(t, "a", l, "a.test", "*.a.test"), namedAt(t, "b", l, "", "b.test")
	b.Listeners[1].Protocol = "h2"
	s, err := newServer(Options{Engine: "epoll", Workers: 2}, a, b)
	if err != nil {
		t.Fatal(err)
	}
	s.Start()
	for range 2 {
		s = handOver(t, s, &a, &b)
		at := boundAt(t, s)
		wantNames(t, at, "a.test a", "x.a.test a", "x.test b")
		if got := at.Destination().Service.Name; got != "b" {
			t.Errorf("%q accounts for the clients", got)
		}
		if d := at.DestinationOf("b.test", func(p string) bool { return p == "h2" }); d == nil || d.Protocol != "h2" {
			t.Errorf("the protocol is lost: %v", d)
		}
		checkBooks(t, s)
	}
	apply(t, s, b)
	wantNames(t, boundAt(t, s), "a.test b", "x.test b")
}
