package iptables

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
)

// lookupMost bounds how long the name of one address may take.
const lookupMost = 5 * time.Second

// SystemNames returns the names of this machine: those of DNS, each looked up once, and of /etc/services, which is read
// at the first use. One goroutine at a time uses them.
func SystemNames() Names {
	hosts := make(map[netip.Addr]string)
	services := sync.OnceValue(readServices)
	return Names{
		Host: func(ip netip.Addr) string {
			name, has := hosts[ip]
			if !has {
				name = hostOf(ip)
				hosts[ip] = name
			}
			return name
		},
		Service: func(port uint16, protocol string) string { return services()[service{port, protocol}] },
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

// service is a port of a protocol.
type service struct {
	port     uint16
	protocol string
}

// readServices returns the names of /etc/services. The first one of a port counts.
func readServices() map[service]string {
	names := make(map[service]string)
	file, err := os.Open("/etc/services")
	if err != nil {
		return names
	}
	defer file.Close()
	for lines := bufio.NewScanner(file); lines.Scan(); {
		line, _, _ := strings.Cut(lines.Text(), "#")
		fields := strings.Fields(line)
		if len(fields) < 2 {
			continue
		}
		number, protocol, _ := strings.Cut(fields[1], "/")
		port, err := strconv.ParseUint(number, 10, 16)
		key := service{uint16(port), protocol}
		if _, isKnown := names[key]; err == nil && !isKnown {
			names[key] = fields[0]
		}
	}
	return names
}
