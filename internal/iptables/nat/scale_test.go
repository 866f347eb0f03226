package nat

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"
)

// cluster writes the table nat of kube-proxy for Services of a ClusterIP and a NodePort.
func cluster(services, endpoints int) string {
	var heads, lists, services0, nodePorts strings.Builder
	for s := range services {
		svc := fmt.Sprintf("KUBE-SVC-%016d", s)
		fmt.Fprintf(&heads, ":%s - [0:0]\n", svc)
		clusterIP := netip.AddrFrom4([4]byte{10, 96, byte(s >> 8), byte(s)})
		fmt.Fprintf(&services0, "-A KUBE-SERVICES -d %s/32 -p tcp -m comment --comment \"ns/s%d:http cluster IP\" -m tcp --dport 80 -j %s\n", clusterIP, s, svc)
		fmt.Fprintf(&nodePorts, "-A KUBE-NODEPORTS -p tcp -m comment --comment \"ns/s%d:http\" -m tcp --dport %d -j %s\n", s, 30000+s, svc)
		fmt.Fprintf(&lists, "-A %s ! -s 10.244.0.0/16 -d %s/32 -p tcp -m tcp --dport 80 -j KUBE-MARK-MASQ\n", svc, clusterIP)
		for e := range endpoints {
			sep := fmt.Sprintf("KUBE-SEP-%08d%08d", s, e)
			fmt.Fprintf(&heads, ":%s - [0:0]\n", sep)
			chance := ""
			if left := endpoints - e; left > 1 {
				chance = fmt.Sprintf(" -m statistic --mode random --probability %.11f", 1/float64(left))
			}
			pod := netip.AddrFrom4([4]byte{10, 244 + byte(s>>13), byte(s >> 5), byte(s<<3 + e)})
			fmt.Fprintf(&lists, "-A %s%s -j %s\n-A %[3]s -s %[4]s/32 -j KUBE-MARK-MASQ\n-A %[3]s -p tcp -m tcp -j DNAT --to-destination %[4]s:8080\n", svc, chance, sep, pod)
		}
	}
	return "*nat\n:KUBE-SERVICES - [0:0]\n:KUBE-NODEPORTS - [0:0]\n:KUBE-MARK-MASQ - [0:0]\n" + heads.String() +
		"-A PREROUTING -j KUBE-SERVICES\n-A OUTPUT -j KUBE-SERVICES\n-A KUBE-MARK-MASQ -j MARK --set-xmark 0x4000/0x4000\n" +
		services0.String() + nodePorts.String() + lists.String() +
		"-A KUBE-SERVICES -m addrtype --dst-type LOCAL -j KUBE-NODEPORTS\nCOMMIT\n"
}

// TestALargeCluster makes services of 1,000 Services in 40,000 rules, with a few looks at each rule.
func TestALargeCluster(t *testing.T) {
	t.Parallel()
	const services, endpoints = 1000, 13
	tables := restore(t, cluster(services, endpoints))
	rules := tables.Table("nat").Len()
	p := newPlanner(tables, &Env{Local: []netip.Addr{netip.MustParseAddr("192.168.2.1")}})
	begin := time.Now()
	r := p.plan()
	t.Logf("%d rules: %v, %d looks", rules, time.Since(begin), p.work)
	checkSound(t, r)
	if len(r.Services) != services || len(r.Rest) > 0 || len(r.Guards) > 0 {
		t.Errorf("%d services, rest %v, guards %v", len(r.Services), r.Rest, r.Guards)
	}
	if s := r.Services[1]; len(s.Listeners) != 2 || len(s.Backends) != endpoints || s.Backends[0].Weight != 1 {
		t.Errorf("%+v", s)
	}
	if p.work > 12*rules {
		t.Errorf("%d looks at %d rules", p.work, rules)
	}
}

// TestHostileTablesEnd has tables whose ways are without number.
func TestHostileTablesEnd(t *testing.T) {
	t.Parallel()
	var b strings.Builder
	const depth = 14
	b.WriteString("*nat\n")
	for i := range depth {
		fmt.Fprintf(&b, ":C%d - [0:0]\n", i)
	}
	fmt.Fprintf(&b, "-A PREROUTING -p tcp -m tcp --dport 1:9999 -j C0\n")
	for i := range depth - 1 {
		for _, d := range []int{1, 2, 3, 4, 5, 6} {
			fmt.Fprintf(&b, "-A C%d -m statistic --mode random --probability 0.%d -j C%d\n", i, d, i+1)
		}
		fmt.Fprintf(&b, "-A C%d -p tcp -m tcp --dport %d -j RETURN\n", i, 10*i+5)
	}
	fmt.Fprintf(&b, "-A C%d -p tcp -m tcp --dport 7 -j DNAT --to-destination 10.0.0.1:7\nCOMMIT\n", depth-1)
	r := Plan(restore(t, b.String()), &Env{})
	checkSound(t, r)
	if len(r.Services) > 0 || len(r.Rest) == 0 || !strings.Contains(r.Rest[0].Reason, "too many") {
		t.Errorf("%s", write(r))
	}
}
