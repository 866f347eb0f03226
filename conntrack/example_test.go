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

// Each datagram of a client finds its flow by key, or begins one. When the table
// is full, the flow that has waited longest for a first reply makes room.
func ExampleNewIndexed() {
	table := conntrack.NewIndexed[string, string](2)
	local := netip.MustParseAddrPort("127.0.0.1:53")

	datagram := func(from string) {
		k := conntrack.NewKey(conntrack.UDP, netip.MustParseAddrPort(from), local)
		id, flow := table.Lookup(k)
		if flow == nil {
			if id, flow = table.Insert(k, nil, 0); flow == nil {
				oldest, ok := table.OldestUnreplied()
				if !ok {
					fmt.Println("no room for", from)
					return
				}
				fmt.Println(table.Entry(oldest).Key().Client(), "makes room for", from)
				table.Remove(oldest)
				id, flow = table.Insert(k, nil, 0)
			}
		}
		flow.CountUp(40, 0)
		if flow.Up() == 80 { // say that the second datagram is answered
			table.Assure(id)
		}
	}
	datagram("192.0.2.1:1001")
	datagram("192.0.2.1:1001")
	datagram("192.0.2.2:1002")
	datagram("192.0.2.3:1003")
	datagram("192.0.2.3:1003")
	datagram("192.0.2.4:1004")
	// Output:
	// 192.0.2.2:1002 makes room for 192.0.2.3:1003
	// no room for 192.0.2.4:1004
}
