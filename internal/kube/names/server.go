package names

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/miekg/dns"
	"go.uber.org/zap"
	"golang.org/x/net/netutil"
)

const (
	maxQueries     = 512 // over UDP at one time; more wait in the socket's buffer
	maxConnections = 128 // over TCP; more wait to be accepted
	ioTimeout      = 2 * time.Second
	idleTimeout    = 5 * time.Second
	acceptPause    = 50 * time.Millisecond
)

// Options are what a Server is made of.
type Options struct {
	Zone *Zone
	// Upstreams are asked for all other names, the first one first. Without any such names are refused.
	Upstreams []netip.AddrPort
	Log       *zap.Logger // may be nil
}

// Server answers queries over UDP and TCP at one address.
type Server struct {
	udp     net.PacketConn
	tcp     net.Listener
	addr    netip.AddrPort
	handler *handler
	slots   chan struct{} // one for each query over UDP
}

// Listen binds an address: IP:PORT, IP (port 53), :PORT (all addresses of this machine), or PORT (127.0.0.1). The
// caller calls Serve, or Close. Upstreams that are the server itself are left out.
func Listen(addr string, o Options) (*Server, error) {
	at, err := ParseAddr(addr)
	if err != nil {
		return nil, err
	}
	s := &Server{slots: make(chan struct{}, maxQueries)}
	if err := s.bind(addr, at); err != nil {
		return nil, err
	}
	log := o.Log
	if log == nil {
		log = zap.NewNop()
	}
	others := make([]netip.AddrPort, 0, len(o.Upstreams))
	for _, upstream := range o.Upstreams {
		if isSelf(s.addr, upstream) {
			log.Warn("dns upstream is usher itself, left out", zap.Stringer("upstream", upstream))
			continue
		}
		others = append(others, upstream)
	}
	if len(others) == 0 {
		log.Warn("names outside the cluster are refused, there is no upstream: give --dns-upstream")
	}
	s.handler = &handler{zone: o.Zone, forward: newForwarder(others, log)}
	if !s.addr.Addr().IsUnspecified() {
		s.handler.self = []netip.Addr{s.addr.Addr()}
	}
	return s, nil
}

// bindAttempts is how often a port that the kernel chose for TCP is tried for UDP.
const bindAttempts = 20

func (s *Server) bind(word string, at netip.AddrPort) error {
	host := at.Addr().String()
	if strings.HasPrefix(word, ":") {
		host = "" // both families
	}
	address := net.JoinHostPort(host, strconv.Itoa(int(at.Port())))
	for attempt := 0; ; attempt++ {
		tcp, err := net.Listen("tcp", address)
		if err != nil {
			return fmt.Errorf("dns: %w", err)
		}
		chosen := tcp.Addr().(*net.TCPAddr).AddrPort()
		udp, err := net.ListenPacket("udp", net.JoinHostPort(host, strconv.Itoa(int(chosen.Port()))))
		if err == nil {
			s.tcp, s.udp, s.addr = tcp, udp, netip.AddrPortFrom(chosen.Addr().Unmap(), chosen.Port())
			return nil
		}
		tcp.Close()
		if at.Port() != 0 || attempt == bindAttempts {
			return fmt.Errorf("dns: %w", err)
		}
	}
}

// Addr returns the address that the server listens on.
func (s *Server) Addr() netip.AddrPort { return s.addr }

// Close gives up the address of a server that does not serve.
func (s *Server) Close() error { return errors.Join(s.tcp.Close(), s.udp.Close()) }

// Serve answers queries until ctx ends, or a listener fails. It returns when all queries have ended, and the address
// is free.
func (s *Server) Serve(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	servers := []*dns.Server{s.overUDP(ctx), s.overTCP(ctx)}
	var serving sync.WaitGroup
	ready, ended := make(chan struct{}, len(servers)), make(chan error, len(servers))
	for _, server := range servers {
		server.NotifyStartedFunc = func() { ready <- struct{}{} }
		serving.Go(func() { ended <- server.ActivateAndServe() })
	}
	var err error
	for range servers {
		select {
		case <-ready:
		case err = <-ended:
		}
	}
	if err == nil {
		select {
		case <-ctx.Done():
		case err = <-ended:
		}
	}
	cancel()
	for _, server := range servers {
		_ = server.Shutdown() // one that failed says that it is not started
	}
	s.Close() // of a server that failed before it served
	serving.Wait()
	if err != nil {
		return fmt.Errorf("dns %s: %w", s.addr, err)
	}
	return nil
}

// overUDP returns a server that has at most maxQueries goroutines: it starts one for each datagram that it reads, and
// reads none without a slot. Each datagram ends in one of three places, which gives the slot back: accept, if it is
// not accepted; MsgInvalidFunc, if it can't be parsed; or the handler.
func (s *Server) overUDP(ctx context.Context) *dns.Server {
	release := func() { <-s.slots }
	return &dns.Server{
		PacketConn:     s.udp,
		UDPSize:        ednsSize,
		DecorateReader: func(r dns.Reader) dns.Reader { return slotReader{r, s.slots} },
		MsgInvalidFunc: func([]byte, error) { release() },
		MsgAcceptFunc: func(h dns.Header) dns.MsgAcceptAction {
			action := accept(h)
			if action != dns.MsgAccept {
				release()
			}
			return action
		},
		Handler: dns.HandlerFunc(func(w dns.ResponseWriter, req *dns.Msg) {
			defer release()
			s.serve(ctx, w, req, true)
		}),
	}
}

// slotReader reads a datagram when there is a slot for it, and keeps the slot.
type slotReader struct {
	dns.Reader
	slots chan struct{}
}

// ReadUDP implements dns.Reader.
func (r slotReader) ReadUDP(conn *net.UDPConn, timeout time.Duration) ([]byte, *dns.SessionUDP, error) {
	r.slots <- struct{}{}
	m, session, err := r.Reader.ReadUDP(conn, timeout)
	if err != nil {
		<-r.slots
	}
	return m, session, err
}

func (s *Server) overTCP(ctx context.Context) *dns.Server {
	return &dns.Server{
		Listener:      netutil.LimitListener(deadlineListener{s.tcp}, maxConnections),
		ReadTimeout:   ioTimeout,
		IdleTimeout:   func() time.Duration { return idleTimeout },
		MsgAcceptFunc: accept,
		Handler: dns.HandlerFunc(func(w dns.ResponseWriter, req *dns.Msg) {
			s.serve(ctx, w, req, false)
		}),
	}
}

// serve answers one query. A reply that can't be packed, such as an upstream's, is a failure.
func (s *Server) serve(ctx context.Context, w dns.ResponseWriter, req *dns.Msg, isUDP bool) {
	m := s.handler.reply(ctx, req, isUDP)
	packed, err := m.Pack()
	if err != nil {
		packed, err = new(dns.Msg).SetRcode(req, dns.RcodeServerFailure).Pack()
	}
	if err == nil {
		_, err = w.Write(packed)
	}
	if err != nil && !isUDP {
		w.Close()
	}
}

// deadlineListener does two things that dns.Server does not. It bounds each write to its connections: a client that
// does not read would keep its goroutine. And it waits after an error: without descriptors dns.Server would spin.
type deadlineListener struct{ net.Listener }

// Accept implements net.Listener.
func (l deadlineListener) Accept() (net.Conn, error) {
	conn, err := l.Listener.Accept()
	if err != nil {
		if !errors.Is(err, net.ErrClosed) {
			time.Sleep(acceptPause)
		}
		return nil, err
	}
	return deadlineConn{conn}, nil
}

type deadlineConn struct{ net.Conn }

// Write implements net.Conn.
func (c deadlineConn) Write(p []byte) (int, error) {
	if err := c.SetWriteDeadline(time.Now().Add(ioTimeout)); err != nil {
		return 0, err
	}
	return c.Conn.Write(p)
}
