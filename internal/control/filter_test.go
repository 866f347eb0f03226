package control

import (
	"context"
	"iter"
	"net/netip"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"usher/balancer"
	"usher/conntrack"
	"usher/internal/api"
	"usher/proxy"
	"usher/proxy/flow"
)

// fakeServer has rows, and counts how many it was asked to measure at once.
type fakeServer struct {
	rows      []proxy.Row
	mostAsked int
}

func (s *fakeServer) Now() time.Duration         { return time.Hour }
func (s *fakeServer) Flows() iter.Seq[proxy.Row] { return slices.Values(s.rows) }

// Denied refuses the clients of 10.0.0.7.
func (s *fakeServer) Denied() func(*proxy.Row) bool {
	return func(r *proxy.Row) bool { return r.Client().Addr() == netip.AddrFrom4([4]byte{10, 0, 0, 7}) }
}

func (s *fakeServer) Measure(rows []proxy.Row) {
	s.mostAsked = max(s.mostAsked, len(rows))
	for i := range rows {
		rows[i].RTT = time.Duration(rows[i].Up) * time.Microsecond
	}
}

func (s *fakeServer) Kill(match func(*proxy.Row) bool) int {
	before := len(s.rows)
	s.rows = slices.DeleteFunc(s.rows, func(r proxy.Row) bool { return match(&r) })
	return before - len(s.rows)
}

func (s *fakeServer) FollowFlows(context.Context) iter.Seq[[]proxy.FlowEvent] {
	var all []proxy.FlowEvent
	for _, r := range s.rows {
		all = append(all, proxy.FlowEvent{Change: proxy.FlowEnded, At: s.Now() - time.Second, Row: r})
	}
	return slices.Values([][]proxy.FlowEvent{all, {{Lost: 7}}})
}

func (s *fakeServer) KillByID(ids []proxy.FlowID) []proxy.FlowID {
	before := slices.Clone(s.rows)
	isNamed := func(r *proxy.Row) bool { return slices.Contains(ids, r.FlowID()) }
	s.Kill(isNamed)
	var ended []proxy.FlowID
	for i := range before {
		if isNamed(&before[i]) {
			ended = append(ended, before[i].FlowID())
		}
	}
	return ended
}

// newFakeServer has n flows of two services, each a second younger than the one before.
func newFakeServer(t *testing.T, n int) *fakeServer {
	t.Helper()
	pool, err := balancer.NewPool(balancer.Options{})
	if err != nil {
		t.Fatal(err)
	}
	pool.Update([]balancer.Spec{{Endpoint: balancer.Endpoint{Addr: netip.MustParseAddrPort("10.0.0.1:80")}, Weight: 1}}, 0)
	var services [2]*proxy.Service
	for i, name := range []string{"web", "ns/dns:udp"} {
		services[i] = flow.NewService(name, 0)
		c := &proxy.ServiceConfig{Name: name, Pool: pool, Listeners: []proxy.Listener{
			{Network: []string{"tcp", "udp"}[i], Addr: netip.MustParseAddrPort("[::]:80")}}}
		services[i].SetSettings(flow.NewSettings(services[i], *c, nil, nil))
	}
	s := new(fakeServer)
	for i := range n {
		var r proxy.Row
		client := netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 0, byte(i >> 8), byte(i)}), uint16(1000+i%1000))
		r.Key = conntrack.NewKey([]conntrack.Proto{conntrack.TCP, conntrack.UDP}[i%2], client, netip.MustParseAddrPort("127.0.0.1:80"))
		r.Service, r.Up, r.Tries = services[i%2], uint64(i), 1
		r.State = []conntrack.State{conntrack.Established, conntrack.Unreplied}[i%2]
		r.Created = time.Hour - time.Duration(n-i)*time.Second
		r.Touched = r.Created
		if i%4 == 0 {
			r.Backend = pool.Backends()[0]
		}
		s.rows = append(s.rows, r)
	}
	return s
}

func TestFlowQueries(t *testing.T) {
	t.Parallel()
	s := newFakeServer(t, 8)
	clients := func(all iter.Seq[api.Flow]) string {
		var last []string
		for f := range all {
			at := netip.MustParseAddrPort(f.Client).Addr().As4()
			last = append(last, string('0'+at[3]))
		}
		return strings.Join(last, "")
	}
	for _, test := range []struct{ query, want string }{
		{"", "01234567"},
		{"service=web", "0246"},
		{"service=web,ns/dns:udp&network=udp", "1357"},
		{"service=web&service=ns%2Fdns:udp", "01234567"},
		{"client=10.0.0.4/31", "45"},
		{"client=10.0.0.5", "5"},
		{"client=10.0.0.5:1005", "5"},
		{"client=10.0.0.5:1", ""},
		{"client=::/0", ""},
		{"listener=:80&state=established", "0246"},
		{"listener=:81", ""},
		{"backend=10.0.0.1:80", "04"},
		{"backend=-", "123567"},
		{"min-age=6s", "012"},
		{"min-idle=6s&min-bytes=1", "12"},
		{"min-tries=2", ""},
		{"denied", "7"},
		{"denied=true&service=web", ""},
		{"denied=false", "01234567"},
		{"top=3", "012"},
		{"sort=bytes", "76543210"},
		{"sort=bytes-up&top=2", "76"},
		{"sort=age&top=3", "012"},
		{"sort=rtt&top=2&rtt", "76"},
		{"sort=client&service=ns/dns:udp", "1357"},
		{"sort=-age&top=3", "765"},
		{"sort=-bytes&top=2", "01"},
		{"match=0.0.5", "5"},
		{"match=UDP+-", "1357"},
		{"match=dns+established", ""},
	} {
		values, err := url.ParseQuery(test.query)
		if err != nil {
			t.Fatal(err)
		}
		q, err := ParseFlowQuery(values)
		if err != nil {
			t.Errorf("%s: %v", test.query, err)
			continue
		}
		if got := clients(flows(s, q)); got != test.want {
			t.Errorf("%s: flows %s, want %s", test.query, got, test.want)
		}
		if isAll := test.query == "" || test.query == "top=3" || test.query == "denied=false" || strings.HasPrefix(test.query, "sort=") && !strings.Contains(test.query, "service"); q.IsAll() != isAll {
			t.Errorf("%s: all flows pass: %v", test.query, q.IsAll())
		}
	}
}

func TestFlowQueryErrors(t *testing.T) {
	t.Parallel()
	for query, want := range map[string]string{
		"servce=web":           `servce: unknown parameter (did you mean "service"? have all, backend,`,
		"state=estblished":     `state: unknown word "estblished" (did you mean "established"?`,
		"network=tpc":          `network: unknown word "tpc" (did you mean "tcp"?`,
		"client=web":           `client: "web" is no address, prefix or address:port`,
		"service=":             `service: "" has an empty word`,
		"min-age=5":            `min-age: "5" is no duration such as 90s or 1h`,
		"min-idle=-5s":         `min-idle: "-5s" is no duration`,
		"min-bytes=-1":         `min-bytes: "-1" is no number from 0 to 18446744073709551615`,
		"min-tries=x":          `min-tries: "x" is no number from 0 to 2147483647`,
		"sort=agee":            `sort: unknown column "agee" (did you mean "age"?`,
		"sort=age&top=10001":   `top: at most 10000 rows can be sorted`,
		"client=::&client=::1": `client: it is there 2 times`,
		"id=0-tcp-1":           `id: "0-tcp-1" is no id of a flow`,
		"id=0-tcp-x-1":         `id: "0-tcp-x-1" is no id of a flow`,
		"id=0-sctp-1-1":        `id: "0-sctp-1-1" is no id of a flow`,
		"rtt=maybe":            `rtt: "maybe" is neither true nor false`,
	} {
		values, err := url.ParseQuery(query)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := ParseFlowQuery(values); err == nil || !strings.HasPrefix(err.Error(), want) {
			t.Errorf("%s: %v, want %s", query, err, want)
		}
	}
}

// TestFlowsAreMeasuredInBatches: 100,000 rows are never kept, and no loop is asked for many
// of them at once.
func TestFlowsAreMeasuredInBatches(t *testing.T) {
	t.Parallel()
	s := newFakeServer(t, 10*rttBatch+1)
	n := 0
	for f := range flows(s, FlowQuery{RTT: true}) {
		if f.RTTMS != float64(n)/1000 {
			t.Fatalf("flow %d: RTT %v ms", n, f.RTTMS)
		}
		n++
	}
	if n != len(s.rows) || s.mostAsked != rttBatch {
		t.Errorf("%d flows, %d asked for at once", n, s.mostAsked)
	}
	if n := kill(s, FlowFilter{Network: []string{"udp"}}).Killed; n != 5*rttBatch || len(s.rows) != 5*rttBatch+1 {
		t.Errorf("%d flows ended, %d left", n, len(s.rows))
	}
	s = newFakeServer(t, 8)
	if n := kill(s, FlowFilter{Denied: true}).Killed; n != 1 || len(s.rows) != 7 {
		t.Errorf("%d denied flows ended, %d left", n, len(s.rows))
	}
}
