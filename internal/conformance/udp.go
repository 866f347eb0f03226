//go:build linux

package conformance

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

const (
	// maxDatagram is the most that one datagram carries over IPv6. Over IPv4 it is 20
	// bytes less, since the 65,535 include the IP header.
	maxDatagram   = 65527
	maxDatagramV4 = 65507
)

// Datagram is one datagram and who sent it.
type Datagram struct {
	Data []byte
	From netip.AddrPort
}

// UDP is a datagram socket of the suite: a client's or a backend's. It is not
// connected, so it receives datagrams from every sender and no ICMP errors. Any
// goroutine may send while one receives.
type UDP struct {
	Addr string // as in Config.Backends
	c    *C
	who  string
	conn *net.UDPConn
	got  atomic.Int64
	over atomic.Int64 // datagrams with the text letMeIn
}

// letMeIn is the text of clients that have no place.
const letMeIn = "let me in"

func (u *UDP) count(data []byte) {
	u.got.Add(1)
	if string(data) == letMeIn {
		u.over.Add(1)
	}
}

func (u *UDP) errorf(format string, args ...any) error {
	return fmt.Errorf(u.who+": "+format, args...)
}

// openUDP binds a socket. Its receive buffer is the largest that an ordinary user may
// ask for: losses there would count against the proxy.
func (c *C) openUDP(who, addr string) (*UDP, error) {
	ap, err := netip.ParseAddrPort(addr)
	if err != nil {
		return nil, err
	}
	conn, err := net.ListenUDP("udp", net.UDPAddrFromAddrPort(ap))
	if err != nil {
		return nil, fmt.Errorf("%s: %w", who, short(err))
	}
	conn.SetReadBuffer(4 << 20)
	c.own(conn)
	return &UDP{Addr: conn.LocalAddr().String(), c: c, who: who, conn: conn}, nil
}

// UDPBackend binds a port of 127.0.0.1 that stays reserved when the backend vanishes.
// The case receives and answers.
func (c *C) UDPBackend() (b *UDP) {
	c.takePorts(1, func(port int) (err error) {
		b, err = c.openUDP("backend", net.JoinHostPort("127.0.0.1", strconv.Itoa(port)))
		return err
	})
	return b
}

func (c *C) udpBackendOn(addr string) *UDP {
	u, err := c.openUDP("backend", addr)
	c.Must(err)
	return u
}

// ServeUDP is a backend that runs handle for each datagram, one at a time. handle owns
// the data until it returns.
func (c *C) ServeUDP(handle func(b *UDP, d Datagram)) *UDP {
	b := c.UDPBackend()
	b.serve(handle)
	return b
}

func (u *UDP) serve(handle func(b *UDP, d Datagram)) {
	go func() {
		buf := make([]byte, maxDatagram+1)
		for {
			n, from, err := u.conn.ReadFromUDPAddrPort(buf)
			if errors.Is(err, net.ErrClosed) {
				return
			}
			if err != nil {
				u.c.Errorf("%v", u.errorf("receive: %w", short(err)))
				return
			}
			u.count(buf[:n])
			handle(u, Datagram{buf[:n], unmap(from)})
		}
	}()
}

// Names serves answers for Client.Ask: the name of the backend, the port of the
// request's sender, and the request.
func (c *C) Names(name string) *UDP {
	b := c.UDPBackend()
	b.answer(name)
	return b
}

func (u *UDP) answer(name string) {
	u.serve(func(b *UDP, d Datagram) { b.Send(d.From, named(name, d)) })
}

func named(name string, d Datagram) []byte {
	return fmt.Appendf(nil, "%s %d %s", name, d.From.Port(), d.Data)
}

// DeadUDP returns an address of 127.0.0.1 without a socket while the case runs. The
// kernel answers with an ICMP port unreachable.
func (c *C) DeadUDP() string {
	return net.JoinHostPort("127.0.0.1", strconv.Itoa(c.udpPorts(1)))
}

// udpPorts takes n consecutive ports for the rest of the case.
func (c *C) udpPorts(n int) int { return c.takePorts(n, func(int) error { return nil }) }

// The ports below those that the kernel hands out. Those from firstPort on are given a
// few at a time, those from firstRange to lastPort by the thousand.
const (
	firstPort  = 10_000
	firstRange = 22_000
	lastPort   = 32_000
)

// takePorts takes n consecutive ports that are free and for which take succeeds. They
// are below those that the kernel hands out. A TCP socket on an unused address keeps
// other runs of the suite away. A UDP socket could not: its port would not be free for
// the proxy.
func (c *C) takePorts(n int, take func(port int) error) int {
	const keeper = "127.77.77.77"
	r := c.Rand(7)
	for range 1000 {
		base := firstPort + r.IntN(firstRange-firstPort-n)
		var locks []net.Listener
		var err error
		for port := base; port < base+n && err == nil; port++ {
			var lock net.Listener
			if lock, err = net.Listen("tcp", net.JoinHostPort(keeper, strconv.Itoa(port))); err == nil {
				locks = append(locks, lock)
				err = streamFree(port)
			}
		}
		if err == nil && isUDPPortTaken(base, n) {
			err = syscall.EADDRINUSE
		}
		for port := base; port < base+n && err == nil; port++ {
			err = take(port)
		}
		if err != nil {
			for _, l := range locks {
				l.Close()
			}
			continue
		}
		for _, l := range locks {
			c.Cleanup(func() { l.Close() }) // after the proxy is gone
		}
		return base
	}
	c.Skipf("no %d consecutive ports are free", n)
	return 0
}

// streamFree reports whether a TCP server of 127.0.0.1 uses the port. It leaves
// nothing behind that blocks the port. A close does not ensure that: a process that is
// starting holds a copy of each descriptor until it executes.
func streamFree(port int) error {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	// Such a socket, which never listens, does not block others of its kind.
	if err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEADDR, 1); err != nil {
		return err
	}
	return unix.Bind(fd, &unix.SockaddrInet4{Port: port, Addr: [4]byte{127, 0, 0, 1}})
}

func unmap(a netip.AddrPort) netip.AddrPort {
	return netip.AddrPortFrom(a.Addr().Unmap(), a.Port())
}

// Got counts the datagrams so far.
func (u *UDP) Got() int64 { return u.got.Load() }

// Close closes the socket. The port may be taken for a moment longer.
func (u *UDP) Close() error { return u.conn.Close() }

// Vanish closes the socket and waits until its port is free: the kernel refuses later
// datagrams by ICMP. A close alone may not suffice, see streamFree.
func (u *UDP) Vanish() error {
	if err := u.Close(); err != nil {
		return u.errorf("close: %w", short(err))
	}
	for end := time.Now().Add(u.c.patience()); ; time.Sleep(time.Millisecond) {
		if !isBound(u.Addr) {
			return nil
		}
		if time.Now().After(end) {
			return u.errorf("%s is still bound %v after its close", u.Addr, u.c.patience())
		}
	}
}

// Send sends one datagram.
func (u *UDP) Send(to netip.AddrPort, data []byte) error {
	u.conn.SetWriteDeadline(time.Now().Add(u.c.patience()))
	if _, err := u.conn.WriteToUDPAddrPort(data, to); err != nil {
		return u.errorf("send %d bytes: %w", len(data), short(err))
	}
	return nil
}

// Next receives one datagram.
func (u *UDP) Next(within time.Duration) (Datagram, error) {
	buf, _ := u.c.buffers.Get().(*[maxDatagram + 1]byte)
	if buf == nil {
		buf = new([maxDatagram + 1]byte)
	}
	defer u.c.buffers.Put(buf)
	u.conn.SetReadDeadline(time.Now().Add(within))
	n, from, err := u.conn.ReadFromUDPAddrPort(buf[:])
	if err != nil {
		return Datagram{}, u.errorf("receive: %w", short(err))
	}
	u.count(buf[:n])
	return Datagram{bytes.Clone(buf[:n]), unmap(from)}, nil
}

// Receive is Next with the patience of the case.
func (u *UDP) Receive() (Datagram, error) { return u.Next(u.c.patience()) }

// Silent fails when a datagram comes within d.
func (u *UDP) Silent(d time.Duration) error {
	switch got, err := u.Next(d); {
	case err == nil:
		return u.errorf("%d bytes %.40q came from %v where nothing was due", len(got.Data), got.Data, got.From)
	case !errors.Is(err, os.ErrDeadlineExceeded):
		return err
	}
	return nil
}

// maxSegments is how many datagrams the kernel cuts from one send.
const maxSegments = 64

// SendRun sends datagrams of equal size, of which the last one may be shorter, in one
// call. The kernel segments data (UDP_SEGMENT, generic segmentation offload). A
// receiver that asks for UDP_GRO gets them back in one piece; others see separate
// datagrams.
func (u *UDP) SendRun(to netip.AddrPort, data []byte, size int) error {
	oob := make([]byte, unix.CmsgSpace(2))
	h := binary.NativeEndian
	h.PutUint64(oob, uint64(unix.CmsgLen(2)))
	h.PutUint32(oob[8:], unix.SOL_UDP)
	h.PutUint32(oob[12:], unix.UDP_SEGMENT)
	h.PutUint16(oob[16:], uint16(size))
	u.conn.SetWriteDeadline(time.Now().Add(u.c.patience()))
	_, _, err := u.conn.WriteMsgUDPAddrPort(data, oob, to)
	if errors.Is(err, syscall.EINVAL) || errors.Is(err, syscall.EIO) {
		for len(data) > 0 { // this kernel or route cannot
			n := min(size, len(data))
			if err := u.Send(to, data[:n]); err != nil {
				return err
			}
			data = data[n:]
		}
		return nil
	}
	if err != nil {
		return u.errorf("send %d bytes in pieces of %d: %w", len(data), size, short(err))
	}
	return nil
}

// Client is a socket that talks to one address of a proxy.
type Client struct {
	*UDP
	proxy netip.AddrPort
	late  map[string]int // questions whose answers are overdue
	used  time.Time      // when the last answered question was asked
}

// Client opens a client of the first address of p.
func (c *C) Client(p *Proxy) *Client {
	e, err := c.TryClient(p, c.host(1)+":0")
	c.Must(err)
	return e
}

// host returns the i-th of the case's own loopback addresses, for i from 1 to 254. The
// kernel soon gives the port of a closed client to another one, which then receives
// datagrams for the first. On an address of its own a case meets no such datagrams.
func (c *C) host(i int) string {
	r := c.Rand(8)
	return fmt.Sprintf("127.%d.%d.%d", 128+r.IntN(127), r.IntN(256), i)
}

// TryClient opens a client at local for the first address of p, from any
// goroutine.
func (c *C) TryClient(p *Proxy, local string) (*Client, error) {
	u, err := c.openUDP("client", local)
	if err != nil {
		return nil, err
	}
	return &Client{UDP: u, proxy: netip.MustParseAddrPort(p.Addr())}, nil
}

// Say sends one datagram.
func (e *Client) Say(text string) error { return e.Send(e.proxy, []byte(text)) }

// Reply receives one datagram, which must come from the address that the
// client talks to.
func (e *Client) Reply(within time.Duration) ([]byte, error) {
	d, err := e.Next(within)
	if err != nil {
		return nil, err
	}
	if d.From != e.proxy {
		return nil, e.errorf("the reply came from %v, the request went to %v", d.From, e.proxy)
	}
	return d.Data, nil
}

// Hear receives exactly text.
func (e *Client) Hear(text string) error {
	data, err := e.Reply(e.c.patience())
	if err != nil {
		return e.errorf("hear %.20q: %w", text, err)
	}
	if string(data) != text {
		return e.errorf("hear %.20q, got %.40q", text, data)
	}
	return nil
}

// Answer is what a backend made by Names says.
type Answer struct {
	Backend string
	Port    uint16 // from which the request came, the flow's own
}

// Ask sends text and receives the answer to it.
func (e *Client) Ask(text string) (Answer, error) { return e.AskWithin(text, e.c.patience()) }

// AskWithin is Ask with a patience of its own. A later question skips an answer that
// comes too late.
func (e *Client) AskWithin(text string, d time.Duration) (Answer, error) {
	asked := time.Now()
	if err := e.Say(text); err != nil {
		return Answer{}, err
	}
	for end := time.Now().Add(d); ; {
		data, err := e.Reply(time.Until(end))
		if errors.Is(err, os.ErrDeadlineExceeded) {
			if e.late == nil {
				e.late = make(map[string]int)
			}
			e.late[text]++
		}
		if err != nil {
			return Answer{}, e.errorf("ask %.20q: %w", text, err)
		}
		name, rest, _ := strings.Cut(string(data), " ")
		number, echo, _ := strings.Cut(rest, " ")
		port, err := strconv.ParseUint(number, 10, 16)
		switch {
		case err == nil && echo == text:
			e.used = asked
			return Answer{name, uint16(port)}, nil
		case err == nil && e.late[echo] > 0:
			e.late[echo]--
		default:
			return Answer{}, e.errorf("ask %.20q, got %.40q", text, data)
		}
	}
}

// AskAgain asks until an answer comes, as clients do whose flow may expire before the
// backend answers.
func (e *Client) AskAgain(text string) (a Answer, err error) {
	const again = time.Second
	for end := time.Now().Add(e.c.patience()); ; {
		a, err = e.AskWithin(text, min(again, e.c.patience()))
		if !errors.Is(err, os.ErrDeadlineExceeded) || time.Now().After(end) {
			return a, err
		}
	}
}

// Stays asks and fails unless the answer comes through the same flow.
func (e *Client) Stays(before Answer) error {
	now, err := e.Ask("still there?")
	if err == nil && now != before {
		err = e.errorf("the flow went to backend %s from port %d and now to %s from port %d", before.Backend, before.Port, now.Backend, now.Port)
	}
	return err
}
