package clusterip

import (
	"fmt"
	"net/netip"

	"usher/internal/reach"
)

// advice tells what a probe of a ClusterIP means for all of its family, and what to do about it.
func advice(ip netip.Addr, how reach.Reach) string {
	family := "IPv4"
	if ip.Is6() {
		family = "IPv6"
	}
	switch how {
	case reach.Local:
		return fmt.Sprintf("ClusterIPs of %s are listened on as they are: this host routes %s to itself", family, ip)
	case reach.Bindable:
		return fmt.Sprintf("ClusterIPs of %s are mapped to 127.0.0.0/8: this host does not route %s to itself; "+
			"for that run once, as root, with the service CIDR of your cluster: %s", family, ip, reach.RouteCommand(ip))
	}
	return fmt.Sprintf("ClusterIPs of %s are mapped to 127.0.0.0/8: no socket of this host can have %s", family, ip)
}
