package admin

import (
	"context"
	"errors"
	"iter"
	"net/http"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"

	"go.uber.org/zap"

	"usher/internal/api"
	"usher/internal/config"
	"usher/internal/control"
	"usher/internal/ipvsadm"
	"usher/internal/reconcile"
)

// fake is a controller and a process without a data path. Its services are never running ones.
type fake struct {
	mu        sync.Mutex
	services  []*config.Service
	overrides map[string]reconcile.Override // by service and address
	rules     *config.Rules
	rows      int // that Flows yields
	events    chan api.Event
	refusal   error // of the process
	unready   error
	stopped   []bool
	killed    []control.FlowFilter
}

func newFake() *fake {
	return &fake{overrides: make(map[string]reconcile.Override), events: make(chan api.Event)}
}

// handler returns a handler on f.
func (f *fake) handler() *Handler {
	return NewHandler(f, f, f, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte("usher_up 1\n")) }))
}

// serve serves f on a socket in a folder of the test, and returns a client.
func (f *fake) serve(t *testing.T) (*api.Client, *Server) {
	t.Helper()
	l, err := ListenPath(filepath.Join(t.TempDir(), "s"))
	if err != nil {
		t.Fatal(err)
	}
	s := Serve(l, f.handler(), zap.NewNop())
	t.Cleanup(func() { s.Close(timeout(t)) })
	return api.NewClient(l.Addr().String()), s
}

// timeout is a context for what ends soon.
func timeout(t *testing.T) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	t.Cleanup(cancel)
	return ctx
}

func (f *fake) find(name string) (int, error) {
	var have []string
	for i, s := range f.services {
		if have = append(have, s.Name); s.Name == name {
			return i, nil
		}
	}
	return 0, &control.NotFoundError{Kind: "service", Name: name, Have: have}
}

func (f *fake) view(s *config.Service) api.Service {
	v := api.Service{Name: s.Name, Owner: "api", Network: s.Network(), Scheduler: s.Scheduler.String(), Status: "up"}
	for _, l := range s.Listeners {
		v.Listen = append(v.Listen, l.String())
	}
	for _, b := range s.Backends {
		v.Backends = append(v.Backends, api.Backend{Address: b.Addr.String(), Weight: b.Weight, Status: "up"})
	}
	if len(s.Backends) == 0 {
		v.Status = "down"
	}
	return v
}

func (f *fake) Overview() []api.Service {
	all := f.Services()
	for i := range all {
		all[i].Backends = []api.Backend{}
	}
	return all
}

func (f *fake) Services() (all []api.Service) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, s := range f.services {
		all = append(all, f.view(s))
	}
	return all
}

func (f *fake) Service(name string) (api.Service, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	at, err := f.find(name)
	if err != nil {
		return api.Service{}, err
	}
	return f.view(f.services[at]), nil
}

func (f *fake) Plan() *config.Config {
	f.mu.Lock()
	defer f.mu.Unlock()
	return &config.Config{Process: config.DefaultProcess(), Services: slices.Clone(f.services)}
}

func (f *fake) Add(_ context.Context, owner control.Owner, s *config.Service) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if owner != control.API {
		return errors.New("not the API's")
	}
	if _, err := f.find(s.Name); err == nil {
		return &control.ConflictError{Service: s.Name, Other: s.Name, Owner: control.File}
	}
	if s.Name == "full" {
		return errors.New("no room for service full")
	}
	f.services = append(f.services, s)
	return nil
}

func (f *fake) Update(_ context.Context, _ control.Owner, name string, edit func(*config.Service) error) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	at, err := f.find(name)
	if err != nil {
		return err
	}
	s := f.services[at].Clone()
	if err := edit(s); err != nil {
		return err
	}
	f.services[at] = s
	return nil
}

func (f *fake) Remove(_ context.Context, _ control.Owner, name string) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	at, err := f.find(name)
	if err == nil {
		f.services = slices.Delete(f.services, at, at+1)
	}
	return err
}

func (f *fake) SetOverride(_ context.Context, service, address string, o reconcile.Override) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.overrides[service+" "+address] = o
	return nil
}

func (f *fake) Resume(_ context.Context, service, address string) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if _, has := f.overrides[service+" "+address]; !has {
		return reconcile.ErrNoBackend
	}
	delete(f.overrides, service+" "+address)
	return nil
}

func (f *fake) Rules() api.Rules {
	f.mu.Lock()
	defer f.mu.Unlock()
	all := api.Rules{Chains: []api.Chain{{Name: "INPUT", Policy: "ACCEPT", Rules: []api.Rule{}}}}
	if f.rules != nil {
		for _, line := range f.rules.Lines {
			all.Chains[0].Rules = append(all.Chains[0].Rules, api.Rule{Rule: line, Owner: "api"})
		}
	}
	return all
}

func (f *fake) UpdateRules(_ context.Context, _ control.Owner, edit func(*config.Rules) (*config.Rules, error)) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	next, err := edit(f.rules)
	if err == nil {
		f.rules = next
	}
	return err
}

func (f *fake) IPVS() ipvsadm.View {
	return ipvsadm.View{Timeouts: ipvsadm.DefaultTimeouts(), Services: []ipvsadm.ServiceView{}}
}

func (f *fake) IPVSService(key ipvsadm.Key) ipvsadm.View {
	return ipvsadm.View{Services: []ipvsadm.ServiceView{{Protocol: key.Protocol, Addr: key.Addr}}}
}

func (f *fake) IPVSLines() []string { return []string{"--set 900 120 300"} }

func (f *fake) IPVSConnections() iter.Seq[ipvsadm.Connection] {
	return func(yield func(ipvsadm.Connection) bool) {
		for range f.rows {
			if !yield(ipvsadm.Connection{Protocol: ipvsadm.TCP, State: "ESTABLISHED"}) {
				return
			}
		}
	}
}

func (f *fake) ChangeIPVS(_ context.Context, lines []string) (refused []api.LineError, err error) {
	for i, line := range lines {
		if line == "-A -t 127.0.0.1:80 -s nosuch" {
			refused = append(refused, api.LineError{Line: i, Status: 255, Errno: 2, Text: "Scheduler or persistence engine not found"})
		}
	}
	return refused, nil
}

func (f *fake) Tables() api.Tables {
	return api.Tables{Text: "*filter\nCOMMIT\n", Others: []string{"api"}}
}

func (f *fake) ChangeTables(context.Context, api.TableChange) (api.TableResult, error) {
	return api.TableResult{Status: 1, Stderr: "iptables: No chain/target/match by that name.\n"}, nil
}

func (f *fake) Flows(q control.FlowQuery) iter.Seq[api.Flow] {
	return func(yield func(api.Flow) bool) {
		for i := range f.rows {
			if !yield(api.Flow{Client: "10.0.0.1:4711", Listener: "127.0.0.1:8080", Service: "web", Backend: "10.0.0.1:80",
				Network: "tcp", State: "ESTABLISHED", AgeMS: int64(i)}) {
				return
			}
		}
	}
}

func (f *fake) FlowEvents(context.Context, control.FlowFilter) iter.Seq[[]api.FlowEvent] {
	return slices.Values([][]api.FlowEvent{{{Event: "new", Flow: &api.Flow{Client: "127.0.0.1:4711"}}, {Event: "lost", Lost: 3}}})
}

func (f *fake) Kill(filter control.FlowFilter) api.Killed {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.killed = append(f.killed, filter)
	return api.Killed{Killed: f.rows}
}

func (f *fake) Rebalance(_ context.Context, service string, rate float64, progress func(ended, of int)) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	switch _, err := f.find(service); {
	case err != nil:
		return err
	case rate == 13:
		return &control.RebalanceError{Service: service, Err: errors.New("unlucky")}
	}
	for i := range 3 {
		progress(i, 2)
	}
	return nil
}

func (f *fake) Events(ctx context.Context) iter.Seq[api.Event] {
	return func(yield func(api.Event) bool) {
		for {
			select {
			case e := <-f.events:
				if !yield(e) {
					return
				}
			case <-ctx.Done():
				return
			}
		}
	}
}

func (f *fake) Info() api.Process {
	return api.Process{Name: "web", PID: 4711, Engine: "epoll", Workers: 2}
}
func (f *fake) Ready() error                          { return f.unready }
func (f *fake) Reload(context.Context) error          { return f.refusal }
func (f *fake) Upgrade(context.Context, string) error { return errors.New("the binary is older") }
func (f *fake) Stop(now bool)                         { f.stopped = append(f.stopped, now) }
