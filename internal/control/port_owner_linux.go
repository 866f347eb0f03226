package control

import (
	"bufio"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"net/netip"
	"os"
	"strconv"
	"strings"

	"usher/internal/config"
)

// States in the socket tables: a TCP socket that listens, and a UDP socket that is not connected.
const (
	tcpListen      = "0A"
	udpUnconnected = "07"
)

// portOwner names the process whose socket blocks one of the services, as far as /proc shows it. The kernel hides the
// sockets of other users' processes from an ordinary user. It returns "" if it finds none.
func portOwner(services []*config.Service) string {
	for _, t := range []struct{ table, network, state string }{
		{"/proc/net/tcp", config.TCP, tcpListen},
		{"/proc/net/tcp6", config.TCP, tcpListen},
		{"/proc/net/udp", config.UDP, udpUnconnected},
		{"/proc/net/udp6", config.UDP, udpUnconnected},
	} {
		inTheWay := func(at netip.AddrPort) bool { return isInTheWay(services, t.network, at) }
		if who := portOwnerIn(t.table, t.state, inTheWay); who != "" {
			return who
		}
	}
	return ""
}

// portOwnerIn reads a table whose rows are "sl local remote state … inode": see proc_pid_net(5).
func portOwnerIn(table, state string, inTheWay func(netip.AddrPort) bool) string {
	f, err := os.Open(table)
	if err != nil {
		return ""
	}
	defer f.Close()
	for rows := bufio.NewScanner(f); rows.Scan(); {
		fields := strings.Fields(rows.Text())
		if len(fields) < 10 || fields[3] != state {
			continue
		}
		at, ok := parseSocket(fields[1])
		if !ok || !inTheWay(at) {
			continue
		}
		if pid := pidOf("socket:[" + fields[9] + "]"); pid != 0 {
			name, _ := os.ReadFile(fmt.Sprintf("/proc/%d/comm", pid))
			return fmt.Sprintf("port %d is held by pid %d, %s", at.Port(), pid, strings.TrimSpace(string(name)))
		}
	}
	return ""
}

// parseSocket reads "0100007F:1F90": the address as 32-bit words in the machine's byte order, then the port.
func parseSocket(s string) (netip.AddrPort, bool) {
	host, port, _ := strings.Cut(s, ":")
	words, err := hex.DecodeString(host)
	n, err2 := strconv.ParseUint(port, 16, 16)
	if err != nil || err2 != nil || len(words)%4 != 0 {
		return netip.AddrPort{}, false
	}
	for i := 0; i < len(words); i += 4 {
		binary.NativeEndian.PutUint32(words[i:], binary.BigEndian.Uint32(words[i:]))
	}
	ip, ok := netip.AddrFromSlice(words)
	return netip.AddrPortFrom(ip.Unmap(), uint16(n)), ok
}

// pidOf finds a process that has a descriptor for the link, or returns 0.
func pidOf(link string) int {
	for _, process := range namesIn("/proc") {
		pid, err := strconv.Atoi(process)
		if err != nil {
			continue
		}
		dir := "/proc/" + process + "/fd"
		for _, fd := range namesIn(dir) {
			if to, err := os.Readlink(dir + "/" + fd); err == nil && to == link {
				return pid
			}
		}
	}
	return 0
}

// namesIn lists a directory without a look at each entry, or nothing if it cannot be read.
func namesIn(dir string) []string {
	f, err := os.Open(dir)
	if err != nil {
		return nil
	}
	defer f.Close()
	names, _ := f.Readdirnames(-1)
	return names
}
