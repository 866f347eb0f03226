//go:build linux

package conformance_test

import (
	"errors"
	"io"
	"net"
	"net/netip"
	"os"
	"os/signal"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

// udpForwarder keeps a flow for each pair of client and listening address. Each flow
// has a socket and a goroutine of its own.
type udpForwarder struct {
	forwarderOrder
	mu       sync.Mutex
	flows    map[udpKey]*udpFlow
	pool     *pool
	door     *door
	next     int
	refused  map[string]time.Time // backends, and when they did
	draining bool
	last     *udpFlow // for the flaws "crosses-replies", "starves" and "forgets"
	lastAt   time.Time
	crossed  int
	kept     [][]byte // for the flaw "memory"
	spun     atomic.Int64
}

type udpKey struct {
	front  *net.UDPConn
	client netip.AddrPort
	asked  string // the control message that says which address was asked
	number int    // distinguishes flows that are scheduled anew
}

type udpFlow struct {
	key               udpKey
	back              *net.UDPConn
	backend           string
	born              time.Time
	used              time.Time
	requests, replies int
	lost              bool // for the flaw "black-hole"
}

func runUDPForwarder(order forwarderOrder) {
	f := &udpForwarder{forwarderOrder: order, pool: newPool(order), door: newDoor(order), flows: make(map[udpKey]*udpFlow), refused: make(map[string]time.Time)}
	for _, l := range f.Config.Listen {
		for i := range max(1, l.Ports) {
			host := l.Host
			if host == "*" {
				host = ""
			}
			addr, err := net.ResolveUDPAddr("udp", net.JoinHostPort(host, strconv.Itoa(l.Port+i)))
			if err != nil {
				panic(err)
			}
			network := "udp"
			switch {
			case addr.IP.To4() != nil:
				network = "udp4"
			case host == "::":
				network = "udp6"
			}
			conn, err := net.ListenUDP(network, addr)
			if err != nil {
				panic(err)
			}
			conn.SetReadBuffer(4 << 20)
			raw, err := conn.SyscallConn()
			if err != nil {
				panic(err)
			}
			raw.Control(func(fd uintptr) {
				syscall.SetsockoptInt(int(fd), syscall.IPPROTO_IP, syscall.IP_PKTINFO, 1)
				if network == "udp" {
					syscall.SetsockoptInt(int(fd), syscall.IPPROTO_IP, syscall.IP_PKTINFO, 0)
					syscall.SetsockoptInt(int(fd), syscall.IPPROTO_IPV6, syscall.IPV6_RECVPKTINFO, 1)
				}
			})
			go f.requests(conn)
		}
	}
	if f.Config.Beside != "" {
		go f.serveBeside()
	}
	go f.expire()
	signals := make(chan os.Signal, 2)
	signal.Notify(signals, syscall.SIGTERM)
	<-signals
	if f.Flaw == "dies-at-once" {
		syscall.Exit(0)
	}
	f.mu.Lock()
	f.draining = f.Flaw != "keeps-listening"
	f.mu.Unlock()
	for end := time.Now().Add(f.Config.DrainTimeout); f.Flaw == "never-cuts" || time.Now().Before(end); {
		f.mu.Lock()
		n := len(f.flows)
		f.mu.Unlock()
		if n == 0 {
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
}

func (f *udpForwarder) requests(conn *net.UDPConn) {
	buf, oob := make([]byte, 1<<16), make([]byte, 128)
	for {
		n, m, _, client, err := conn.ReadMsgUDPAddrPort(buf, oob)
		if err != nil {
			panic(err)
		}
		data := buf[:n]
		switch {
		case f.Flaw == "truncates" && n > 4096:
			data = buf[:4096]
		case f.Flaw == "drops-empty" && n == 0:
			continue
		case f.Flaw == "merges" && n == 1472:
			conn.SetReadDeadline(time.Now().Add(time.Millisecond))
			if more, _, _, other, err := conn.ReadMsgUDPAddrPort(buf[n:], make([]byte, 128)); err == nil && other == client {
				data = buf[:n+more]
			}
			conn.SetReadDeadline(time.Time{})
		}
		f.request(udpKey{front: conn, client: client, asked: string(oob[:m])}, data)
	}
}

func (f *udpForwarder) request(key udpKey, data []byte) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.Flaw == "mixes-addresses" {
		key.asked = ""
	}
	if f.Config.OnePacket || f.Flaw == "schedules-anew" {
		key.number = f.next + 1
	}
	if f.Flaw == "starves" && f.last != nil && f.last.key != key && f.last.requests > 100 && time.Since(f.lastAt) < 500*time.Millisecond {
		return
	}
	flow := f.flows[key]
	if flow == nil {
		if f.draining || !f.makeRoom(key.client.Addr()) {
			return
		}
		var isIn bool
		if data, isIn = f.door.admits(key, data); !isIn {
			return
		}
		backend := f.choose(key.client)
		addr, err := net.ResolveUDPAddr("udp", f.address(backend, key.front.LocalAddr()))
		if err != nil {
			panic(err)
		}
		back, err := net.DialUDP("udp", nil, addr)
		if f.Flaw == "hears-strangers" {
			back, err = net.ListenUDP("udp", nil)
		}
		if err != nil {
			if f.Flaw == "spins" && f.spun.Add(1) == 1 { // one is enough, others want the machine too
				go func() {
					for {
						f.spun.Add(1)
					}
				}()
			}
			return // no descriptors
		}
		if f.Flaw == "small-buffer" {
			back.SetReadBuffer(64 << 10)
		} else {
			back.SetReadBuffer(4 << 20)
		}
		flow = &udpFlow{key: key, back: back, backend: backend, born: time.Now()}
		if f.Flaw == "forgets" && f.Config.OnePacket && f.last != nil {
			f.endFlow(f.last)
		}
		if f.Flaw == "memory" {
			f.kept = append(f.kept, []byte(strings.Repeat("x", 16<<10)))
		}
		f.last = flow
		f.flows[key] = flow
		go f.replies(flow)
	}
	if f.Flaw == "starves" {
		f.last, f.lastAt = flow, time.Now()
	}
	if flow.requests > 0 && f.Flaw != "names-once" {
		_, data = f.door.named(key, data)
	}
	flow.used = time.Now()
	if flow.requests++; flow.lost {
		return
	}
	if f.Flaw == "hears-strangers" {
		to := netip.MustParseAddrPort(flow.backend)
		flow.back.WriteToUDPAddrPort(data, to)
		return
	}
	if flow.requests == 1 || strings.HasSuffix(f.Config.Access.SendProxy, "every") && f.Flaw != "only-the-first" {
		g := guest{from: net.UDPAddrFromAddrPort(key.client), to: key.front.LocalAddr()}
		data = append(f.door.header(&f.Config.Access, g), data...)
	}
	f.check(flow, f.passed(flow.back.Write(data)))
}

// choose takes a backend from the pool, and skips those that refused lately.
func (f *udpForwarder) choose(client netip.AddrPort) string {
	f.next++
	order := f.pool.order(client.Addr())
	if f.Flaw == "hashes-the-port" && f.Config.Scheduler == "mh" {
		order = slices.Concat(order[int(client.Port())%len(order):], order)
	}
	chosen := order[0]
	for _, b := range order {
		if time.Since(f.refused[f.pool.backends[b].Addr]) > time.Second {
			chosen = b
			break
		}
	}
	f.pool.keep(client.Addr(), chosen)
	return f.pool.backends[chosen].Addr
}

// makeRoom makes room for a flow of that client, if all places are taken and one can be
// freed.
func (f *udpForwarder) makeRoom(client netip.Addr) bool {
	if f.Flaw == "no-limit" {
		return true
	}
	ofClient := 0
	var oldest, idle *udpFlow
	for _, flow := range f.flows {
		if flow.key.client.Addr() == client {
			ofClient++
		}
		if (flow.replies == 0 || f.Flaw == "evicts-anybody") && (oldest == nil || flow.born.Before(oldest.born)) {
			oldest = flow
		}
		if flow.replies > 0 && time.Since(flow.used) >= 5*time.Second && (idle == nil || flow.used.Before(idle.used)) {
			idle = flow
		}
	}
	if limit := f.Config.MaxClientFlows; limit > 0 && ofClient >= limit {
		return false
	}
	for _, limit := range []int{f.Config.MaxFlows, f.Config.MaxConns} {
		if limit > 0 && len(f.flows) >= limit {
			if oldest == nil && idle != nil && f.Flaw != "evicts-nobody" {
				f.endFlow(idle)
				return true
			}
			if oldest == nil || f.Flaw == "evicts-nobody" {
				return false
			}
			if time.Since(oldest.born) < time.Second && f.Flaw != "evicts-at-once" && f.Flaw != "evicts-anybody" {
				return false
			}
			f.endFlow(oldest)
			return true
		}
	}
	return true
}

// serveBeside is the service of Config.Beside, which has its own limit.
func (f *udpForwarder) serveBeside() {
	l, err := net.Listen("tcp", f.Config.BesideListen.String())
	if err != nil {
		panic(err)
	}
	for {
		client, err := l.Accept()
		if err != nil {
			return
		}
		f.mu.Lock()
		full := f.Flaw == "one-budget" && len(f.flows) >= f.Config.MaxConns
		f.mu.Unlock()
		if full {
			client.Close()
			continue
		}
		go func() {
			defer client.Close()
			back, err := net.Dial("tcp", f.Config.Beside)
			if err != nil {
				return
			}
			defer back.Close()
			go io.Copy(back, client)
			io.Copy(client, back)
		}()
	}
}

func (f *udpForwarder) passed(_ int, err error) error {
	if errors.Is(err, syscall.EMSGSIZE) && f.Flaw != "dies-of-size" {
		return nil
	}
	return err
}

// check ends a flow whose backend is gone.
func (f *udpForwarder) check(flow *udpFlow, err error) {
	if err != nil && f.Flaw == "black-hole" {
		flow.lost = true
		return
	}
	if err != nil && f.Flaw != "keeps-the-dead" {
		f.refused[flow.backend] = time.Now()
		f.endFlow(flow)
	}
}

func (f *udpForwarder) endFlow(flow *udpFlow) {
	if f.flows[flow.key] != flow {
		return
	}
	delete(f.flows, flow.key)
	switch f.Flaw {
	case "leaks", "old-replies": // its socket lives on
	default:
		flow.back.Close()
	}
}

func (f *udpForwarder) replies(flow *udpFlow) {
	buf := make([]byte, 1<<16)
	for {
		n, err := flow.back.Read(buf)
		if errors.Is(err, net.ErrClosed) {
			return
		}
		f.mu.Lock()
		if err != nil {
			f.check(flow, err)
			f.mu.Unlock()
			continue
		}
		f.reply(flow, buf[:n])
		f.mu.Unlock()
	}
}

func (f *udpForwarder) reply(flow *udpFlow, data []byte) {
	if f.Flaw == "leaks" && f.flows[flow.key] != flow {
		return
	}
	if f.Flaw != "only-clients-count" {
		flow.used = time.Now()
	}
	flow.replies++
	to, asked := flow.key.client, []byte(flow.key.asked)
	switch f.Flaw {
	case "crosses-replies":
		if f.crossed++; f.crossed%10 == 0 && f.last != nil {
			to = f.last.key.client
		}
		f.last = flow
	case "restarts": // again and again
		time.AfterFunc(50*time.Millisecond, func() {
			f.mu.Lock()
			defer f.mu.Unlock()
			f.endFlow(flow)
		})
	case "wrong-address":
		asked = nil
	case "first-reply-only":
		if flow.replies > 1 {
			return
		}
	}
	if _, _, err := flow.key.front.WriteMsgUDPAddrPort(data, asked, to); err != nil && f.Flaw == "dies-of-size" {
		f.endFlow(flow)
	}
	due := f.Config.Replies * flow.requests
	if f.Flaw == "counts-no-requests" {
		due = f.Config.Replies
	}
	if due > 0 && flow.replies >= due && f.Flaw != "counts-no-replies" {
		f.endFlow(flow)
	}
}

// expire ends the flows that have been silent.
func (f *udpForwarder) expire() {
	for range time.Tick(10 * time.Millisecond) {
		f.mu.Lock()
		for _, flow := range f.flows {
			timeout := f.Config.IdleTimeout
			if t := f.Config.UnrepliedTimeout; t > 0 && flow.replies == 0 && f.Flaw != "one-timeout" {
				timeout = t
			}
			if timeout > 0 && f.Flaw != "never-expires" && time.Since(flow.used) > timeout {
				f.endFlow(flow)
			}
		}
		f.mu.Unlock()
	}
}
