package conntrack_test

import (
	"fmt"
	"net/netip"
	"time"

	"usher/conntrack"
)

// An idle timeout costs the wheel one visit per timeout. When the deadline passes, the
// owner reads when the flow was last touched.
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
		now, _ := table.NextDeadline() // an event loop sleeps until then
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

// Each datagram finds its flow by key or begins one. In a full table, the flow that has
// waited longest for a first reply is evicted.
func ExampleNewIndexed() {
	table := conntrack.NewIndexed[string, string](2)
	local := netip.MustParseAddrPort("127.0.0.1:53")

	datagram := func(from string) {
		k := conntrack.NewKey(conntrack.UDP, netip.MustParseAddrPort(from), local)
		id, flow := table.Lookup(k)
		if flow == nil {
			if id, flow = table.Insert(k, nil, 0); flow == nil {
				oldest, ok := table.OldestUnreplied(nil)
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

// The second flow of a client gets the backend of the first. The flow that finds it
// failing reassigns the client.
func ExampleAffinity() {
	type service struct{ name string }
	type backend struct{ name string }
	affinity := conntrack.NewAffinity[service, backend](1000)
	web := &service{"web"}
	mask, _ := conntrack.NewMask(24, 64)
	persist := conntrack.AffinityConfig{Timeout: 300 * time.Second, Mask: mask}
	client := netip.MustParseAddr("192.0.2.7")
	one, two := &backend{"one"}, &backend{"two"}

	// choose returns the client's backend if it is usable, else choice.
	choose := func(ref *conntrack.AffinityRef, choice *backend, usable func(*backend) bool, now time.Duration) *backend {
		own := affinity.Get(ref, conntrack.NewAffinityClient(web, client, persist), now)
		if own != nil && usable(own) {
			return own
		}
		// If another flow came first, its backend counts.
		return affinity.Put(ref, conntrack.NewAffinityClient(web, client, persist), own, choice, now)
	}
	all := func(*backend) bool { return true }

	var first, second, third conntrack.AffinityRef
	fmt.Println(choose(&first, one, all, 0).name)
	fmt.Println(choose(&second, two, all, 10*time.Second).name)
	fmt.Println(choose(&third, two, func(b *backend) bool { return b != one }, 20*time.Second).name)
	affinity.Release(&first, 30*time.Second)
	for r := range affinity.Rows(30 * time.Second) {
		fmt.Println(r.Client, r.Service.name, r.Backend.name, r.Flows, r.Expires)
	}
	// Output:
	// one
	// one
	// two
	// 192.0.2.0/24 web two 2 5m20s
}
