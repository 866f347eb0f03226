//go:build linux

package conformance_test

import (
	"bufio"
	"bytes"
	"cmp"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/pires/go-proxyproto"

	"usher/internal/conformance"
)

// door decides for the forwarder who may come in, and as whom.
type door struct {
	flaw    string
	access  atomic.Pointer[conformance.Access]
	places  *atomic.Int64 // that clients have
	dropped atomic.Int64
	ids     atomic.Int64

	mu    sync.Mutex
	conns map[netip.Prefix]int // that clients have
	begun map[netip.Prefix]int // that they have begun in this hour
}

func newDoor(order forwarderOrder) *door {
	d := &door{flaw: order.Flaw, conns: make(map[netip.Prefix]int), begun: make(map[netip.Prefix]int)}
	d.access.Store(&order.Config.Access)
	return d
}

// guest is a client that may come in.
type guest struct {
	from, to net.Addr
	tlvs     []proxyproto.TLV
	head     []byte // what it has said
	backend  string // of the name that it asks for; empty: of the pool
	leave    func()
}

// enter lets a client in, or ends it.
func (d *door) enter(client *net.TCPConn) (g guest, isIn bool) {
	g = guest{from: client.RemoteAddr(), to: client.LocalAddr(), leave: func() {}}
	a := d.access.Load()
	if !d.readHeader(a, client, &g) {
		reset(client)
		return g, false
	}
	from := addrPort(g.from)
	switch d.verdict(a, from.Addr(), addrPort(client.LocalAddr()).Port()) {
	case "REJECT":
		if d.flaw == "ends-the-refused" {
			client.Close()
		} else {
			reset(client)
		}
		return g, false
	case "DROP":
		d.drop(a, client)
		return g, false
	}
	leave, isIn := d.count(a, from.Addr())
	g.leave = leave
	if isIn = isIn && d.readHello(a, client, &g); !isIn {
		g.leave()
		if len(a.Names) == 0 || d.flaw != "leaks" {
			reset(client)
		}
	}
	return g, isIn
}

func addrPort(a net.Addr) netip.AddrPort {
	ap := netip.MustParseAddrPort(a.String())
	return netip.AddrPortFrom(ap.Addr().Unmap(), ap.Port())
}

// contains reports whether an address is the one of a word, or in its prefix.
func contains(word string, client netip.Addr) bool {
	if prefix, err := netip.ParsePrefix(word); err == nil {
		return prefix.Contains(client)
	}
	return word == "" || netip.MustParseAddr(word) == client
}

func (d *door) verdict(a *conformance.Access, client netip.Addr, port uint16) string {
	for _, r := range a.Rules {
		if d.flaw != "lets-all-in" && contains(r.Source, client) && (r.Port == 0 || r.Port == int(port)) {
			return r.Target
		}
	}
	return "ACCEPT"
}

// drop holds a client until its time is over, or until it leaves.
func (d *door) drop(a *conformance.Access, client *net.TCPConn) {
	n := d.dropped.Add(1)
	defer d.dropped.Add(-1)
	if d.flaw != "gives-no-room" {
		d.places.Add(-1)
		defer d.places.Add(1)
	}
	hold := cmp.Or(a.DropTimeout, 30*time.Second)
	switch {
	case d.flaw == "tells-the-dropped":
	case d.flaw == "keeps-the-dropped":
		time.Sleep(hold)
	case int(n) <= cmp.Or(a.MaxDropped, 1000) || d.flaw == "holds-all-dropped":
		client.SetReadDeadline(time.Now().Add(hold))
		io.Copy(io.Discard, client)
	}
	reset(client)
}

// count counts a client, unless it has reached a limit.
func (d *door) count(a *conformance.Access, client netip.Addr) (leave func(), isIn bool) {
	bits := cmp.Or(a.ClientBits, client.BitLen())
	if d.flaw == "counts-by-address" {
		bits = client.BitLen()
	}
	who, _ := client.Prefix(bits)
	all, _ := client.Prefix(0)
	leave = func() {}
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, limit := range []struct {
		most int
		of   netip.Prefix
	}{{a.ClientRate, who}, {a.Rate, all}} {
		if limit.most > 0 {
			d.begun[limit.of]++
		}
		if limit.most > 0 && d.begun[limit.of] > limit.most && d.flaw != "no-client-limit" {
			return leave, false
		}
	}
	if a.ClientConns == 0 || d.flaw == "no-client-limit" {
		return leave, true
	}
	if d.conns[who] >= a.ClientConns {
		return leave, false
	}
	d.conns[who]++
	return func() {
		d.mu.Lock()
		defer d.mu.Unlock()
		if d.flaw != "never-gives-back" {
			d.conns[who]--
		}
	}, true
}

// readHeader reads the header of a peer that sends one. It returns false if the client
// must not be served.
func (d *door) readHeader(a *conformance.Access, client *net.TCPConn, g *guest) bool {
	if a.AcceptProxy == "" || d.flaw == "ignores-headers" {
		return true
	}
	if !contains(a.AcceptProxy, addrPort(g.from).Addr()) && d.flaw != "trusts-all" {
		return !a.ProxyOnly
	}
	if d.flaw != "waits-for-ever" {
		client.SetReadDeadline(time.Now().Add(cmp.Or(a.HeaderTimeout, time.Minute)))
		defer client.SetReadDeadline(time.Time{})
	}
	h, said, err := conformance.ReadHeader(client)
	if err != nil {
		g.head = said
		return d.flaw == "serves-the-bad"
	}
	if h.Command.IsProxy() && (h.TransportProtocol.IsIPv4() || h.TransportProtocol.IsIPv6()) && d.flaw != "names-the-peer" {
		g.from, g.to = h.SourceAddr, h.DestinationAddr
	}
	if d.flaw != "loses-values" {
		g.tlvs, _ = h.TLVs()
	}
	if d.flaw == "loses-the-data" {
		client.Read(make([]byte, 1<<10))
	}
	return true
}

// header is what the backend is told about a client.
func (d *door) header(a *conformance.Access, g guest) []byte {
	if a.SendProxy == "" || d.flaw == "sends-no-header" {
		return nil
	}
	version := a.SendProxy[1] - '0'
	if d.flaw == "sends-v1" {
		version = 1
	}
	h := proxyproto.HeaderProxyFromAddrs(version, g.from, g.to)
	tlvs := g.tlvs
	if a.SendID {
		id := d.ids.Add(1)
		if d.flaw == "one-id" {
			id = 1
		}
		tlvs = append(tlvs, proxyproto.TLV{Type: proxyproto.PP2_TYPE_UNIQUE_ID, Value: fmt.Append(nil, id)})
	}
	if h.Version == 2 {
		h.SetTLVs(tlvs)
	}
	text, err := h.Format()
	if err != nil {
		panic(err)
	}
	return text
}

// listens is a connection of which TLS hears all and to which it says nothing.
type listens struct {
	net.Conn
	said *bytes.Buffer
}

func (l listens) Read(b []byte) (int, error) {
	n, err := l.Conn.Read(b)
	l.said.Write(b[:n])
	return n, err
}
func (listens) Write(b []byte) (int, error) { return len(b), nil }

// headed is a connection whose first bytes have been read.
type headed struct {
	net.Conn
	from io.Reader
}

func (h headed) Read(b []byte) (int, error) { return h.from.Read(b) }

// readHello reads the ClientHello where names matter, and finds the backend. It returns
// false if the client must not be served.
func (d *door) readHello(a *conformance.Access, client *net.TCPConn, g *guest) bool {
	if len(a.Names) == 0 {
		return true
	}
	if d.flaw != "waits-for-ever" {
		client.SetReadDeadline(time.Now().Add(cmp.Or(a.HelloTimeout, time.Minute)))
		defer client.SetReadDeadline(time.Time{})
	}
	var hello *tls.ClientHelloInfo
	heard := errors.New("heard")
	config := &tls.Config{GetConfigForClient: func(h *tls.ClientHelloInfo) (*tls.Config, error) {
		hello = h
		return nil, heard
	}}
	var said bytes.Buffer
	var from io.Reader = io.MultiReader(bytes.NewReader(g.head), client)
	if d.flaw == "reads-once" {
		once := make([]byte, 16<<10)
		n, _ := from.Read(once)
		from = io.MultiReader(bytes.NewReader(once[:n]))
	}
	err := tls.Server(listens{headed{client, from}, &said}, config).Handshake()
	if hello == nil && (errors.Is(err, io.EOF) || errors.As(err, new(net.Error)) && !errors.As(err, new(tls.RecordHeaderError))) && d.flaw != "reads-once" {
		return false
	}
	if d.flaw != "loses-the-data" {
		g.head = said.Bytes()
	}
	for _, n := range a.Names {
		if hello != nil && d.flaw != "ignores-names" && d.asksFor(hello, n) {
			g.backend = n.Backend
			return true
		}
	}
	return !a.NamesOnly || d.flaw == "serves-the-unknown"
}

func (d *door) asksFor(hello *tls.ClientHelloInfo, n conformance.ServerName) bool {
	name := strings.ToLower(hello.ServerName)
	below, isBelow := strings.CutPrefix(n.Name, "*")
	hasName := n.Name == "" || n.Name == name || isBelow && strings.HasSuffix(name, below) && d.flaw != "exact-names-only"
	hasProtocol := n.Protocol == "" || d.flaw == "ignores-protocols" || strings.Contains(strings.Join(hello.SupportedProtos, " ")+" ", n.Protocol+" ")
	return hasName && hasProtocol
}

// named takes the header of a datagram off, if it has one, and returns whom that names.
func (d *door) named(key udpKey, data []byte) (netip.Addr, []byte) {
	client := key.client.Addr().Unmap()
	if d.access.Load().AcceptProxy == "" || d.flaw == "ignores-headers" {
		return client, data
	}
	from := bufio.NewReader(bytes.NewReader(data))
	if h, err := proxyproto.Read(from); err == nil {
		client = addrPort(h.SourceAddr).Addr()
		data, _ = io.ReadAll(from)
	}
	return client, data
}

// admits judges the first datagram of a flow. It returns what is behind the header.
func (d *door) admits(key udpKey, data []byte) ([]byte, bool) {
	a := d.access.Load()
	client, data := d.named(key, data)
	if d.verdict(a, client, addrPort(key.front.LocalAddr()).Port()) != "ACCEPT" {
		return nil, false
	}
	_, isIn := d.count(a, client)
	return data, isIn
}
