package control

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"usher/balancer"
	"usher/internal/api"
	"usher/internal/config"
	"usher/internal/discovery"
	"usher/internal/flags"
	"usher/internal/reconcile"
	"usher/proxy"
)

// services makes services of the words of a command line; checks are off.
func services(t *testing.T, words ...string) []*config.Service {
	t.Helper()
	return parse(t, flags.Words{Mappings: words, Options: []flags.Option{{Name: "health", Value: "off"}}}).Services
}

// named gives the first service another name.
func named(name string, services []*config.Service) []*config.Service {
	services[0].Name = name
	return services
}

// listing is all services as name:owner:backends.
func listing(c *Controller) string {
	var words []string
	for _, s := range c.Services() {
		var backends []string
		for _, b := range c.byName[s.Name].config.Backends {
			backends = append(backends, b.String())
		}
		words = append(words, s.Name+":"+s.Owner+":"+strings.Join(backends, ","))
	}
	return strings.Join(words, " ")
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// Each owner changes its own part, and the parts stand in the order of the owners.
func TestOwnersChangeTheirParts(t *testing.T) {
	t.Parallel()
	c, ctx := newController(t, discovery.Resolver{}), t.Context()
	expect := func(want string) {
		t.Helper()
		if got := listing(c); got != want {
			t.Errorf("runs %s, want %s", got, want)
		}
		if len(c.Plan().Services) != len(c.Services()) {
			t.Errorf("the plan has %d services", len(c.Plan().Services))
		}
	}
	api := named("a", services(t, "0=9001"))[0]
	must(t, c.Add(ctx, API, api))
	file := []*config.Service{named("f", services(t, "0=9001"))[0], named("g", services(t, "udp:0=9001"))[0]}
	must(t, c.Replace(ctx, File, Part{Services: file}))
	must(t, c.Replace(ctx, Flags, Part{Services: named("w", services(t, "0=9001"))}))
	expect("w:flags:127.0.0.1:9001 f:file:127.0.0.1:9001 g:file:udp://127.0.0.1:9001 a:api:127.0.0.1:9001")

	kept := c.byName["g"]
	f := file[0].Clone()
	f.Backends[0].Weight = 7
	must(t, c.Replace(ctx, File, Part{Services: []*config.Service{f, file[1]}}))
	if c.byName["g"] != kept {
		t.Error("a service with the pointer of before was made anew")
	}
	must(t, c.Replace(ctx, File, Part{Services: []*config.Service{file[1].Clone(), f}}))
	expect("w:flags:127.0.0.1:9001 g:file:udp://127.0.0.1:9001 f:file:127.0.0.1:9001@7 a:api:127.0.0.1:9001")
	if c.byName["g"].data != kept.data {
		t.Error("an equal service was made anew")
	}

	must(t, c.Update(ctx, API, "a", func(s *config.Service) error {
		s.Backends[0].Weight = 3
		return nil
	}))
	if api.Backends[0].Weight != 1 {
		t.Error("a change wrote to what its owner gave")
	}
	must(t, c.Replace(ctx, File, Part{Services: []*config.Service{f}}))
	must(t, c.Remove(ctx, Flags, "w"))
	expect("f:file:127.0.0.1:9001@7 a:api:127.0.0.1:9001@3")
	must(t, c.Remove(ctx, API, "a"))
	must(t, c.Replace(ctx, File, Part{Services: nil}))
	expect("")
}

// A change that is refused changes nothing, and its error says why.
func TestRefusedChanges(t *testing.T) {
	t.Parallel()
	c, ctx := newController(t, discovery.Resolver{}), t.Context()
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	defer taken.Close()
	must(t, c.Replace(ctx, Flags, Part{Services: named("flag", services(t, "0=9001"))}))
	must(t, c.Replace(ctx, File, Part{Services: named("web", services(t, "0=9001"))}))
	must(t, c.Add(ctx, API, named("db", services(t, "udp:0=9001"))[0]))
	web, err := c.Service("web")
	must(t, err)
	before := listing(c)
	update := func(name string, edit func(*config.Service)) error {
		return c.Update(ctx, API, name, func(s *config.Service) error { edit(s); return nil })
	}
	one := services(t, "0=9001")[0]
	twins := []*config.Service{one, one.Clone()}
	bad := one.Clone()
	bad.SlowStart = -1
	foreign := one.Clone() // from addresses that are for documentation (RFC 5737)
	foreign.Source.V4 = netip.MustParseAddr("192.0.2.1")
	odd := one.Clone()
	odd.Backends[0].Source = foreign.Source
	own := errors.New("of the edit")

	var notFound *NotFoundError
	var owner *OwnerError
	var conflict *ConflictError
	var fixed *FixedError
	var invalid *config.Error
	var bind *proxy.ListenError
	for _, tt := range []struct {
		err  error
		as   any
		want string
	}{
		{c.Remove(ctx, API, "wbe"), &notFound, `no service "wbe" (did you mean "web"? have flag, web, db)`},
		{c.Remove(ctx, API, "web"), &owner, "service web belongs to the file usher.yaml: change it there and reload"},
		{update("flag", func(*config.Service) {}), &owner, "service flag belongs to the command line: change it there and restart"},
		{c.Remove(ctx, File, "db"), &owner, "service db belongs to the API: change it with usher set, add and rm"},
		{c.Add(ctx, API, named("web", services(t, "0=9001"))[0]), &conflict, "there is a service web already, of the file usher.yaml"},
		{c.Replace(ctx, File, Part{Services: named("db", services(t, "0=9001"))}), &conflict, "there is a service db already, of the API"},
		{c.Replace(ctx, File, Part{Services: twins}), &invalid, `there are two services "0"`},
		{c.Add(ctx, API, named("x", services(t, web.Listen[0]+"=9001"))[0]), &conflict,
			`services "web" and "x" both listen on ` + web.Listen[0] + " (service web is of the file usher.yaml)"},
		{c.Add(ctx, API, bad), &invalid, `service "0": slow-start -1ns: -1ns is negative (did you mean 1ns, or 0?)`},
		{c.Add(ctx, API, foreign), &invalid, `service "0": source: connections cannot come from 192.0.2.1: no interface of this machine`},
		{c.Add(ctx, API, odd), &invalid, `service "0": option source of 127.0.0.1:9001: connections cannot come from 192.0.2.1`},
		{update("db", func(s *config.Service) { s.Backends = nil }), &invalid, `service "db" listens on udp://127.0.0.1:0 but has no backend`},
		{update("db", func(s *config.Service) { s.Name = "dbs" }), &fixed,
			"service db: name cannot change while it runs: remove the service, and add one of the other name"},
		{c.Add(ctx, API, named("x", services(t, taken.Addr().String()+"=9001"))[0]), &bind, "service x: listen tcp " + taken.Addr().String() + ": "},
		{c.Update(ctx, API, "db", func(*config.Service) error { return own }), nil, own.Error()},
	} {
		if tt.err == nil || !strings.HasPrefix(tt.err.Error(), tt.want) || tt.as != nil && !errors.As(tt.err, tt.as) {
			t.Errorf("got %T %v, want %T %s", tt.err, tt.err, tt.as, tt.want)
		}
	}
	if got := listing(c); got != before {
		t.Errorf("runs %s, want %s", got, before)
	}
}

// A change where one address cannot be had leaves the others unbound.
func TestAFailedBindChangesNothing(t *testing.T) {
	t.Parallel()
	c, ctx := newController(t, discovery.Resolver{}), t.Context()
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	defer taken.Close()
	path := filepath.Join(t.TempDir(), "s")
	if err := c.Replace(ctx, File, Part{Services: services(t, "unix://"+path+"=9001", taken.Addr().String()+"=9001")}); err == nil {
		t.Fatal("bound an address that is taken")
	}
	if _, err := os.Lstat(path); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the first address is still bound: %v", err)
	}
	if got := listing(c); got != "" {
		t.Errorf("runs %s", got)
	}
}

// A reload without a change makes the file of a socket anew, and one that cannot be made holds up nobody else.
func TestTheFileOfASocketIsMadeAnew(t *testing.T) {
	t.Parallel()
	c, ctx := newController(t, discovery.Resolver{}), t.Context()
	folder := filepath.Join(t.TempDir(), "run")
	path := filepath.Join(folder, "s")
	must(t, os.Mkdir(folder, 0o700))
	part := named("web", services(t, "unix://"+path+"=9001"))
	must(t, c.Replace(ctx, File, Part{Services: part}))
	must(t, c.Start(ctx))
	must(t, os.RemoveAll(folder))
	must(t, c.Replace(ctx, File, Part{Services: part}))
	must(t, c.Add(ctx, API, named("other", services(t, "0=9001"))[0]))
	must(t, os.Mkdir(folder, 0o700))
	must(t, c.Replace(ctx, File, Part{Services: part}))
	client, err := net.Dial("unix", path)
	must(t, err)
	must(t, client.Close())
}

// A service that becomes udp is another one: flows of the one before end as its on-remove says.
func TestAServiceChangesItsNetwork(t *testing.T) {
	t.Parallel()
	for _, engine := range []string{"auto", "portable"} {
		c, ctx := newController(t, discovery.Resolver{}, engine), t.Context()
		backend, err := net.Listen("tcp", "127.0.0.1:0")
		must(t, err)
		defer backend.Close()
		tcp := named("web", services(t, "0="+backend.Addr().String()))
		tcp[0].OnRemove = config.TerminationPolicy{How: "reset"}
		must(t, c.Replace(ctx, File, Part{Services: tcp}))
		must(t, c.Start(ctx))
		client, err := net.Dial("tcp", c.Services()[0].Listen[0])
		must(t, err)
		defer client.Close()
		accepted, err := backend.Accept()
		must(t, err)
		defer accepted.Close()
		must(t, c.Replace(ctx, File, Part{Services: named("web", services(t, "udp:0=9001"))}))
		if _, err := client.Read(make([]byte, 1)); !errors.Is(err, syscall.ECONNRESET) {
			t.Errorf("%s: the client of before: %v", engine, err)
		}
		web := c.Services()
		if len(web) != 1 || web[0].Network != "udp" {
			t.Errorf("%s: %+v", engine, web)
		}
		must(t, c.Replace(ctx, File, Part{Services: tcp}))
		if web := c.Services(); web[0].Network != "tcp" || len(web[0].Backends) != 1 {
			t.Errorf("%s: back again: %+v", engine, web)
		}
	}
}

// slow answers when it is let, and says that it was asked.
type slow struct {
	book
	once       *sync.Once
	asked, let chan struct{}
}

func (s slow) LookupNetIP(ctx context.Context, network, host string) ([]netip.Addr, error) {
	s.once.Do(func() { close(s.asked) })
	select {
	case <-s.let:
	case <-ctx.Done():
	}
	return s.book.LookupNetIP(ctx, network, host)
}

// A service keeps its backends until the name of the next one has an answer.
func TestABackendIsReplacedByAName(t *testing.T) {
	t.Parallel()
	names := slow{book{"b.test": {netip.MustParseAddr("127.0.0.2")}}, new(sync.Once), make(chan struct{}), make(chan struct{})}
	c, ctx := newController(t, discovery.Resolver{Lookup: names}), t.Context()
	must(t, c.Replace(ctx, API, Part{Services: named("web", services(t, "0=9001"))}))
	must(t, c.Start(ctx))
	backends := func() string {
		web, err := c.Service("web")
		must(t, err)
		var all []string
		for _, b := range web.Backends {
			all = append(all, b.Address)
		}
		return strings.Join(all, " ")
	}
	done := make(chan error, 1)
	go func() {
		done <- c.Update(ctx, API, "web", func(s *config.Service) error {
			s.Backends = services(t, "0=b.test:9002")[0].Backends
			return nil
		})
	}()
	<-names.asked
	if got := backends(); got != "127.0.0.1:9001" {
		t.Errorf("before the answer: %s", got)
	}
	close(names.let)
	must(t, <-done)
	if got := backends(); got != "127.0.0.2:9002" {
		t.Errorf("after it: %s", got)
	}
}

// What is set by hand survives a reload that keeps the backend, and is taken back by resume.
func TestOverridesSurviveAReload(t *testing.T) {
	t.Parallel()
	c, ctx := newController(t, discovery.Resolver{}), t.Context()
	must(t, c.Replace(ctx, File, Part{Services: named("web", services(t, "0=9001,9002"))}))
	must(t, c.Start(ctx))
	shown := func() string {
		web, err := c.Service("web")
		must(t, err)
		var all []string
		for _, b := range web.Backends {
			all = append(all, fmt.Sprintf("%s@%d %s %q", b.Address, b.Weight, b.Status, b.Override))
		}
		return strings.Join(all, ", ")
	}
	expect := func(want string) {
		t.Helper()
		if got := shown(); got != want {
			t.Errorf("got %s, want %s", got, want)
		}
	}
	drain, weight := balancer.Drain, 7
	must(t, c.SetOverride(ctx, "web", "9001", reconcile.Override{Admin: &drain}))
	must(t, c.SetOverride(ctx, "web", "127.0.0.1:9002", reconcile.Override{Weight: &weight}))
	expect(`127.0.0.1:9001@1 drain "drain", 127.0.0.1:9002@7 up "weight=7"`)
	must(t, c.Replace(ctx, File, Part{Services: named("web", services(t, "0=9001@2,9002@2,9003"))}))
	expect(`127.0.0.1:9001@2 drain "drain", 127.0.0.1:9002@7 up "weight=7", 127.0.0.1:9003@1 up ""`)
	must(t, c.Resume(ctx, "web", "9002"))
	expect(`127.0.0.1:9001@2 drain "drain", 127.0.0.1:9002@2 up "", 127.0.0.1:9003@1 up ""`)
	must(t, c.Replace(ctx, File, Part{Services: named("web", services(t, "0=9002"))}))
	must(t, c.Replace(ctx, File, Part{Services: named("web", services(t, "0=9001,9002"))}))
	expect(`127.0.0.1:9001@1 up "", 127.0.0.1:9002@1 up ""`) // its backend was gone

	var missing *NotFoundError
	for _, err := range []error{c.Resume(ctx, "wbe", "9001"), c.SetOverride(ctx, "web", "9003", reconcile.Override{Admin: &drain})} {
		if !errors.As(err, &missing) {
			t.Errorf("error %v", err)
		}
	}
	if want := `service web has no backend "9003" (have 127.0.0.1:9001, 127.0.0.1:9002)`; missing.Error() != want {
		t.Errorf("error %v, want %s", missing, want)
	}
}

// A name that is not known is answered with what is near, or with all there is if that is short.
func TestNotFound(t *testing.T) {
	t.Parallel()
	many := []string{"shop/web:http", "shop/db"}
	for i := range 20 {
		many = append(many, fmt.Sprintf("team/service%02d", i))
	}
	for _, test := range []struct {
		name string
		have []string
		want string
	}{
		{"web", nil, `no service "web" (there is none)`},
		{"x", many[:2], `no service "x" (have shop/web:http, shop/db)`},
		{"web", many, `no service "web" (did you mean "shop/web:http"? have shop/web:http)`},
		{"shop/bd", many, `no service "shop/bd" (did you mean "shop/db"? have shop/db)`},
		{"other", many, `no service "other" (have 22; usher ls shows them)`},
	} {
		if got := (&NotFoundError{Kind: "service", Name: test.name, Have: test.have}).Error(); got != test.want {
			t.Errorf("%s, want %s", got, test.want)
		}
	}
}

// Readers follow changes in their order. One that is too slow is told how many it has lost.
func TestEvents(t *testing.T) {
	t.Parallel()
	c, ctx := newController(t, discovery.Resolver{}), t.Context()
	must(t, c.Start(ctx))
	slow, fast := c.Events(ctx), c.Events(ctx)
	must(t, c.Add(ctx, API, named("web", services(t, "0=9001"))[0]))
	must(t, c.Update(ctx, API, "web", func(s *config.Service) error { s.Wait = time.Second; return nil }))
	must(t, c.Remove(ctx, API, "web"))
	var got []string
	for e := range fast {
		if e.Backend == "" && e.Event != "status" {
			got = append(got, e.Service+" "+e.Event+" "+e.Reason)
		}
		if e.Event == "removed" && e.Backend == "" {
			break
		}
	}
	if got, want := strings.Join(got, ", "), "web added owner api, web changed wait=1s, web removed "; got != want {
		t.Errorf("events %s, want %s", got, want)
	}
	for range maxEvents + 7 {
		c.Publish(api.Event{Event: "reload"})
	}
	n := 0
	for e := range slow {
		if e.Event == "lost" {
			if n != maxEvents || !strings.HasSuffix(e.Reason, " events: this reader is too slow") {
				t.Errorf("%d events, then %+v", n, e)
			}
			break
		}
		n++
	}
}
