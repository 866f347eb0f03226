package conntrack_test

import (
	"fmt"
	"net/netip"
	"time"

	"usher/conntrack"
)

// An idle timeout costs the wheel one visit a timeout, however much a flow moves:
// when the deadline passes, the owner looks when the flow was last touched.
func ExampleTable() {
	type service struct{ name string }
	type backend struct{ name string }
	const idle = time.Minute

	table := conntrack.New[service, backend](1000)
	id, flow := table.Insert(
		conntrack.NewKey(conntrack.TCP, netip.MustParseAddrPort("192.0.2.1:40000"), netip.MustParseAddrPort("127.0.0.1:8080")),
		&service{"web"}, 0)
	flow.SetBackend(&backend{"10.0.0.1:80"})
	flow.SetState(conntrack.Established)
	table.Arm(id, idle)

	flow.CountUp(120, 20*time.Second)
	flow.CountDown(4096, 25*time.Second)

	for r := range table.Rows() {
		fmt.Println(r.Key.Client(), r.Service.name, r.Backend.name, r.State, r.Up, r.Down)
	}
	for table.Len() > 0 {
		now, _ := table.Next() // an event loop sleeps until then
		table.Expire(now, func(id conntrack.ID) {
			flow := table.Entry(id)
			if until := flow.Touched() + idle; until > now {
				table.Arm(id, until)
				return
			}
			fmt.Println("idle after", now.Round(time.Second))
			table.Remove(id)
		})
	}
	// Output:
	// 192.0.2.1:40000 web 10.0.0.1:80 established 120 4096
	// idle after 1m25s
}
