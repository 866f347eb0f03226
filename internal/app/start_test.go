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
	"usher/internal/flags"
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

// silence answers from its book, but for some names not until it is opened.
type silence struct {
	book
	silent string
	asked  chan struct{} // closed at the first unanswered query
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
		result <- Run(ctx, startOf(c), Env{Stdout: io.Discard, Stderr: log, Names: discovery.Resolver{Lookup: names}})
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
	c := parse(t, flags.Words{
		Listen:  []string{"plain=127.0.0.1:0", "named=127.0.0.1:0"},
		Backend: []string{"plain=" + backend, "named=slow.test:" + port, "named=missing.test:80"},
		Options: []flags.Option{{Name: "log-level", Value: "debug"}},
	})
	began := time.Now()
	log := run(t, c, names)
	log.await(t, `"msg":"serving"`) // the slow name has no answer for as long as that
	if took := time.Since(began); took < time.Second {
		t.Errorf("serving after %v, want a second", took)
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
	// The summary of a service precedes its problems.
	if text := log.String(); strings.Index(text, "does not resolve") < strings.LastIndex(text, `"msg":"service"`) {
		t.Errorf("a problem before the services:\n%s", text)
	}
}

// If it ends before the start is done, Run returns without having served, and leaves nothing behind.
func TestRunEndsDuringStart(t *testing.T) {
	t.Parallel()
	for _, early := range []bool{true, false} {
		// A busy machine may be slow now and then; a start that waits for the names is slow each time.
		took := time.Second
		for try := 0; try < 20 && took >= time.Second; try++ {
			took = runEndsDuringStart(t, early)
		}
		if took >= time.Second {
			t.Errorf("ended before the start (%v): Run took %v", early, took)
		}
	}
}

// runEndsDuringStart returns how long Run took.
func runEndsDuringStart(t *testing.T, early bool) (took time.Duration) {
	t.Helper()
	names := newSilence(nil, "slow.test")
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	c := parse(t, flags.Words{Listen: []string{"127.0.0.1:0"}, Backend: []string{"slow.test:1"}})
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
	err := Run(ctx, startOf(c), Env{Stdout: io.Discard, Stderr: &log, Names: discovery.Resolver{Lookup: names}})
	took = time.Since(began)
	// On a slow machine the look-up may time out before the end arrives, which is logged.
	if err != nil || took < time.Second && log.String() != "" {
		t.Errorf("ended before the start (%v): error %v, log\n%s", early, err, &log)
	}
	return took
}

func TestWarningsAtStart(t *testing.T) {
	t.Parallel()
	backend := greeter(t)
	for _, tt := range []struct {
		backends, want string
		options        []flags.Option
	}{
		{backend + "@0", `"level":"warn".*"all backends of service default have weight 0".*"so":"clients are refused"`, nil},
		{backend + "@0", `"all backends of service default have weight 0".*"so":"clients wait up to 30s for one, and are refused then, as --wait says"`,
			[]flags.Option{{Name: "wait", Value: "30s"}}},
		{backend + "@2 127.0.0.1:1@3", `"weights have no effect with scheduler rr`, []flags.Option{{Name: "scheduler", Value: "rr"}}},
		{backend, `"drain-timeout":"0s"`, []flags.Option{{Name: "drain-timeout", Value: "0"}}},
	} {
		c := parse(t, flags.Words{Listen: []string{"127.0.0.1:0"}, Backend: strings.Fields(tt.backends), Options: tt.options})
		run(t, c, book{}).await(t, tt.want)
	}
}
