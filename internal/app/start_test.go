package app

import (
	"context"
	"io"
	"net"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"usher/internal/config"
	"usher/internal/discovery"
)

// greeter serves "hello" on an address that it returns.
func greeter(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var serving sync.WaitGroup
	serving.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			_, _ = io.WriteString(c, "hello")
			_ = c.Close()
		}
	})
	t.Cleanup(func() {
		l.Close()
		serving.Wait()
	})
	return l.Addr().String()
}

// silence answers as its book does, but for some names not at all until it is opened.
type silence struct {
	book
	silent string
	asked  chan struct{} // closed at the first question that gets no answer
	once   *sync.Once
	opened chan struct{}
}

func newSilence(b book, name string) silence {
	return silence{book: b, silent: name, asked: make(chan struct{}), once: new(sync.Once), opened: make(chan struct{})}
}

func (s silence) LookupNetIP(ctx context.Context, network, host string) ([]netip.Addr, error) {
	if host == s.silent {
		s.once.Do(func() { close(s.asked) })
		select {
		case <-s.opened:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
	return s.book.LookupNetIP(ctx, network, host)
}

// run runs a config until the test ends, and returns its log.
func run(t *testing.T, c *config.Config, names discovery.Lookup) *lines {
	t.Helper()
	c.Process.Workers = 2 // each run raises GOMAXPROCS, from which the next one would derive more
	ctx, cancel := context.WithCancel(t.Context())
	log := new(lines)
	result := make(chan error, 1)
	go func() {
		result <- Run(ctx, c, Env{Stdout: io.Discard, Stderr: log, Names: discovery.Resolver{Lookup: names}})
	}()
	t.Cleanup(func() {
		cancel()
		if err := <-result; err != nil {
			t.Error(err)
		}
	})
	return log
}

func TestStartIsNotHeldUpByNames(t *testing.T) {
	t.Parallel()
	backend := greeter(t)
	_, port, _ := net.SplitHostPort(backend)
	names := newSilence(book{"slow.test": {netip.MustParseAddr("127.0.0.1")}}, "slow.test")
	c := parse(t, config.Words{
		Listen:  []string{"plain=127.0.0.1:0", "named=127.0.0.1:0"},
		Backend: []string{"plain=" + backend, "named=slow.test:" + port, "named=missing.test:80"},
		Options: []config.Option{{Name: "log-level", Value: "debug"}},
	})
	began := time.Now()
	log := run(t, c, names)
	log.await(t, `"msg":"serving"`) // the slow name has no answer for as long as that
	if took := time.Since(began); took < firstLookups {
		t.Errorf("serving after %v, want %v", took, firstLookups)
	}
	plain := log.await(t, `"service":"plain","listen":\["([^"]+)"\]`)
	conn, err := net.Dial("tcp", plain)
	if err != nil {
		t.Fatal(err)
	}
	if got, err := io.ReadAll(conn); string(got) != "hello" {
		t.Errorf("got %q, %v", got, err)
	}
	conn.Close()
	for _, want := range []string{
		`"msg":"waiting for names","names":["slow.test"]`,
		`"msg":"going on without an answer for names","names":["slow.test"]`,
		`"msg":"name does not resolve, its backend is down","host":"missing.test"`,
	} {
		if !strings.Contains(log.String(), want) {
			t.Errorf("the log lacks %s:\n%s", want, log)
		}
	}
	close(names.opened)
	log.await(t, `"msg":"name resolves","host":"slow.test"`)
	log.await(t, `"msg":"backend up","service":"named"`)
	if strings.Contains(log.String(), "all backends") {
		t.Errorf("a false alarm:\n%s", log)
	}
	// What explains a service comes before its problems.
	if text := log.String(); strings.Index(text, "does not resolve") < strings.LastIndex(text, `"msg":"service"`) {
		t.Errorf("a problem before the services:\n%s", text)
	}
}

// An address of a name that is our own listener is left out, with one warning; a loop through two services too.
func TestNamesThatLeadBack(t *testing.T) {
	t.Parallel()
	free := func() string {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
		_, port, _ := net.SplitHostPort(l.Addr().String())
		return port
	}
	a, b, c, d := free(), free(), free(), free()
	u, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	_, e, _ := net.SplitHostPort(u.LocalAddr().String())
	u.Close()
	v4, v6 := netip.MustParseAddr("127.0.0.1"), netip.MustParseAddr("::1")
	names := book{"here.test": {v4, v6}, "lone.test": {v4}}
	cfg := parse(t, config.Words{
		Listen:  []string{"self=" + a, "one=" + b, "two=" + c, "lone=" + d, "dns=udp:" + e},
		Backend: []string{"self=here.test:" + a, "self=" + greeter(t), "one=here.test:" + c, "two=here.test:" + b, "lone=lone.test", "dns=lone.test", "dns=here.test:" + d},
		Options: []config.Option{{Name: "health", Value: "off"}},
	})
	log := run(t, cfg, names)
	log.await(t, `"msg":"serving"`)
	for want, times := range map[string]int{
		"backend 127.0.0.1:" + a + " of service self is its own listener":                                      1,
		"backend 127.0.0.1:" + b + " of service two leads back to its listener 127.0.0.1:" + c + ", by way of": 1,
		`"msg":"backend left out"`:                                                        4,
		`"so":"none is left, clients are refused"`:                                        1,
		"backend udp://127.0.0.1 of service dns is its own listener udp://127.0.0.1:" + e: 1,
	} {
		if got := strings.Count(log.String(), want); got != times {
			t.Errorf("logged %d times %s:\n%s", got, want, log)
		}
	}
	conn, err := net.Dial("tcp", "127.0.0.1:"+a)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if got, err := io.ReadAll(conn); string(got) != "hello" {
		t.Errorf("got %q, %v", got, err)
	}
}

// Told to end before the start is through, Run ends without having served, and leaves nothing behind.
func TestRunEndsDuringStart(t *testing.T) {
	t.Parallel()
	for _, early := range []bool{true, false} {
		// A busy machine may be slow now and then; who waits for the names is slow each time.
		took := firstLookups
		for try := 0; try < 5 && took >= firstLookups; try++ {
			took = runEndsDuringStart(t, early)
		}
		if took >= firstLookups {
			t.Errorf("ended before the start (%v): Run took %v", early, took)
		}
	}
}

// runEndsDuringStart returns how long Run went on.
func runEndsDuringStart(t *testing.T, early bool) (took time.Duration) {
	t.Helper()
	names := newSilence(nil, "slow.test")
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	c := parse(t, config.Words{Listen: []string{"127.0.0.1:0"}, Backend: []string{"slow.test:1"}})
	if early {
		cancel()
	} else {
		go func() {
			<-names.asked
			cancel()
		}()
	}
	var log lines
	began := time.Now()
	err := Run(ctx, c, Env{Stdout: io.Discard, Stderr: &log, Names: discovery.Resolver{Lookup: names}})
	took = time.Since(began)
	// On a slow machine the names may be given up before the end is heard, which is logged.
	if err != nil || took < firstLookups && log.String() != "" {
		t.Errorf("ended before the start (%v): error %v, log\n%s", early, err, &log)
	}
	return took
}

func TestWarningsAtStart(t *testing.T) {
	t.Parallel()
	backend := greeter(t)
	for _, tt := range []struct {
		backends, want string
		options        []config.Option
	}{
		{backend + "@0", `"level":"warn".*"all backends of service default have weight 0".*"so":"clients are refused"`, nil},
		{backend + "@0", `"all backends of service default have weight 0".*"so":"clients wait up to 30s for one, and are refused then \(--wait\)"`,
			[]config.Option{{Name: "wait", Value: "30s"}}},
		{backend + "@2 127.0.0.1:1@3", `"weights have no effect: scheduler rr does not weigh`, []config.Option{{Name: "scheduler", Value: "rr"}}},
		{backend, `"drain-timeout":"0s"`, []config.Option{{Name: "drain-timeout", Value: "0"}}},
	} {
		c := parse(t, config.Words{Listen: []string{"127.0.0.1:0"}, Backend: strings.Fields(tt.backends), Options: tt.options})
		run(t, c, book{}).await(t, tt.want)
	}
}

func TestHealthOfARange(t *testing.T) {
	t.Parallel()
	for words, want := range map[string]bool{
		"8000-8009=10.0.0.1":                  true,
		"8000-8009=10.0.0.1:9000-9009":        true,
		"8000-8009=10.0.0.1:80":               false,
		"8000=10.0.0.1":                       false,
		"udp:8000-8009=10.0.0.1":              true,
		"8000-8009=unix:///run/x,10.0.0.2:80": false,
	} {
		c := parse(t, config.Words{Mappings: []string{words}, Options: []config.Option{{Name: "health", Value: "tcp"}}})
		if got := checked(c.Services[0]); strings.HasSuffix(got, " (first port of a range)") != want {
			t.Errorf("%s: %s", words, got)
		}
	}
}

// broken is an output whose reader has gone.
type broken struct{}

func (broken) Write([]byte) (int, error) { return 0, io.ErrClosedPipe }

func TestDemoEndsWithItsReader(t *testing.T) {
	t.Parallel()
	c := parse(t, config.Words{Listen: []string{"demo=8080"}, Backend: []string{"demo=9001"}})
	result := make(chan error, 1)
	go func() { result <- Demo(t.Context(), c, Env{Stdout: broken{}, Stderr: new(lines)}) }()
	select {
	case err := <-result:
		if err != nil {
			t.Error(err)
		}
	case <-time.After(patience):
		t.Fatal("the demo goes on for nobody")
	}
}
