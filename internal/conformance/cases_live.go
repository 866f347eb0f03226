//go:build linux

package conformance

import (
	"bufio"
	"context"
	"fmt"
	"maps"
	"net"
	"net/http"
	"net/url"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"usher/internal/api"
)

func liveCases() []Case {
	const group = "live change"
	return []Case{
		{Name: "reload-under-load-loses-nobody", Group: group, Heavy: true, Run: reloadUnderLoad},
		{Name: "reload-keeps-clients-that-wait", Group: group, Run: reloadKeepsWaiting},
		{Name: "bad-file-changes-nothing", Group: group, Run: badFile},
		{Name: "removed-backend-ends-its-flows", Group: group, Run: func(c *C) { removed(c, "fin") }},
		{Name: "removed-backend-resets-its-flows", Group: group, Run: func(c *C) { removed(c, "reset") }},
		{Name: "udp-flow-outlives-a-reload", Group: group, Run: udpReload},
		{Name: "random-changes-lose-nobody", Group: group, Heavy: true, Limit: 20 * time.Minute, Run: randomChanges},
	}
}

// randomChanges changes services in a row, while clients stream both ways and verify
// every byte, and others count datagrams. None is refused, reset or lost but those whose
// end a change was told to make. Afterwards the process holds what it held before.
func randomChanges(c *C) {
	u, ok := c.target.(*Usher)
	if !ok {
		c.Skipf("the changes are made in the words of usher")
	}
	changes, clients, askers := 100, 40, 8
	switch {
	case c.o.Changes > 0:
		changes, clients, askers = c.o.Changes, 300, 32
	case c.o.Short:
		changes, clients, askers = 40, 20, 4
	}
	c.Logf("seed %d", c.seed)
	ch := startLive(c, u)
	const (
		spare = 1 // the checks may keep one for the next connect
		few   = 3 // goroutines of what runs by the clock, as checks; a kind of change that leaks comes more often
	)
	empty, goroutines := ch.p.Descriptors().Sockets, ch.goroutines()
	phase := func(changes int) {
		lost := ch.phase(changes, clients, askers)
		ch.reset()
		settled(c, ch.p, empty+spare)
		c.Wait(6*c.patience(), fmt.Sprintf("the proxy to have %d goroutines as before, and %d more", goroutines, few), func() bool {
			return ch.goroutines() <= goroutines+few
		})
		if lost > 0 {
			c.Fatalf("%d datagrams are lost, and none without changes", lost)
		}
	}
	phase(changes / 10) // fills the pools
	noMore(c, ch.p, spare, func() { phase(changes) })
	ch.p.Drain()
	if status, err := ch.p.Exit(c.patience()); err != nil || status != 0 {
		c.Errorf("exit status %d, %v", status, err)
	}
}

// startLive runs an usher with services of a file and of the API.
func startLive(c *C, u *Usher) *changer {
	ch := &changer{c: c, r: c.Rand(1), binary: u.Path, services: make(liveServices), made: make(map[string]int), kept: make(map[string]bool)}
	dir := c.TempDir()
	ch.file, ch.api = filepath.Join(dir, "usher.yaml"), api.NewClient(filepath.Join(dir, "usher.sock"))
	t := &traffic{c: c}
	ch.traffic = t
	backends := func(isUDP bool, n int) (addrs []string) {
		for range n {
			if isUDP {
				addrs = append(addrs, c.ServeUDP(answerUDP).Addr)
			} else {
				addrs = append(addrs, c.Serve(t.serve).Addr)
			}
		}
		return addrs
	}
	listener := func(isUDP bool) string {
		network := map[bool]string{true: "udp"}[isUDP]
		addr := net.JoinHostPort("127.0.0.1", strconv.Itoa(c.listenerPort(Listener{Host: "127.0.0.1", Network: network})))
		if isUDP {
			t.udp = append(t.udp, addr)
		} else {
			t.tcp = append(t.tcp, addr)
		}
		return addr
	}
	ch.names = make(map[bool][]*liveService)
	for _, isUDP := range []bool{false, true} {
		name := map[bool]string{false: "web", true: "dns"}[isUDP]
		for i := range 4 {
			s := newLiveService(fmt.Sprint(name, i), false, isUDP, "", backends(isUDP, 4))
			ch.names[isUDP] = append(ch.names[isUDP], s)
			if i < 2 { // the others come when a listener moves to them
				s.listen = []string{listener(isUDP), listener(isUDP)}
				ch.services[s.name] = s
			}
		}
		s := newLiveService("api-"+map[bool]string{false: "tcp", true: "udp"}[isUDP], true, isUDP, listener(isUDP), backends(isUDP, 4))
		ch.services[s.name] = s
	}
	ch.extra = backends(false, 4)
	for range 3 {
		ch.spares = append(ch.spares, net.JoinHostPort("127.0.0.1", strconv.Itoa(c.listenerPort(Listener{Host: "127.0.0.1"}))))
	}
	// What the process begins once, and keeps, is there from the start.
	maps.Copy(ch.services["web0"].options, map[string]string{"persist": "10m/32", "health": "tcp,interval=200ms,timeout=200ms,fall=100"})
	ch.start = ch.services.clone()
	ch.write()
	ch.p = &Proxy{c: c, addrs: ch.services["web0"].listen, how: Command{
		Path: u.Path, Env: u.Env, Drain: syscall.SIGTERM, Stop: syscall.SIGTERM, Ready: `"msg":"serving"`,
		Args: []string{"--config", ch.file, "--control", ch.api.Path(), "--engine", u.Engine, "--log-format", "json"},
	}}
	ch.p.launch(Config{})
	for _, s := range ch.services.of(func(s *liveService) bool { return s.isOfAPI }) {
		m := s.mapping()
		m["name"] = s.name
		c.Must(ch.api.AddService(c.ctx, ch.body(m)))
	}
	ch.look()
	return ch
}

// phase makes changes under load, and returns how many datagrams more were lost than
// before the first of them.
func (ch *changer) phase(changes, clients, askers int) int64 {
	c, t := ch.c, ch.traffic
	before := t.datagrams.Load()
	t.begin(clients, askers)
	c.Wait(2*c.patience(), "datagrams to be answered", func() bool { return t.datagrams.Load() > before+int64(20*askers) })
	control := t.lost.Load()
	ctx, cancel := context.WithCancel(c.ctx)
	reading := c.Begin(func() error { return ch.read(ctx) })
	for i := range changes {
		ch.change()
		c.Sleep(time.Duration(ch.r.IntN(20)) * time.Millisecond)
		if c.hasFailed() {
			c.Fatalf("change %d", i)
		}
	}
	cancel()
	c.Must(reading())
	t.end()
	c.Logf("changes: %v; flows: %d served, %d told to end; datagrams: %d answered, %d told to be lost, %d lost",
		ch.made, t.served.Load(), t.ended.Load(), t.datagrams.Load(), t.cutOff.Load(), t.lost.Load())
	return t.lost.Load() - control
}

// read reads all that usher shows, again and again.
func (ch *changer) read(ctx context.Context) error {
	for ctx.Err() == nil {
		for _, err := range ch.api.Flows(ctx, url.Values{"sort": {"age"}, "top": {"10"}}) {
			if err != nil && ctx.Err() == nil {
				return err
			}
		}
		if _, err := ch.api.Config(ctx); err != nil && ctx.Err() == nil {
			return err
		}
		select {
		case <-time.After(100 * time.Millisecond):
		case <-ctx.Done():
		}
	}
	return nil
}

// reset gives all services the backends and options of the start, and ends all flows.
func (ch *changer) reset() {
	for _, s := range ch.services.of(func(*liveService) bool { return true }) {
		for _, b := range s.backends {
			if b.override() != "" {
				ch.c.Must(ch.api.Resume(ch.c.ctx, s.name, b.addr))
			}
		}
	}
	for _, s := range ch.services.of(func(s *liveService) bool { return s.isOfAPI }) {
		if _, stays := ch.start[s.name]; !stays {
			ch.c.Must(ch.api.RemoveService(ch.c.ctx, s.name))
		}
	}
	ch.services = ch.start.clone()
	for _, s := range ch.services.of(func(s *liveService) bool { return s.isOfAPI }) {
		ch.c.Must(ch.api.SetService(ch.c.ctx, s.name, ch.body(s.mapping())))
	}
	ch.write()
	ch.c.Must(ch.api.Reload(ch.c.ctx))
	ch.good++
	ch.look()
	_, err := ch.api.Kill(ch.c.ctx, url.Values{"all": {"true"}})
	ch.c.Must(err)
}

// goroutines returns how many the process has.
func (ch *changer) goroutines() int {
	client := http.Client{Transport: &http.Transport{
		DisableKeepAlives: true,
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "unix", ch.api.Path())
		},
	}}
	answer, err := client.Get("http://usher/metrics")
	ch.c.Must(err)
	defer answer.Body.Close()
	for lines := bufio.NewScanner(answer.Body); lines.Scan(); {
		if text, ok := strings.CutPrefix(lines.Text(), "go_goroutines "); ok {
			n, err := strconv.Atoi(text)
			ch.c.Must(err)
			return n
		}
	}
	ch.c.Fatalf("/metrics has no go_goroutines")
	return 0
}
