package ipvsadm

import "strings"

// VersionLine is what -v prints.
const VersionLine = "ipvsadm v1.31 2019/12/24 (compiled with usher and IPVS v1.2.1)\n"

// Usage is what -h prints.
func (p Parser) Usage() string {
	return VersionLine + strings.ReplaceAll(usageText, "PROGRAM", p.program())
}

func (p Parser) program() string {
	if p.Program == "" {
		return "ipvsadm"
	}
	return p.Program
}

const usageText = `The words and formats of ipvsadm, for the services of a running usher.

Usage:
  PROGRAM -A|-E SERVICE [-s SCHEDULER] [-p [SECONDS]] [-M MASK] [-o] [-b FLAGS]   add, edit a service
  PROGRAM -D SERVICE                                                   delete a service
  PROGRAM -a|-e SERVICE -r SERVER -m [-w WEIGHT] [-x UPPER] [-y LOWER]  add, edit a server
  PROGRAM -d SERVICE -r SERVER                                         delete a server
  PROGRAM -C                                                           delete all services
  PROGRAM -L|-l [SERVICE] [-n] [OPTIONS]                               list
  PROGRAM -L -c [-n] [--persistent-conn]                               list connections
  PROGRAM -L --timeout | --daemon
  PROGRAM -S [-n]                                                      print lines for -R
  PROGRAM -R                                                           run lines of stdin
  PROGRAM -Z [SERVICE]                                                 set counters to 0
  PROGRAM --set TCP TCPFIN UDP                                         set timeouts, in seconds; 0 keeps one

SERVICE:
  -t, --tcp-service HOST[:PORT]     also HOST:FIRST-LAST; a server without a port gets the port of the client's packet
  -u, --udp-service HOST[:PORT]
  -f, --fwmark-service MARK [-6]    the addresses that "iptables -t mangle ... -j MARK --set-mark MARK" names

Services:
  -s, --scheduler       rr wrr lc wlc lblc lblcr dh sh mh sed nq fo ovf twos; wlc without it
  -b, --sched-flags     sh-fallback,sh-port or mh-fallback,mh-port
  -p, --persistent      a client stays with its server: 360 seconds without a value
  -M, --netmask         groups clients: a mask, or bits of IPv6
  -o, --ops             each datagram is scheduled on its own

Servers:
  -r, --real-server     HOST[:PORT]; the service's port without it
  -m, --masquerading    full NAT: the server sees usher's address. -g (the default of ipvsadm) and -i take a kernel
  -w, --weight          1 without it; 0: no new connections
  -x, --u-threshold     no new connections from so many on
  -y, --l-threshold     new connections again below so many

Lists:
  --stats, --rate [--exact], --thresholds, --persistent-conn, --tun-info, --nosort, -n, -v
`
