package proxy

import (
	"net"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"usher/balancer"
	"usher/proxy/flow"
)

// handOver has a server's state go on in another server of the same process, through its
// encoding. The first one is left as exec leaves it.
func handOver(t testing.TB, s *Server, services ...*ServiceConfig) *Server {
	t.Helper()
	st, err := s.Suspend()
	if err != nil {
		t.Fatal(err)
	}
	return takeOver(t, s, st, services...)
}

// takeOver is handOver of a state. The pools of the services are new ones from then on. What
// the next server would say of itself is what the state says.
func takeOver(t testing.TB, s *Server, st *State, services ...*ServiceConfig) *Server {
	t.Helper()
	text, err := st.Encode()
	if err != nil {
		t.Fatal(err)
	}
	decoded, err := DecodeState(text)
	if err != nil {
		t.Fatal(err)
	}
	for i := range services {
		own := *services[i]
		if own.Pool, err = balancer.NewPool(balancer.Options{}); err != nil {
			t.Fatal(err)
		}
		*services[i] = own
	}
	next, err := Restore(Options{Logger: s.log, AccessLog: !s.admission.RecordSome}, decoded, copies(services))
	if err != nil {
		t.Fatal(err)
	}
	leave(s)
	wantSameState(t, st, next.save(next.engine.(handoverEngine)))
	next.Start()
	t.Cleanup(next.Close)
	return next
}

// copies returns copies of configs, which a server may keep.
func copies(services []*ServiceConfig) (all []*ServiceConfig) {
	for _, c := range services {
		own := *c
		all = append(all, &own)
	}
	return all
}

// leave ends the goroutines of a suspended server, and closes what exec would close.
func leave(s *Server) {
	e := s.engine.(*epollEngine)
	for _, w := range e.workers {
		w.halted = true
	}
	e.resume()
	e.threads.Wait()
	e.release()
	s.stopped = true
	close(s.done)
	s.expiry.Wait()
	s.access.Load().close()
}

// wantSameState compares two states but for the time, and for the numbers of settings: services
// have new ones with each Apply.
func wantSameState(t testing.TB, want, got *State) {
	t.Helper()
	ignored := cmp.Options{
		cmpopts.IgnoreFields(State{}, "Clock", "Monotonic", "Settings"),
		cmpopts.IgnoreFields(flow.ServiceState{}, "Running"),
		cmpopts.IgnoreFields(flow.FlowState{}, "Settings", "Place"), // the first in a queue looks for a backend
		cmpopts.IgnoreFields(flow.SessionState{}, "Settings", "Binding"),
		cmpopts.IgnoreFields(flow.DestinationState{}, "Last"),
		cmpopts.IgnoreFields(udpListenerState{}, "Binding"),
		cmp.AllowUnexported(State{}, bindingState{}, requestState{}, clientState{}, workerState{}, connState{}, halfState{},
			pipeState{}, sessionState{}, udpListenerState{}),
		cmpopts.EquateEmpty(), cmpopts.EquateComparable(Listener{}.Addr, clientState{}.Client, balancer.Spec{}.Source),
	}
	if diff := cmp.Diff(want, got, ignored); diff != "" {
		t.Errorf("the state, and what a server restored from it says (-want +got):\n%s", diff)
	}
}

func TestIdleFlowsAreHandedOver(t *testing.T) {
	t.Parallel()
	c := service(t, echo(t))
	s, err := newServer(Options{Engine: "epoll", Workers: 2}, c)
	if err != nil {
		t.Fatal(err)
	}
	s.Start()
	var clients []net.Conn
	for range 50 {
		client := dial(t, s.Services()[0].Config().Listeners[0].Addr.String())
		roundTrip(t, client)
		clients = append(clients, client)
	}
	for range 3 {
		s = handOver(t, s, &c)
		if s.Open() != len(clients) {
			t.Errorf("%d flows of %d", s.Open(), len(clients))
		}
		for _, client := range clients {
			roundTrip(t, client)
		}
		clients = append(clients, dial(t, s.Services()[0].Config().Listeners[0].Addr.String()))
		roundTrip(t, clients[len(clients)-1])
	}
	svc := s.Services()[0]
	if n := svc.Accepted(); n != uint64(len(clients)) {
		t.Errorf("%d accepted, %d clients", n, len(clients))
	}
	if b := svc.Config().Pool.Backends()[0]; b.Active() != int64(len(clients)) || b.Total() != uint64(len(clients)) {
		t.Errorf("the backend has %d flows of %d", b.Active(), b.Total())
	}
	for _, client := range clients {
		client.Close()
	}
	eventually(t, "all flows end", func() bool { return s.Open() == 0 })
}
