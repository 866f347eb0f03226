package flow

import (
	"net/netip"
	"testing"
	"time"

	"usher/balancer"
	"usher/conntrack"
	"usher/proxy/limit"
	"usher/proxy/rules"
)

// testRules compiles rules for INPUT that look at sources alone.
func testRules(t testing.TB, all map[string]rules.Target) *rules.Set {
	t.Helper()
	in := &rules.Chain{Name: rules.Input, Policy: rules.Accept}
	for from, target := range all {
		in.Rules = append(in.Rules, &rules.Rule{Source: rules.Prefix{Prefix: netip.MustParsePrefix(from)}, Target: target})
	}
	set, err := rules.Compile(&rules.List{Chains: []*rules.Chain{in}}, nil, rules.Options{})
	if err != nil {
		t.Fatal(err)
	}
	return set
}

// visit judges a client of a service, as an engine would.
func visit(a *Admission, c *Settings, from string, now time.Duration) (Entrance, Pass) {
	d := Door{Admission: a}
	if from != "" {
		d.Packet = rules.Packet{Client: netip.AddrPortFrom(netip.MustParseAddr(from), 1000), Local: netip.MustParseAddrPort("127.0.0.1:80"), Protocol: rules.TCP}
	}
	e := d.Enter(a.Rules(), testBinding(c.Service), c, now)
	return e, d.TakePass()
}

func prefixes(all ...string) (p []netip.Prefix) {
	for _, s := range all {
		p = append(p, netip.MustParsePrefix(s))
	}
	return p
}

func TestWhoMayComeIn(t *testing.T) {
	t.Parallel()
	set := testRules(t, map[string]rules.Target{"10.1.0.0/16": rules.Drop, "10.2.0.0/16": rules.Reject})
	for _, tt := range []struct {
		name    string
		access  AccessConfig
		from    string
		want    Outcome
		dropped bool
		greets  bool
	}{
		{"not allowed, and dropped", AccessConfig{Allow: prefixes("192.0.2.0/24"), DropDenied: true}, "192.0.3.1", Denied, true, false},
		{"allowed, others are dropped", AccessConfig{Allow: prefixes("192.0.2.0/24"), DropDenied: true}, "192.0.2.1", Running, false, false},
		{"no rule matches", AccessConfig{}, "192.0.2.1", Running, false, false},
		{"dropped", AccessConfig{}, "10.1.0.1", Denied, true, false},
		{"rejected", AccessConfig{}, "10.2.0.1", Denied, false, false},
		{"on a unix socket", AccessConfig{Allow: prefixes("10.0.0.0/8"), ProxyOnly: true}, "", Running, false, false},
		{"allowed", AccessConfig{Allow: prefixes("192.0.2.0/24")}, "192.0.2.1", Running, false, false},
		{"not allowed", AccessConfig{Allow: prefixes("192.0.2.0/24")}, "192.0.3.1", Denied, false, false},
		{"allowed, and dropped by a rule", AccessConfig{Allow: prefixes("10.0.0.0/8")}, "10.1.0.1", Denied, true, false},
		{"denied", AccessConfig{Deny: prefixes("192.0.2.0/24")}, "192.0.2.1", Denied, false, false},
		{"not denied", AccessConfig{Deny: prefixes("192.0.2.0/24")}, "2001:db8::1", Running, false, false},
		{"the longer prefix allows", AccessConfig{Allow: prefixes("192.0.2.1/32"), Deny: prefixes("192.0.2.0/24")}, "192.0.2.1", Running, false, false},
		{"the longer prefix denies", AccessConfig{Allow: prefixes("192.0.2.0/24"), Deny: prefixes("192.0.2.1/32")}, "192.0.2.1", Denied, false, false},
		{"a proxy, whom no rule judges", AccessConfig{AcceptProxy: prefixes("10.1.0.0/16")}, "10.1.0.1", Running, false, true},
		{"no proxy", AccessConfig{AcceptProxy: prefixes("10.1.0.0/16")}, "192.0.2.1", Running, false, false},
		{"no proxy, and only those", AccessConfig{AcceptProxy: prefixes("10.1.0.0/16"), ProxyOnly: true}, "192.0.2.1", Denied, false, false},
	} {
		a := new(Admission)
		a.SetRules(set)
		svc := testService(ServiceConfig{Access: tt.access})
		e, pass := visit(a, svc.Settings(), tt.from, 0)
		if e.Outcome != tt.want || e.IsDropped != tt.dropped || e.Greets() != tt.greets {
			t.Errorf("%s: %+v", tt.name, e)
		}
		pass.Release()
	}
}

// TestNobodyComesInWithoutABackend where clients are dropped then, whoever they are; rules come first.
func TestNobodyComesInWithoutABackend(t *testing.T) {
	t.Parallel()
	a := new(Admission)
	a.SetRules(testRules(t, map[string]rules.Target{"10.2.0.0/16": rules.Reject}))
	svc := testService(ServiceConfig{Empty: EmptyDrop, Access: AccessConfig{AcceptProxy: prefixes("10.1.0.0/16")}})
	for from, want := range map[string]Judgement{
		"192.0.2.1": {NoEndpoint, true}, "10.1.0.1": {NoEndpoint, true}, "": {NoEndpoint, true}, "10.2.0.1": {Denied, false},
	} {
		if e, _ := visit(a, svc.Settings(), from, 0); !a.MustEnter(new(Binding), svc.Settings()) || e.Judgement != want || e.Greets() {
			t.Errorf("%q: %+v", from, e)
		}
	}
}

func TestLimitsOfClients(t *testing.T) {
	t.Parallel()
	second := limit.Rate{Events: 1, Per: time.Second, Burst: 2}
	type step struct {
		from   string
		at     time.Duration
		want   Outcome
		leaves bool // again, if it was let in
	}
	for _, tt := range []struct {
		name   string
		access AccessConfig
		steps  []step
	}{
		{"connections", AccessConfig{MaxClientConns: 1}, []step{
			{"10.0.0.1", 0, Running, true}, {"10.0.0.1", 0, Running, false}, {"10.0.0.1", 0, ClientLimit, false}, {"10.0.0.2", 0, Running, false},
		}},
		{"connections of a network", AccessConfig{MaxClientConns: 2, ConnsBits: ClientBits{IPv4: 24, IPv6: 64}}, []step{
			{"10.0.0.1", 0, Running, false}, {"10.0.0.2", 0, Running, false}, {"10.0.0.3", 0, ClientLimit, false}, {"10.0.1.1", 0, Running, false},
			{"2001:db8::1", 0, Running, false}, {"2001:db8::2", 0, Running, false}, {"2001:db8::3", 0, ClientLimit, false},
		}},
		{"rate of a client", AccessConfig{ClientRate: second}, []step{
			{"10.0.0.1", 0, Running, true}, {"10.0.0.1", 0, Running, true}, {"10.0.0.1", 0, RateLimited, false}, {"10.0.0.2", 0, Running, true},
			{"10.0.0.1", time.Second, Running, true}, {"10.0.0.1", time.Second, RateLimited, false},
		}},
		{"rate of all", AccessConfig{Rate: second}, []step{
			{"10.0.0.1", 0, Running, true}, {"10.0.0.2", 0, Running, true}, {"10.0.0.3", 0, RateLimited, false}, {"10.0.0.3", time.Second, Running, true},
		}},
		{"who has too many takes nothing from the rate", AccessConfig{MaxClientConns: 1, Rate: second}, []step{
			{"10.0.0.1", 0, Running, false}, {"10.0.0.1", 0, ClientLimit, false}, {"10.0.0.1", 0, ClientLimit, false}, {"10.0.0.2", 0, Running, false},
		}},
		{"who comes too often is not counted", AccessConfig{MaxClientConns: 3, ClientRate: second}, []step{
			{"10.0.0.1", 0, Running, false}, {"10.0.0.1", 0, Running, false}, {"10.0.0.1", 0, RateLimited, false}, {"10.0.0.1", 2 * time.Second, Running, false},
			{"10.0.0.1", 2 * time.Second, ClientLimit, false},
		}},
	} {
		a, svc := new(Admission), testService(ServiceConfig{Access: tt.access})
		for i, s := range tt.steps {
			c := tt.access // a new config keeps what is known of clients
			svc.SetSettings(NewSettings(svc, ServiceConfig{Access: c}, nil, svc.Settings()))
			e, pass := visit(a, svc.Settings(), s.from, s.at)
			if e.Outcome != s.want {
				t.Errorf("%s: step %d: %v", tt.name, i, e.Outcome)
			}
			if s.leaves {
				pass.Release()
			}
		}
	}
}

// TestOthersThanProxies: who should have come by a proxy takes nothing from the limits.
func TestOthersThanProxies(t *testing.T) {
	t.Parallel()
	once := limit.Rate{Events: 1, Per: time.Second, Burst: 1}
	a, svc := new(Admission), testService(ServiceConfig{Access: AccessConfig{ProxyOnly: true, Rate: once, ClientRate: once}})
	for range 3 {
		if e, _ := visit(a, svc.Settings(), "192.0.2.1", 0); e.Outcome != Denied {
			t.Errorf("one that no proxy has named: %v", e.Outcome)
		}
	}
	d := Door{Admission: a, Packet: rules.Packet{Client: netip.MustParseAddrPort("192.0.2.1:1000"), Protocol: rules.TCP}}
	if j := d.Screen(nil, svc.Settings(), true, 0); j.Outcome != Running {
		t.Errorf("one that a proxy has named: %v", j.Outcome)
	}
}

// TestLimitsOfRestoredSettings: a client that was still greeting may have limits that its
// service has no more.
func TestLimitsOfRestoredSettings(t *testing.T) {
	t.Parallel()
	limited := AccessConfig{MaxClientConns: 1, Rate: limit.Rate{Events: 1, Per: time.Second, Burst: 1}}
	svc := RestoreService(&ServiceState{Name: "test"}, 0)
	st := SettingsState{Config: ServiceConfig{Access: limited}}
	before := st.Restore(svc, nil, nil, nil, make(map[Ref]*Settings))
	svc.SetSettings(NewSettings(svc, ServiceConfig{}, nil, nil))
	for _, want := range []Outcome{Running, ClientLimit} {
		if e, _ := visit(new(Admission), before, "192.0.2.1", 0); e.Outcome != want {
			t.Errorf("%v, want %v", e.Outcome, want)
		}
	}
}

// TestFewLinesOfTheRefused: a flood has a line a second for each service and outcome.
func TestFewLinesOfTheRefused(t *testing.T) {
	t.Parallel()
	var lines []Record
	a := &Admission{Record: func(r Record) { lines = append(lines, r) }}
	c, other := testService(ServiceConfig{}).Settings(), testService(ServiceConfig{}).Settings()
	for i := range 2500 {
		now := time.Duration(i) * time.Millisecond
		a.TurnAway(c, Origin{}, Denied, now)
		a.TurnAway(c, Origin{}, RateLimited, now)
		a.TurnAway(other, Origin{}, Denied, now)
	}
	var others uint64
	for _, r := range lines {
		others += r.Others
	}
	if len(lines) != 9 || others != 2*3*999 || c.Service.Ended(Denied) != 2500 || c.Service.Accepted() != 5000 {
		t.Errorf("%d lines, %d others", len(lines), others)
	}
	a.Refuse(c, Origin{}, ServerFull, 0)
	a.Refuse(c, Origin{}, ServerFull, 0)
	if len(lines) != 11 {
		t.Errorf("%d lines after two that found no room", len(lines))
	}
}

// TestSilence: dropped clients are held within bounds, make room at once, and are counted once.
func TestSilence(t *testing.T) {
	t.Parallel()
	a := &Admission{DropTimeout: 30 * time.Second}
	a.MaxDropped.Store(2)
	c := testService(ServiceConfig{}).Settings()
	d, err := Divide([]*Settings{c}, 10, 0)
	if err != nil {
		t.Fatal(err)
	}
	a.Redivide(d, nil)
	table := conntrack.New[Service, balancer.Backend](10)
	var flows [3]Flow
	for i := range flows {
		f := &flows[i]
		if o := a.Place(c); o != Running {
			t.Fatal(o)
		}
		id, ent := table.Insert(conntrack.Key{}, c.Service, 0)
		f.Begin(c, id, ent, &Origin{}, 0)
		want := Action{Do: Hold, Until: 30 * time.Second}
		if i == 2 {
			want = EndAs(Denied)
		}
		if got := f.Silence(a, 0); got != want {
			t.Errorf("client %d: %+v, want %+v", i, got, want)
		}
		f.Arm(table, 0)
		if !f.IsOrderly(Denied, false) {
			t.Error("a dropped client is told by a reset")
		}
		MustHold(f)
	}
	if a.HoldsMore() || a.Dropped() != 2 || !a.CanEvict() {
		t.Errorf("%d are held", a.Dropped())
	}
	if id, ok := table.OldestIdle(nil); !ok || id != flows[0].ID || flows[0].Reclaim(table, 0) != EndAs(Reclaimed) {
		t.Error("none makes room")
	}
	for _, end := range []Action{flows[0].Expired(30 * time.Second), flows[1].ClientEnded()} {
		if end != EndAs(Denied) {
			t.Errorf("%+v", end)
		}
	}
	for i := range flows {
		a.Settle(&flows[i], Reclaimed, 0, table.Remove)
	}
	if a.Dropped() != 0 || a.Open.Load() != 0 || c.Service.Ended(Reclaimed) != 0 || c.Service.Accepted() != 0 {
		t.Errorf("%d are held, %d open", a.Dropped(), a.Open.Load())
	}
	if err := a.CheckInvariants(); err != nil {
		t.Error(err)
	}
}
