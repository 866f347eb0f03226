//go:build linux

package conformance

import (
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net/url"
	"os"
	"os/exec"
	"slices"
	"strings"
	"syscall"

	"usher/internal/api"
)

// changer makes random changes of a running usher, each as its owner may: the services
// of the file by reloads, those of the API by requests and commands, and what operators
// set by hand in both. After each change it looks whether usher shows what it must.
type changer struct {
	c        *C
	p        *Proxy
	r        *rand.Rand
	api      *api.Client
	binary   string
	file     string
	start    liveServices // as they are at the start
	services liveServices // as they must be now
	traffic  *traffic

	names  map[bool][]*liveService // services of the file that can be there, by isUDP
	spares []string                // addresses that no traffic is sent to
	extra  []string                // backends of services that come and go
	made   map[string]int          // changes by kind
	good   int                     // reloads so far of a good file
	bad    int                     // reloads so far of a bad file
	kept   map[string]bool         // backends that were removed, but not their flows
}

// edit is a change of one service, or of two. It has been made in liveServices.
type edit struct {
	kind    string
	touched []string
	ends    []string     // backends whose flows it is told to end
	gone    bool         // none of those flows is left afterwards
	ask     func() error // has the API make it
	visits  string       // address that serves afterwards; empty: none
	refuses string       // address that refuses afterwards; empty: none
}

// change makes one random change.
func (ch *changer) change() {
	switch n := ch.r.IntN(20); {
	case n < 8:
		ch.reload()
	case n < 14:
		ch.request()
	case n < 18:
		ch.byHand()
	case n < 19:
		ch.kill()
	default:
		ch.reloadBad()
	}
	ch.look()
}

// look compares what usher shows with what it must be.
func (ch *changer) look() {
	have, err := ch.api.Services(ch.c.ctx)
	ch.c.Must(err)
	if text := ch.services.differ(have.Services); text != "" {
		ch.c.Fatalf("after changes %v: %s", ch.made, text)
	}
}

// reload makes one to three changes in the file, and has it read.
func (ch *changer) reload() {
	var edits []edit
	var touched []string
	for range 1 + ch.r.IntN(3) {
		if e, ok := ch.edit(false, touched); ok {
			edits = append(edits, e)
			touched = append(touched, e.touched...)
		}
	}
	ch.carryOut(edits, func() error {
		ch.write()
		defer func() { ch.good++ }()
		switch ch.r.IntN(8) {
		case 0:
			return ch.hangUp()
		case 1:
			return ch.command("reload")
		}
		return ch.api.Reload(ch.c.ctx)
	})
}

// request makes a change in a service of the API.
func (ch *changer) request() {
	if e, ok := ch.edit(true, nil); ok {
		ch.carryOut([]edit{e}, e.ask)
	}
}

// carryOut does what makes edits, and looks at what must hold then.
func (ch *changer) carryOut(edits []edit, do func() error) {
	var ends, what []string
	for _, e := range edits {
		ch.made[e.kind]++
		ends = append(ends, e.ends...)
		what = append(what, fmt.Sprintf("%s of %v", e.kind, e.touched))
	}
	ch.c.Step("a change: %q", what)
	over := ch.traffic.ends.begin(ends)
	if err := do(); err != nil {
		ch.c.Fatalf("a change: %q: %v", what, err)
	}
	over()
	for _, e := range edits {
		if e.gone {
			ch.awaitNoFlows(e.ends)
		}
		if e.visits != "" {
			ch.traffic.visit(e.visits, 1, ch.r)
		}
		if e.refuses != "" && !ch.isServed(e.refuses) {
			ch.c.Wait(ch.c.patience(), "the address of what was removed to refuse", func() bool {
				conn, err := ch.c.TryDial(e.refuses)
				if err == nil {
					conn.Close()
				}
				return err != nil
			})
		}
	}
}

// awaitNoFlows waits until backends that were removed have no flows. One that was removed
// before may have some that were to live on.
func (ch *changer) awaitNoFlows(backends []string) {
	for _, b := range backends {
		if ch.kept[b] {
			continue
		}
		ch.c.Wait(ch.c.patience(), "the flows of a removed backend to end", func() bool {
			for _, err := range ch.api.Flows(ch.c.ctx, url.Values{"backend": {b}}) {
				ch.c.Must(err)
				return false
			}
			return true
		})
	}
}

// write makes the services of the file what stands in it.
func (ch *changer) write() {
	services := make(map[string]any)
	for name, s := range ch.services {
		if !s.isOfAPI {
			services[name] = s.mapping()
		}
	}
	ch.c.Must(os.WriteFile(ch.file, ch.body(map[string]any{"services": services}), 0o644))
}

func (ch *changer) body(v any) []byte {
	text, err := json.Marshal(v)
	ch.c.Must(err)
	return text
}

// hangUp has the file read by a signal, and waits until that is done. The log may lag
// behind requests, so that all its lines count, not those from now on.
func (ch *changer) hangUp() error {
	logged := func(message string) int { return strings.Count(ch.p.out.String(), `"msg":"`+message) }
	if err := ch.p.cmd.Process.Signal(syscall.SIGHUP); err != nil {
		return err
	}
	ch.c.Wait(ch.c.patience(), "a reload by SIGHUP", func() bool {
		if logged("reload failed") > ch.bad {
			ch.c.Fatalf("a reload by SIGHUP fails")
		}
		return logged("reloaded") > ch.good
	})
	return nil
}

// command runs usher with some words.
func (ch *changer) command(words ...string) error {
	ctx, cancel := context.WithTimeout(ch.c.ctx, ch.c.patience())
	defer cancel()
	out, err := exec.CommandContext(ctx, ch.binary, append(words, "--control", ch.api.Path())...).CombinedOutput()
	if err != nil {
		return fmt.Errorf("usher %s: %w: %s", strings.Join(words, " "), err, out)
	}
	return nil
}

// byHand sets something of a backend by hand, or takes it back.
func (ch *changer) byHand() {
	s := ch.pick(ch.services.of(func(s *liveService) bool { return true }))
	at := ch.r.IntN(len(s.backends))
	b := &s.backends[at]
	e := edit{kind: "resume", touched: []string{s.name, b.addr}}
	switch n := ch.r.IntN(3); {
	case b.override() != "":
		b.admin, b.byHand = "", 0
		e.ask = func() error { return ch.api.Resume(ch.c.ctx, s.name, b.addr) }
		if n == 0 {
			e.ask = func() error { return ch.command("resume", s.name, b.addr) }
		}
	case n == 0 || s.ready() < 2:
		weight := 1 + ch.r.IntN(5)
		e.kind, b.byHand = "weight by hand", weight
		e.ask = func() error { return ch.api.SetOverride(ch.c.ctx, s.name, b.addr, api.Override{Weight: &weight}) }
	default:
		e.kind, b.admin = []string{"drain", "maint"}[n-1], []string{"drain", "maint"}[n-1]
		if s.ends("on-drain") {
			// Clients that have been there before come back to one that is drained.
			e.ends, e.gone = []string{b.addr}, b.admin == "maint" || s.options["persist"] == "off"
		}
		e.ask = func() error { return ch.api.SetOverride(ch.c.ctx, s.name, b.addr, api.Override{Admin: b.admin}) }
		if ch.r.IntN(4) == 0 {
			e.ask = func() error { return ch.command(b.admin, s.name, b.addr) }
		}
	}
	ch.carryOut([]edit{e}, e.ask)
}

// kill ends the flows of a backend.
func (ch *changer) kill() {
	s := ch.pick(ch.services.of(func(s *liveService) bool { return true }))
	addr := s.all[ch.r.IntN(len(s.all))]
	ch.carryOut([]edit{{kind: "kill", touched: []string{s.name, addr}, ends: []string{addr}}}, func() error {
		_, err := ch.api.Kill(ch.c.ctx, url.Values{"backend": {addr}})
		return err
	})
}

// reloadBad has a file read that is wrong, which changes nothing.
func (ch *changer) reloadBad() {
	good, err := os.ReadFile(ch.file)
	ch.c.Must(err)
	before, err := ch.api.Config(ch.c.ctx)
	ch.c.Must(err)
	taken := newLiveService("bad", false, false, ch.extra[0], ch.extra).mapping() // a backend listens there
	texts := []string{
		"services: {web0: {listen", "services: {web0: {schedulr: lc}}",
		string(ch.body(map[string]any{"services": map[string]any{"bad": taken}})),
		string(ch.body(map[string]any{"services": map[string]any{"api-tcp": taken}})),
	}
	ch.c.Must(os.WriteFile(ch.file, []byte(texts[ch.r.IntN(len(texts))]), 0o644))
	ch.made["bad file"]++
	ch.bad++
	if err := ch.api.Reload(ch.c.ctx); err == nil {
		ch.c.Fatalf("a reload of a bad file succeeds")
	}
	ch.c.Must(os.WriteFile(ch.file, good, 0o644))
	after, err := ch.api.Config(ch.c.ctx)
	ch.c.Must(err)
	if string(before) != string(after) {
		ch.c.Fatalf("a bad file has changed the plan from\n%s\nto\n%s", before, after)
	}
}

func (ch *changer) pick(some []*liveService) *liveService {
	if len(some) == 0 {
		return nil
	}
	return some[ch.r.IntN(len(some))]
}

// picks returns one of some words.
func (ch *changer) picks(words ...string) string { return words[ch.r.IntN(len(words))] }

// spare returns an address that no service listens on.
func (ch *changer) spare() string {
	for _, addr := range ch.spares {
		if !ch.isServed(addr) {
			return addr
		}
	}
	return ""
}

// isServed reports whether a service listens on an address.
func (ch *changer) isServed(addr string) bool {
	return len(ch.services.of(func(s *liveService) bool { return slices.Contains(s.listen, addr) })) > 0
}
