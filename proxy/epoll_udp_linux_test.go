package proxy

import (
	"bytes"
	"maps"
	"net"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"usher/conntrack"
	"usher/proxy/flow"
	"usher/proxy/limit"
	"usher/proxy/proxyheader"
)

// epollUDP makes a server of one worker that does not run yet: what clients send
// before Start comes to it as one batch.
func epollUDP(t testing.TB, c ServiceConfig) (*Server, *Service, netip.AddrPort) {
	t.Helper()
	s, err := newServer(Options{Engine: "epoll", Workers: 1}, c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	svc := s.Services()[0]
	return s, svc, svc.Config().Listeners[0].Addr
}

// sendGroup has the kernel cut p into datagrams (UDP_SEGMENT).
func sendGroup(t testing.TB, c *net.UDPConn, p []byte, segment int) {
	t.Helper()
	control := make([]byte, unix.CmsgSpace(2))
	appendControl(control[:0], unix.IPPROTO_UDP, unix.UDP_SEGMENT, uint16(segment))
	if _, _, err := c.WriteMsgUDPAddrPort(p, control, netip.AddrPort{}); err != nil {
		t.Skipf("no UDP_SEGMENT: %v", err)
	}
}

// TestTrainsAreCutAgain sends groups and datagrams in turn, of which the listening
// socket gets the groups whole, and so does the session's socket on the way back.
func TestTrainsAreCutAgain(t *testing.T) {
	t.Parallel()
	for _, gso := range []bool{true, false} {
		s, _, at := epollUDP(t, udpService(t, UDPConfig{}, udpEcho(t)))
		s.bindings[address{network: "udp", at: at}].sockets.(*epollSockets).udp[0].gso = gso
		c := dialUDP(t, at)
		_ = c.SetReadBuffer(1 << 20)
		var want []int
		group := func(n, segment, last int) {
			sendGroup(t, c, bytes.Repeat([]byte{byte(len(want))}, n*segment+last), segment)
			for range n {
				want = append(want, segment)
			}
			if last > 0 {
				want = append(want, last)
			}
		}
		group(10, 100, 0)
		group(5, 100, 1)
		say(t, c, "")
		want = append(want, 0)
		group(60, 8, 3)
		group(3, 1200, 0)
		group(2, 1200, 1199)
		group(2, 30000, 0)
		s.Start()
		for i, n := range want {
			if got := heard(t, c); len(got) != n {
				t.Fatalf("offload %v: datagram %d of %d bytes came back as %d bytes", gso, i, n, len(got))
			}
		}
	}
}

// TestTrainsWithHeaders passes groups on to a backend that is told of the client, and then by a
// socket that cannot cut groups.
func TestTrainsWithHeaders(t *testing.T) {
	t.Parallel()
	for _, every := range []bool{false, true} {
		told := make(chan proxyheader.Header, 300)
		config := udpService(t, UDPConfig{}, toldUDP(t, told))
		config.SendProxy = flow.SendProxy{Version: 2, Every: every}
		s, _, at := epollUDP(t, config)
		c := dialUDP(t, at)
		_ = c.SetReadBuffer(1 << 20)
		var want []int
		for _, group := range [][2]int{{1000, 100}, {501, 100}, {483, 8}, {3600, 1200}, {5, 5}, {600, 599}, {900, 20}} {
			n, segment := group[0], group[1]
			sendGroup(t, c, make([]byte, n), segment)
			for ; n > 0; n -= segment {
				want = append(want, min(n, segment))
			}
		}
		s.Start()
		heads := 0
		for i, n := range want {
			got := heard(t, c)
			if len(got) != min(1+n, 1000) {
				t.Fatalf("every %v: datagram %d of %d bytes came back as %d bytes", every, i, n, len(got))
			}
			if got[0] == 'h' {
				heads++
			} else if every || i == 0 {
				t.Errorf("every %v: datagram %d came without a header", every, i)
			}
		}
		if heads < 1 || every && heads != len(want) {
			t.Errorf("every %v: %d headers of %d datagrams", every, heads, len(want))
		}
	}
}

// TestTrainLongerThanTheKernelCuts has more parts than one send may have here.
func TestTrainLongerThanTheKernelCuts(t *testing.T) {
	t.Parallel()
	s, _, at := epollUDP(t, udpService(t, UDPConfig{}, udpEcho(t)))
	c := dialUDP(t, at)
	sendGroup(t, c, make([]byte, 100*10+5), 10)
	s.Start()
	for i := range 101 {
		want := 10
		if i == 100 {
			want = 5
		}
		if got := heard(t, c); len(got) != want {
			t.Fatalf("datagram %d came back as %d bytes", i, len(got))
		}
	}
}

// TestOnePacketSplitsTrains has each datagram of a group scheduled by itself.
func TestOnePacketSplitsTrains(t *testing.T) {
	t.Parallel()
	_, a := udpNamed(t, "a")
	_, b := udpNamed(t, "b")
	s, _, at := epollUDP(t, udpService(t, UDPConfig{OnePacket: true}, a, b))
	c := dialUDP(t, at)
	sendGroup(t, c, make([]byte, 100), 10)
	s.Start()
	count := map[byte]int{}
	for range 10 {
		count[heard(t, c)[0]]++
	}
	if count['a'] != 5 || count['b'] != 5 {
		t.Errorf("answers: %v", count)
	}
}

// TestRefusalInsideABatch sends a batch of which every datagram is a message of its
// own. A refusal in the middle of sendmmsg is told by a short count alone.
func TestRefusalInsideABatch(t *testing.T) {
	t.Parallel()
	gone, dead := udpBackend(t, nil)
	gone.Close()
	s, svc, at := epollUDP(t, udpService(t, UDPConfig{}, dead, udpEcho(t)))
	c := dialUDP(t, at)
	const n = 30
	for i := range n {
		say(t, c, strings.Repeat("x", 100+i))
	}
	s.Start()
	got, last := 0, 99
	for ; last != 100+n-1; got++ {
		m := len(heard(t, c))
		if m <= last {
			t.Fatalf("%d bytes came after %d", m, last)
		}
		last = m
	}
	if got < n-3 || svc.Config().Pool.Backends()[0].Failures() != 1 {
		t.Errorf("%d of %d datagrams came back, %d failures", got, n, svc.Config().Pool.Backends()[0].Failures())
	}
}

// TestEvictionInsideABatch has each client of a batch take the place of one that has
// waited in vain, and its slot, while the batch holds a datagram of that one too.
func TestEvictionInsideABatch(t *testing.T) {
	t.Parallel()
	const flows = batchSlots / 4
	_, at := udpBackend(t, func(c *net.UDPConn, p []byte, from netip.AddrPort) {
		if string(p) != "mute" {
			_, _ = c.WriteToUDPAddrPort(p, from)
		}
	})
	s, svc, addr := epollUDP(t, udpService(t, UDPConfig{MaxFlows: flows}, at))
	s.Start()
	var silent, asking []*net.UDPConn
	for range flows {
		c := dialUDP(t, addr)
		say(t, c, "mute")
		silent = append(silent, c)
	}
	eventually(t, "all have a flow", func() bool { return svc.Active() == flows })
	begun := s.Now()
	eventually(t, "their time of grace is over", func() bool { return s.Now() > begun+promisedGrace })
	hold, held := make(chan struct{}), make(chan struct{})
	s.engine.(*epollEngine).workers[0].enqueue(func() {
		close(held)
		<-hold
	})
	<-held
	for _, old := range silent {
		c := dialUDP(t, addr)
		say(t, old, "mute")
		say(t, c, c.LocalAddr().String())
		say(t, c, c.LocalAddr().String())
		asking = append(asking, c)
	}
	close(hold)
	for _, c := range asking {
		for range 2 {
			if got := heard(t, c); got != c.LocalAddr().String() {
				t.Errorf("%v got %q", c.LocalAddr(), got)
			}
		}
	}
	for _, c := range silent {
		_ = c.SetReadDeadline(time.Now())
		var b [100]byte
		if n, err := c.Read(b[:]); err == nil {
			t.Errorf("%v got %q", c.LocalAddr(), b[:n])
		}
	}
	for r := range s.Flows() {
		if want := uint64(2 * len(r.Key.Client().String())); r.Up != want {
			t.Errorf("%d bytes of %v were passed on, want %d", r.Up, r.Key.Client(), want)
		}
	}
	if evicted, dropped := svc.Ended(flow.Evicted), svc.Dropped(flow.DropRefused); evicted != flows || dropped != flows {
		t.Errorf("%d of %d clients were evicted with %d datagrams", evicted, flows, dropped)
	}
}

// TestStaleEventOfASlot has an event that was meant for an earlier session in the
// slot. It must not be taken for one of the session that has it now.
func TestStaleEventOfASlot(t *testing.T) {
	t.Parallel()
	b, at := udpBackend(t, nil)
	s, svc, addr := epollUDP(t, udpService(t, UDPConfig{}, at))
	w := s.engine.(*epollEngine).workers[0] // it does not run: the test is its loop
	s.engine.serve(slices.Collect(maps.Values(s.bindings)))
	begin := func() (id conntrack.ID, event unix.EpollEvent, c *net.UDPConn) {
		c = dialUDP(t, addr)
		say(t, c, "x")
		w.now = s.Now()
		w.udp.receive(0)
		some, _ := w.udp.sessions.InTurn(0)
		for x := range some {
			id = x.ID
		}
		return id, unix.EpollEvent{Events: unix.EPOLLIN, Fd: int32(id), Pad: w.udp.socket(id).gen | udpGen}, c
	}
	first, stale, _ := begin()
	w.udp.sessions.CutFlows(flow.CutTarget{Service: svc}, 0, w.now)
	w.dispatch(&stale) // of a slot that nobody has
	second, event, c := begin()
	if first != second || stale == event {
		t.Fatalf("slot %d, then %d; events %v, %v", first, second, stale, event)
	}
	var buffer [10]byte
	for range 2 {
		_ = b.SetReadDeadline(time.Now().Add(time.Minute))
		_, from, err := b.ReadFromUDPAddrPort(buffer[:])
		if err != nil {
			t.Fatal(err)
		}
		_, _ = b.WriteToUDPAddrPort([]byte("reply"), from) // the first one goes nowhere
	}
	replied := func() bool {
		for row := range s.Flows() {
			return row.Down > 0
		}
		return false
	}
	if w.dispatch(&stale); replied() {
		t.Error("a stale event was taken for the session's own")
	}
	if w.dispatch(&event); !replied() {
		t.Error("the session's own event was not heard")
	}
	w.udp.flush()
	if got := heard(t, c); got != "reply" {
		t.Errorf("got %q", got)
	}
	// Generations wrap without touching the bit that marks them.
	d := w.udp
	d.socket(second).gen = udpGen - 1
	d.close(d.sessions.At(second))
	if e := d.connect(d.sessions.At(second), d.socket(second)); e != noError || d.socket(second).gen != 0 {
		t.Errorf("%v, generation %d after the last one", e, d.socket(second).gen)
	}
}

// TestOtherWorkerMakesRoom fills a service with flows of one worker that get no
// answer. A client of the other one is refused, and soon has the place of one of them.
func TestOtherWorkerMakesRoom(t *testing.T) {
	t.Parallel()
	const flows = 4
	_, at := udpBackend(t, func(c *net.UDPConn, p []byte, from netip.AddrPort) {
		if string(p) != "mute" {
			_, _ = c.WriteToUDPAddrPort(p, from)
		}
	})
	s, svc, addr := startUDP(t, "epoll", udpService(t, UDPConfig{MaxFlows: flows, Replies: 1}, at))
	workers := s.engine.(*epollEngine).workers
	has := func() (n [2]int) { // flows of each worker
		for i, w := range workers {
			for range w.udp.sessions.Rows() {
				n[i]++
			}
		}
		return n
	}
	var of [2][]*net.UDPConn // clients, by their worker
	for len(of[0]) < 1 || len(of[1]) < flows {
		c := dialUDP(t, addr)
		say(t, c, "mute")
		eventually(t, "the flow begins", func() bool { return svc.Active() == 1 })
		w := has()[1]
		of[w] = append(of[w], c)
		s.CutBackend(svc.Config().Pool.Backends()[0], flow.Reset)
	}
	begun := s.Now()
	for _, c := range of[1][:flows] {
		say(t, c, "mute")
	}
	eventually(t, "one worker has all", func() bool { return has() == [2]int{0, flows} })
	c := of[0][0]
	for svc.Ended(flow.ServiceFull) == 0 {
		say(t, c, "who?")
		time.Sleep(time.Millisecond)
	}
	if s.Now() < begun+promisedGrace && svc.Ended(flow.Evicted) > 0 {
		t.Error("a flow was evicted in its time of grace")
	}
	var b [10]byte
	for n := 0; n == 0; {
		if s.Now() > begun+30*time.Second {
			t.Fatalf("no room: %v flows", has())
		}
		say(t, c, "who?")
		_ = c.SetReadDeadline(time.Now().Add(20 * time.Millisecond))
		n, _ = c.Read(b[:])
	}
	if n := svc.Ended(flow.Evicted); n != 1 {
		t.Errorf("%d flows were evicted for one client", n)
	}
}

func TestOversizedIsCountedAndSurvived(t *testing.T) {
	t.Parallel()
	config := udpService(t, UDPConfig{})
	config.Listeners[0].Addr = netip.MustParseAddrPort("[::1]:0")
	config.Pool.Update(specs(udpEcho(t)), 0)
	s, err := newServer(Options{Engine: "epoll", Workers: 1}, config)
	if err != nil {
		t.Skipf("no IPv6: %v", err)
	}
	t.Cleanup(s.Close)
	s.Start()
	svc := s.Services()[0]
	c := dialUDP(t, svc.Config().Listeners[0].Addr)
	// IPv6 has room for 20 bytes more than the backend's IPv4.
	if _, err := c.Write(make([]byte, maxDatagram+1)); err != nil {
		t.Skip(err)
	}
	eventually(t, "it is counted", func() bool { return svc.Dropped(flow.DropOversized) == 1 })
	if got := ask(t, c, "small"); got != "small" {
		t.Errorf("got %q", got)
	}
}

// rawDatagrams is a client and a backend in one, on blocking sockets.
type rawDatagrams struct {
	client, backend int
	buffer          []byte
	from            unix.RawSockaddrInet4
}

func newRawDatagrams(t testing.TB, c UDPConfig, edit ...func(*ServiceConfig)) *rawDatagrams {
	t.Helper()
	p := &rawDatagrams{buffer: make([]byte, 64<<10)}
	open := func() int {
		fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { unix.Close(fd) })
		if err := unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &unix.Timeval{Sec: 10}); err != nil {
			t.Fatal(err)
		}
		return fd
	}
	p.client, p.backend = open(), open()
	if err := unix.Bind(p.backend, &unix.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}); err != nil {
		t.Fatal(err)
	}
	sa, err := unix.Getsockname(p.backend)
	if err != nil {
		t.Fatal(err)
	}
	at := netip.AddrPortFrom(netip.MustParseAddr("127.0.0.1"), uint16(sa.(*unix.SockaddrInet4).Port))
	config := udpService(t, c, at)
	for _, edit := range edit {
		edit(&config)
	}
	_, addr := start(t, Options{Engine: "epoll", Workers: 1}, config)
	var server sockaddr
	server.setAddrPort(netip.MustParseAddrPort(strings.TrimPrefix(addr, "udp://")))
	if e := connect(int32(p.client), &server); e != noError {
		t.Fatal(e)
	}
	return p
}

// exchange sends a burst, answers it and takes the answers.
func (p *rawDatagrams) exchange(t testing.TB, n, size int) {
	for range n {
		if _, err := uninterrupted(func() (int, error) { return unix.Write(p.client, p.buffer[:size]) }); err != nil {
			t.Fatal(err)
		}
	}
	for range n {
		fromLen := uint32(unix.SizeofSockaddrInet4)
		e := unix.EINTR
		for e == unix.EINTR {
			_, _, e = unix.Syscall6(unix.SYS_RECVFROM, uintptr(p.backend), uintptr(unsafe.Pointer(&p.buffer[0])), uintptr(len(p.buffer)),
				0, uintptr(unsafe.Pointer(&p.from)), uintptr(unsafe.Pointer(&fromLen)))
		}
		if e != 0 {
			t.Fatal(e)
		}
		_, _, e = unix.Syscall6(unix.SYS_SENDTO, uintptr(p.backend), uintptr(unsafe.Pointer(&p.buffer[0])), uintptr(size),
			0, uintptr(unsafe.Pointer(&p.from)), uintptr(fromLen))
		if e != 0 {
			t.Fatal(e)
		}
	}
	for range n {
		if m, err := uninterrupted(func() (int, error) { return unix.Read(p.client, p.buffer) }); err != nil || m != size {
			t.Fatal(m, err)
		}
	}
}

func TestDatagramsAllocateNothing(t *testing.T) {
	p := newRawDatagrams(t, UDPConfig{})
	t.Run("one by one", func(t *testing.T) { steady(t, 2000, func() { p.exchange(t, 1, 128) }) })
	t.Run("bursts", func(t *testing.T) { steady(t, 500, func() { p.exchange(t, 32, 1200) }) })
	p = newRawDatagrams(t, UDPConfig{Replies: 1})
	t.Run("flows", func(t *testing.T) { steady(t, 2000, func() { p.exchange(t, 1, 128) }) })
	p = newRawDatagrams(t, UDPConfig{Replies: 1}, func(c *ServiceConfig) { c.SendProxy = flow.SendProxy{Version: 2} })
	t.Run("headers", func(t *testing.T) { steady(t, 2000, func() { p.exchange(t, 1, 128) }) })
	p = newRawDatagrams(t, UDPConfig{Replies: 1}, func(c *ServiceConfig) {
		c.Access = flow.AccessConfig{Deny: []netip.Prefix{netip.MustParsePrefix("192.0.2.0/24")}, ClientRate: limit.Rate{Events: 1 << 20, Per: time.Second, Burst: 1 << 20}}
	})
	t.Run("judged", func(t *testing.T) { steady(t, 2000, func() { p.exchange(t, 1, 128) }) })
}

func BenchmarkDatagram(b *testing.B) {
	for _, each := range []struct {
		name string
		c    UDPConfig
	}{{"one flow", UDPConfig{}}, {"a flow each", UDPConfig{Replies: 1}}} {
		b.Run(each.name, func(b *testing.B) {
			p := newRawDatagrams(b, each.c)
			b.ReportAllocs()
			for b.Loop() {
				p.exchange(b, 1, 128)
			}
		})
	}
}

// TestRepliesBeyondATurn: a socket that was left with replies, since its turn was over, is
// read on in the next one.
func TestRepliesBeyondATurn(t *testing.T) {
	t.Parallel()
	b, at := udpBackend(t, nil)
	s, _, addr := epollUDP(t, udpService(t, UDPConfig{}, at))
	w := s.engine.(*epollEngine).workers[0] // it does not run: the test is its loop
	s.engine.serve(slices.Collect(maps.Values(s.bindings)))
	say(t, dialUDP(t, addr), "x")
	w.now = s.Now()
	w.udp.receive(0)
	_, from, err := b.ReadFromUDPAddrPort(make([]byte, 8))
	if err != nil {
		t.Fatal(err)
	}
	const replies = replyTurn + 1
	for range replies {
		if _, err := b.WriteToUDPAddrPort([]byte("y"), from); err != nil {
			t.Fatal(err)
		}
	}
	for n := 1; n > 0; w.udp.flush() {
		n = epollKeep(w.ep, w.events, 0)
		for i := range n {
			w.dispatch(&w.events[i])
		}
	}
	for r := range s.Flows() {
		if r.Down != replies {
			t.Errorf("%d of %d replies were passed on", r.Down, replies)
		}
	}
}
