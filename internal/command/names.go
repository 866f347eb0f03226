package command

import (
	"bufio"
	"context"
	"net"
	"net/netip"
	"os"
	"strconv"
	"strings"
	"sync"
	"time"

	"usher/internal/iptables"
	"usher/internal/ipvsadm"
)

// lookupMost bounds how long the name of one address may take.
const lookupMost = 5 * time.Second

// lookupHost returns the first IPv4 address of a host.
func lookupHost(name string) (netip.Addr, bool) {
	ctx, cancel := context.WithTimeout(context.Background(), lookupMost)
	defer cancel()
	all, err := net.DefaultResolver.LookupNetIP(ctx, "ip4", name)
	if err != nil || len(all) == 0 {
		return netip.Addr{}, false
	}
	return all[0].Unmap(), true
}

// lookupPort returns the port of a service of this machine.
func lookupPort(service string, p ipvsadm.Protocol) (uint16, bool) {
	port, err := net.LookupPort(networkOf(p), service)
	return uint16(port), err == nil
}

func networkOf(p ipvsadm.Protocol) string {
	if p == ipvsadm.UDP {
		return "udp"
	}
	return "tcp"
}

// namesOf looks names up for a listing, unless it is numeric. Each is looked up once.
func namesOf(f ipvsadm.Format) ipvsadm.Names {
	if f.Numeric {
		return ipvsadm.Names{}
	}
	hosts := make(map[netip.Addr]string)
	services := sync.OnceValue(readServices)
	return ipvsadm.Names{
		Host: func(ip netip.Addr) string {
			name, has := hosts[ip]
			if !has {
				name = hostOf(ip)
				hosts[ip] = name
			}
			return name
		},
		Port: func(port uint16, p ipvsadm.Protocol) string {
			return services()[strconv.Itoa(int(port))+"/"+networkOf(p)]
		},
	}
}

// hostOf returns the name of an address; empty: it has none.
func hostOf(ip netip.Addr) string {
	ctx, cancel := context.WithTimeout(context.Background(), lookupMost)
	defer cancel()
	all, err := net.DefaultResolver.LookupAddr(ctx, ip.String())
	if err != nil || len(all) == 0 {
		return ""
	}
	return strings.TrimSuffix(all[0], ".")
}

// resolveHost returns the IPv4 addresses of a host.
func resolveHost(host string) ([]netip.Addr, error) {
	ctx, cancel := context.WithTimeout(context.Background(), lookupMost)
	defer cancel()
	return net.DefaultResolver.LookupNetIP(ctx, "ip4", host)
}

// tableNames looks names up for a listing of rules that is not numeric.
func tableNames() iptables.Names {
	names := namesOf(ipvsadm.Format{})
	services := sync.OnceValue(readServices)
	return iptables.Names{Host: names.Host, Service: func(port uint16, protocol string) string {
		return services()[strconv.Itoa(int(port))+"/"+protocol]
	}}
}

// servicesFile has the names of ports; see services(5).
const servicesFile = "/etc/services"

// readServices returns the names of ports, by PORT/PROTOCOL.
func readServices() map[string]string {
	names := make(map[string]string)
	f, err := os.Open(servicesFile)
	if err != nil {
		return names
	}
	defer f.Close()
	for s := bufio.NewScanner(f); s.Scan(); {
		line, _, _ := strings.Cut(s.Text(), "#")
		words := strings.Fields(line)
		if len(words) < 2 {
			continue
		}
		if _, has := names[words[1]]; !has {
			names[words[1]] = words[0]
		}
	}
	return names
}
