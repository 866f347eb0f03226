package flow

import (
	"fmt"
	"io/fs"
	"net/netip"
	"strconv"
	"strings"
)

// Listener is where a service accepts.
type Listener struct {
	// Network is "tcp", "unix" or "udp".
	Network string
	// Addr is the first address of a tcp or udp listener. The unspecified IPv6 address
	// stands for all addresses of both families, unless V6Only keeps IPv4 out. Port 0
	// lets the kernel choose.
	Addr   netip.AddrPort
	V6Only bool
	// Ports is the number of consecutive ports from Addr.Port(); zero means one.
	Ports int
	// Path is the file of a unix listener; @NAME is one in Linux's abstract namespace,
	// which has no file.
	Path string
	// Mode is the file's permissions; zero leaves them to the umask. User and Group, names or
	// numbers, are its owners; empty means those of the process.
	Mode        fs.FileMode
	User, Group string
	// ServerName (SNI) and Protocol (ALPN) say which ClientHellos the listener takes the
	// clients of; empty is any, and both empty takes all that no other listener with the
	// address does. *.NAME stands for all names below NAME. Not for udp.
	ServerName, Protocol string
	// From has the prefixes of the clients that the listener takes, with + between them; empty takes all that no other
	// listener with the address does. The longest prefix that the peer of the socket is in decides. Not for unix, nor
	// at an address with server names or protocols.
	From string
}

// Prefixes returns those of From.
func (l Listener) Prefixes() ([]netip.Prefix, error) { return parseFrom(l.From) }

func parseFrom(from string) (all []netip.Prefix, err error) {
	if from == "" {
		return nil, nil
	}
	for word := range strings.SplitSeq(from, "+") {
		p, err := netip.ParsePrefix(word)
		if err != nil {
			return nil, err
		}
		all = append(all, p.Masked())
	}
	return all, nil
}

// String returns the listener in the form that the command line takes.
func (l Listener) String() string {
	if l.Network == "unix" {
		return "unix://" + l.Path + l.fileOptions() + l.names()
	}
	host := l.Addr.Addr().String()
	switch {
	case l.BothFamilies():
		host = ""
	case l.Addr.Addr().Is6():
		host = "[" + host + "]"
	}
	if l.Network == "udp" {
		host = "udp://" + host
	}
	first := strconv.Itoa(int(l.Addr.Port()))
	if l.Ports > 1 {
		return fmt.Sprintf("%s:%s-%d", host, first, int(l.Addr.Port())+l.Ports-1) + l.names()
	}
	return host + ":" + first + l.names()
}

// names are the server name, the protocol and the prefixes of clients, as the command line takes them.
func (l Listener) names() string {
	names := ""
	if l.ServerName != "" {
		names = ",sni=" + l.ServerName
	}
	if l.Protocol != "" {
		names += ",alpn=" + l.Protocol
	}
	if l.From != "" {
		names += ",from=" + l.From
	}
	return names
}

// fileOptions are those of a unix listener's file, as the command line takes them.
func (l Listener) fileOptions() string {
	options := ""
	if l.Mode != 0 {
		options = fmt.Sprintf(",mode=%o", l.Mode)
	}
	if l.User != "" {
		options += ",user=" + l.User
	}
	if l.Group != "" {
		options += ",group=" + l.Group
	}
	return options
}

// NeedsHello reports whether only a ClientHello says which clients are the listener's.
func (l Listener) NeedsHello() bool { return l.ServerName != "" || l.Protocol != "" }

// Socket returns the listener without what tells apart who shares its address.
func (l Listener) Socket() Listener {
	l.ServerName, l.Protocol, l.From = "", "", ""
	return l
}

// BothFamilies reports whether the listener is on all addresses of IPv4 and IPv6.
func (l Listener) BothFamilies() bool { return l.Addr.Addr() == netip.IPv6Unspecified() && !l.V6Only }

// Count is the number of sockets that the listener stands for.
func (l Listener) Count() int { return max(l.Ports, 1) }

// Has reports whether an address is one of the listener's.
func (l Listener) Has(at netip.AddrPort) bool {
	port, first := int(at.Port()), int(l.Addr.Port())
	return at.Addr() == l.Addr.Addr() && first <= port && port < first+l.Count()
}

// Port returns the listener of port number i of its range alone.
func (l Listener) Port(i int) Listener {
	if l.Network != "unix" {
		l.Addr = netip.AddrPortFrom(l.Addr.Addr(), l.Addr.Port()+uint16(i))
	}
	l.Ports = 0
	return l
}
