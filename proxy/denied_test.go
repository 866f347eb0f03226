package proxy

import (
	"net/netip"
	"testing"

	"usher/conntrack"
	"usher/proxy/flow"
	"usher/proxy/rules"
)

// Flows that live are judged by the rules and lists of now.
func TestDenied(t *testing.T) {
	t.Parallel()
	s, err := New(Options{Engine: "portable"})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	names := newInterfaceOwners()
	list := &rules.List{Chains: []*rules.Chain{{Name: rules.Input, Policy: rules.Accept, Rules: []*rules.Rule{
		{Source: rules.Prefix{Prefix: netip.MustParsePrefix("10.1.0.0/16")}, Protocol: rules.UDP, Target: rules.Reject},
		{Source: rules.Prefix{Prefix: netip.MustParsePrefix("10.2.0.0/16")}, Target: rules.Drop},
	}}}}
	if names.loopback != "" && knowsInterfaces() == nil {
		list.Chains[0].Rules = append(list.Chains[0].Rules, &rules.Rule{Interface: rules.Interface{Name: names.loopback, Not: true}, Target: rules.Drop})
	}
	set, err := rules.Compile(list, nil, rules.Options{})
	if err != nil {
		t.Fatal(err)
	}
	if err := s.SetRules(set); err != nil {
		t.Fatal(err)
	}
	svc := flow.NewService("web", 0)
	svc.SetSettings(flow.NewSettings(svc, ServiceConfig{Name: "web", Access: flow.AccessConfig{
		Deny: []netip.Prefix{netip.MustParsePrefix("10.3.0.0/16")}, AcceptProxy: []netip.Prefix{netip.MustParsePrefix("10.2.0.9/32")}}}, nil, nil))
	for _, test := range []struct {
		proto  conntrack.Proto
		client string
		state  conntrack.State
		want   bool
	}{
		{conntrack.TCP, "10.1.0.1", conntrack.Established, false},
		{conntrack.UDP, "10.1.0.1", conntrack.Unreplied, true},
		{conntrack.TCP, "10.2.0.1", conntrack.Established, true},
		{conntrack.TCP, "10.3.0.1", conntrack.Established, true},
		{conntrack.TCP, "10.3.0.1", conntrack.Greeting, false}, // it may be for another service
		{conntrack.TCP, "10.2.0.9", conntrack.Greeting, false}, // it names another client
		{conntrack.TCP, "10.2.0.9", conntrack.Established, true},
		{conntrack.Unix, "", conntrack.Established, false},
	} {
		var r Row
		var client, local netip.AddrPort
		if test.client != "" {
			client, local = netip.AddrPortFrom(netip.MustParseAddr(test.client), 1), netip.MustParseAddrPort("127.0.0.1:80")
		}
		r.Key, r.Service, r.State = conntrack.NewKey(test.proto, client, local), svc, test.state
		if got := s.Denied()(&r); got != test.want {
			t.Errorf("%v from %s, %v: denied %v, want %v", test.proto, test.client, test.state, got, test.want)
		}
	}
}
