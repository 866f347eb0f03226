package iptables

import (
	"bufio"
	"net"
	"net/netip"
	"os"
	"strconv"
	"strings"
	"sync"
)

// SystemNames returns the names of this machine: those of DNS and of /etc/services, which is read at the first use.
func SystemNames() Names {
	services := sync.OnceValue(readServices)
	return Names{
		Host: func(a netip.Addr) string {
			names, err := net.LookupAddr(a.String())
			if err != nil || len(names) == 0 {
				return ""
			}
			return strings.TrimSuffix(names[0], ".")
		},
		Service: func(port uint16, protocol string) string { return services()[service{port, protocol}] },
	}
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
