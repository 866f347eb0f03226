package discovery_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"golang.org/x/net/dns/dnsmessage"

	"usher/internal/discovery"
)

// reply is what a server does with a question: a message for each element.
type reply func(q dnsmessage.Message) []dnsmessage.Message

// nameServer answers UDP and TCP on one port of loopback.
type nameServer struct {
	udp   *net.UDPConn
	tcp   net.Listener
	asked atomic.Int64
}

func newNameServer(t *testing.T, udp, tcp reply) *nameServer {
	t.Helper()
	s := &nameServer{}
	for s.tcp == nil {
		var err error
		if s.udp, err = net.ListenUDP("udp", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)}); err != nil {
			t.Fatal(err)
		}
		if s.tcp, err = net.Listen("tcp", s.udp.LocalAddr().String()); err != nil {
			s.udp.Close() // somebody has the port of TCP
		}
	}
	var serving sync.WaitGroup
	serving.Go(func() { s.serveUDP(udp) })
	serving.Go(func() { s.serveTCP(tcp) })
	t.Cleanup(func() {
		s.udp.Close()
		s.tcp.Close()
		serving.Wait()
	})
	return s
}

func (s *nameServer) serveUDP(r reply) {
	buf := make([]byte, 4096)
	for {
		n, from, err := s.udp.ReadFromUDPAddrPort(buf)
		if err != nil {
			return
		}
		s.asked.Add(1)
		var q dnsmessage.Message
		if q.Unpack(buf[:n]) != nil {
			continue
		}
		for _, m := range r(q) {
			if b, err := m.Pack(); err == nil {
				_, _ = s.udp.WriteToUDPAddrPort(b, from)
			}
		}
	}
}

func (s *nameServer) serveTCP(r reply) {
	for {
		c, err := s.tcp.Accept()
		if err != nil {
			return
		}
		var length [2]byte
		_, _ = io.ReadFull(c, length[:])
		b := make([]byte, binary.BigEndian.Uint16(length[:]))
		var q dnsmessage.Message
		if _, err := io.ReadFull(c, b); err == nil && q.Unpack(b) == nil && r != nil {
			for _, m := range r(q) {
				b, _ := m.Pack()
				_, _ = c.Write(append(binary.BigEndian.AppendUint16(nil, uint16(len(b))), b...))
			}
		}
		c.Close()
	}
}

// impatient is a connection with a deadline of at most a given time.
type impatient struct {
	*net.UDPConn
	most time.Duration
}

func (c impatient) SetDeadline(at time.Time) error {
	if most := time.Now().Add(c.most); most.Before(at) {
		at = most
	}
	return c.UDPConn.SetDeadline(at)
}

// resolver asks the server instead of those of resolv.conf, with a tenth of the default timeout.
func (s *nameServer) resolver() discovery.Resolver {
	return discovery.Resolver{}.WithDial(func(ctx context.Context, network, _ string) (net.Conn, error) {
		c, err := new(net.Dialer).DialContext(ctx, network, s.tcp.Addr().String())
		if udp, ok := c.(*net.UDPConn); ok {
			return impatient{udp, time.Second}, err
		}
		return c, err
	})
}

// record is one resource of a question's own name.
func record(q dnsmessage.Message, ttl uint32, body dnsmessage.ResourceBody) dnsmessage.Message {
	m := answerTo(q, dnsmessage.RCodeSuccess)
	m.Answers = append(m.Answers, dnsmessage.Resource{
		Header: dnsmessage.ResourceHeader{Name: q.Questions[0].Name, Class: dnsmessage.ClassINET, TTL: ttl}, Body: body,
	})
	return m
}

func answerTo(q dnsmessage.Message, code dnsmessage.RCode) dnsmessage.Message {
	return dnsmessage.Message{
		Header:    dnsmessage.Header{ID: q.ID, Response: true, RecursionAvailable: true, RCode: code},
		Questions: q.Questions,
	}
}

func a(last byte) *dnsmessage.AResource { return &dnsmessage.AResource{A: [4]byte{10, 0, 0, last}} }

func aaaa(last byte) *dnsmessage.AAAAResource {
	return &dnsmessage.AAAAResource{AAAA: [16]byte{0: 0xfd, 15: last}}
}

// families answers questions for addresses, each with its own TTL.
func families(four, six uint32) reply {
	return func(q dnsmessage.Message) []dnsmessage.Message {
		if q.Questions[0].Type == dnsmessage.TypeA {
			return []dnsmessage.Message{record(q, four, a(1))}
		}
		return []dnsmessage.Message{record(q, six, aaaa(1))}
	}
}

// only answers questions for A, and others with an error, or not at all.
func only(four uint32, code dnsmessage.RCode, silent bool) reply {
	return func(q dnsmessage.Message) []dnsmessage.Message {
		switch {
		case q.Questions[0].Type == dnsmessage.TypeA:
			return families(four, 0)(q)
		case silent:
			return nil
		}
		return []dnsmessage.Message{answerTo(q, code)}
	}
}

func silent(dnsmessage.Message) []dnsmessage.Message { return nil }

// forged sends a forged message before each answer.
func forged(r reply) reply {
	return func(q dnsmessage.Message) []dnsmessage.Message {
		id, name, plain := record(q, 1, a(66)), record(q, 1, a(66)), record(q, 1, a(66))
		id.ID++
		name.Questions = slices.Clone(name.Questions)
		name.Questions[0].Name = dnsmessage.MustNewName("other.test.")
		plain.Response = false
		return append([]dnsmessage.Message{id, name, plain, {}}, r(q)...)
	}
}

func truncated(q dnsmessage.Message) []dnsmessage.Message {
	m := record(q, 1, a(66))
	m.Truncated = true
	return []dnsmessage.Message{m}
}

func code(c dnsmessage.RCode) reply {
	return func(q dnsmessage.Message) []dnsmessage.Message { return []dnsmessage.Message{answerTo(q, c)} }
}

func words(a discovery.Answer) string {
	var all []string
	for _, r := range a.Records {
		word := r.Addr.String()
		if r.SRV != (discovery.SRVRecord{}) {
			word += fmt.Sprint(r.Host, r.SRV)
		}
		all = append(all, word)
	}
	return strings.Join(all, " ")
}

// TestResolve asks a server of its own for the name db.test. The time that it takes is that of the resolver, or less
// than a second for a family that has no answer when the other has one.
func TestResolve(t *testing.T) {
	t.Parallel()
	if !discovery.Tracing {
		t.Skip("package net asks the system here")
	}
	const s = time.Second
	for _, tt := range []struct {
		name     string
		udp, tcp reply
		want     string // addresses
		ttl      time.Duration
		missing  string
		err      string
	}{
		{name: "both families", udp: families(7, 3), want: "10.0.0.1 fd00::1", ttl: 3 * s},
		{name: "ttl 0", udp: families(0, 60), want: "10.0.0.1 fd00::1", ttl: s},
		{name: "a day", udp: families(86400, 86400), want: "10.0.0.1 fd00::1", ttl: 300 * s},
		{name: "for ever", udp: families(1<<32-1, 1<<31), want: "10.0.0.1 fd00::1", ttl: 300 * s},
		{name: "nothing of AAAA", udp: only(9, dnsmessage.RCodeSuccess, false), want: "10.0.0.1", ttl: 9 * s},
		{name: "AAAA refused", udp: only(9, dnsmessage.RCodeRefused, false), want: "10.0.0.1", ttl: 9 * s},
		{name: "AAAA fails", udp: only(9, dnsmessage.RCodeServerFailure, false), want: "10.0.0.1", ttl: 9 * s,
			missing: "question for AAAA (IPv6) records: name server SERVER: it says ServerFailure"},
		{name: "AAAA never answered", udp: only(9, 0, true), want: "10.0.0.1", ttl: 9 * s,
			missing: "question for AAAA (IPv6) records: name server SERVER: no answer"},
		{name: "forged", udp: forged(families(7, 8)), want: "10.0.0.1 fd00::1", ttl: 7 * s},
		{name: "truncated", udp: truncated, tcp: families(11, 12), want: "10.0.0.1 fd00::1", ttl: 11 * s},
		{name: "fails", udp: code(dnsmessage.RCodeServerFailure), err: "lookup db.test.: name server SERVER: it says ServerFailure"},
		{name: "refused", udp: code(dnsmessage.RCodeRefused), err: "lookup db.test.: name server SERVER: it says Refused"},
		{name: "not there", udp: code(dnsmessage.RCodeNameError), err: "no such host"},
		{name: "empty", udp: code(dnsmessage.RCodeSuccess), err: "no such host"},
		{name: "silent", udp: silent, err: "lookup db.test.: name server SERVER: no answer"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			server := newNameServer(t, tt.udp, tt.tcp)
			got, err := server.resolver().Resolve(t.Context(), "db.test.")
			if err != nil || tt.err != "" {
				if want := place(tt.err); err == nil || tt.err == "" || !strings.Contains(place(err.Error()), want) {
					t.Errorf("error %v, want %q", err, tt.err)
				}
				return
			}
			if words(got) != tt.want || got.TTL != tt.ttl {
				t.Errorf("got %s for %v, want %s for %v", words(got), got.TTL, tt.want, tt.ttl)
			}
			if (got.Missing != nil) != (tt.missing != "") || got.Missing != nil && place(got.Missing.Error()) != tt.missing {
				t.Errorf("missing %v, want %q", got.Missing, tt.missing)
			}
		})
	}
}

// place writes SERVER for the address of resolv.conf that an error names, the first of them.
func place(text string) string {
	before, after, ok := strings.Cut(text, "name server ")
	if !ok {
		return text
	}
	_, after, _ = strings.Cut(after, ": ")
	after, _, _ = strings.Cut(after, ";")
	return before + "name server SERVER: " + after
}

// A cancelled lookup ends at once with its questions; TestMain waits for them.
func TestResolveEndsWithItsContext(t *testing.T) {
	t.Parallel()
	server := newNameServer(t, silent, nil)
	ctx, cancel := context.WithCancel(t.Context())
	result := make(chan error, 1)
	go func() {
		_, err := server.resolver().Resolve(ctx, "db.test.")
		result <- err
	}()
	for server.asked.Load() == 0 && discovery.Tracing {
		time.Sleep(time.Millisecond)
	}
	cancel()
	if err := <-result; err == nil {
		t.Error("a silent server has answered")
	}
}

// srv answers the question for db.test with sets of records, and those for their targets.
func srv(q dnsmessage.Message) []dnsmessage.Message {
	name, kind := q.Questions[0].Name.String(), q.Questions[0].Type
	switch {
	case kind == dnsmessage.TypeSRV:
		m := answerTo(q, dnsmessage.RCodeSuccess)
		for _, r := range []dnsmessage.SRVResource{
			{Priority: 20, Weight: 5, Port: 8003, Target: dnsmessage.MustNewName("two.test.")},
			{Priority: 10, Weight: 0, Port: 8002, Target: dnsmessage.MustNewName("two.test.")},
			{Priority: 10, Weight: 60, Port: 8001, Target: dnsmessage.MustNewName("One.test.")},
			{Priority: 10, Weight: 60, Port: 8004, Target: dnsmessage.MustNewName("broken.test.")},
		} {
			m.Answers = append(m.Answers, dnsmessage.Resource{
				Header: dnsmessage.ResourceHeader{Name: q.Questions[0].Name, Class: dnsmessage.ClassINET, TTL: 50}, Body: &r,
			})
		}
		return []dnsmessage.Message{m}
	case kind == dnsmessage.TypeA && strings.EqualFold(name, "one.test."):
		return []dnsmessage.Message{record(q, 40, a(1))}
	case kind == dnsmessage.TypeA && name == "two.test.":
		return []dnsmessage.Message{record(q, 30, a(2))}
	case name == "broken.test.":
		return code(dnsmessage.RCodeServerFailure)(q)
	}
	return code(dnsmessage.RCodeSuccess)(q)
}

func TestResolveSRV(t *testing.T) {
	t.Parallel()
	if !discovery.Tracing {
		t.Skip("package net asks the system here")
	}
	server := newNameServer(t, srv, nil)
	got, err := server.resolver().Resolve(t.Context(), "srv:_http._tcp.db.test.")
	if want := "10.0.0.1one.test{8001 10 60} 10.0.0.2two.test{8002 10 0} 10.0.0.2two.test{8003 20 5}"; err != nil || words(got) != want || got.TTL != 30*time.Second {
		t.Errorf("got %s for %v, %v, want %s", words(got), got.TTL, err, want)
	}
	if got.Missing == nil || !strings.Contains(got.Missing.Error(), "broken.test") {
		t.Errorf("missing %v, want broken.test", got.Missing)
	}
	none := newNameServer(t, code(dnsmessage.RCodeNameError), nil)
	if _, err := none.resolver().Resolve(t.Context(), "srv:_http._tcp.db.test."); err == nil || !strings.Contains(err.Error(), "no such host") {
		t.Errorf("error %v, want no such host", err)
	}
}

// TestResolveDnsmasq asks a real server.
func TestResolveDnsmasq(t *testing.T) {
	t.Parallel()
	path, err := exec.LookPath("dnsmasq")
	if err != nil || !discovery.Tracing {
		t.Skip("no dnsmasq here, or package net asks the system")
	}
	free := newNameServer(t, silent, nil)
	at := free.tcp.Addr().(*net.TCPAddr)
	free.udp.Close()
	free.tcp.Close()
	var said bytes.Buffer
	server := exec.Command(path, "--keep-in-foreground", "--conf-file=/dev/null", "--no-resolv", "--no-hosts", "--pid-file=", "--user=",
		fmt.Sprint("--port=", at.Port), "--listen-address=127.0.0.1", "--bind-interfaces", "--local=/test/", "--local-ttl=77",
		"--host-record=db.test,10.0.0.1,fd00::1", "--srv-host=_http._tcp.db.test,db.test,8001,10,60")
	server.Stderr = &said
	if err := server.Start(); err != nil {
		t.Skip(err)
	}
	defer server.Wait()
	defer server.Process.Kill()
	for name, want := range map[string]string{
		"db.test.":                "10.0.0.1 fd00::1",
		"srv:_http._tcp.db.test.": "10.0.0.1db.test{8001 10 60} fd00::1db.test{8001 10 60}",
	} {
		var got discovery.Answer
		// The server may begin to answer between the two questions of a name.
		isWhole := func() bool { return len(got.Records) > 0 && got.Missing == nil }
		for deadline := time.Now().Add(30 * time.Second); !isWhole() && time.Now().Before(deadline); time.Sleep(10 * time.Millisecond) {
			got, err = free.resolver().Resolve(t.Context(), name)
		}
		if err != nil || words(got) != want || got.TTL != 77*time.Second || got.Missing != nil {
			t.Errorf("%s: got %s for %v, %v, missing %v, want %s", name, words(got), got.TTL, err, got.Missing, want)
		}
	}
}

// A server that is gone is logged, asked rarely, and tried again.
func TestServerThatIsGone(t *testing.T) {
	t.Parallel()
	if !discovery.Tracing {
		t.Skip("package net asks the system here")
	}
	live := newNameServer(t, families(1, 1), nil)
	var mu sync.Mutex
	var told []string
	dials, gone := 0, true
	r := discovery.Resolver{OnServer: func(server string, err error) {
		mu.Lock()
		defer mu.Unlock()
		told = append(told, fmt.Sprint(server != "", " ", err))
	}}.WithDial(func(ctx context.Context, network, _ string) (net.Conn, error) {
		mu.Lock()
		defer mu.Unlock()
		dials++
		if gone {
			return nil, &net.OpError{Op: "dial", Net: network, Err: os.NewSyscallError("connect", syscall.ECONNREFUSED)}
		}
		return new(net.Dialer).DialContext(ctx, network, live.tcp.Addr().String())
	})
	for range 100 {
		if _, err := r.Resolve(t.Context(), "db.test."); err == nil || !strings.Contains(err.Error(), "connection refused") {
			t.Fatalf("error %v, want connection refused", err)
		}
	}
	mu.Lock()
	if dials > 50 {
		t.Errorf("%d attempts at a server that is not there", dials)
	}
	gone = false
	mu.Unlock()
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(10 * time.Millisecond) {
		_, err := r.Resolve(t.Context(), "db.test.")
		if err == nil {
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("a server that is back is not asked: %v", err)
		}
	}
	mu.Lock()
	defer mu.Unlock()
	if len(told) < 2 || told[0] != "true connection refused" || told[len(told)-1] != "true <nil>" {
		t.Errorf("told %q", told)
	}
}

// FuzzAnswer sends arbitrary answers.
func FuzzAnswer(f *testing.F) {
	q := dnsmessage.Message{Header: dnsmessage.Header{ID: 7}, Questions: []dnsmessage.Question{{
		Name: dnsmessage.MustNewName("db.test."), Type: dnsmessage.TypeA, Class: dnsmessage.ClassINET,
	}}}
	for _, m := range []dnsmessage.Message{record(q, 1<<31, a(1)), answerTo(q, dnsmessage.RCodeRefused), truncated(q)[0]} {
		b, err := m.Pack()
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b, true)
		f.Add(append(binary.BigEndian.AppendUint16(nil, uint16(len(b))), b...), false)
	}
	question, err := q.Pack()
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, said []byte, isPacket bool) {
		if ttl := discovery.ReadAlong(question, said, isPacket); ttl != 0 && (ttl < time.Second || ttl > 5*time.Minute) {
			t.Errorf("an answer holds for %v", ttl)
		}
	})
}
