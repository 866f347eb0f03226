package dialect

import (
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/netip"
	"runtime"
	"strings"
	"sync"
	"testing"

	"go.uber.org/goleak"
	"go.uber.org/zap"

	"usher/internal/config"
	"usher/internal/control"
	"usher/internal/ipvsadm"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// newServer returns a Server of a running controller without services, which the end of the test closes.
func newServer(t testing.TB) *Server {
	t.Helper()
	if runtime.GOOS != "linux" {
		t.Skip("only Linux has all addresses of 127.0.0.0/8")
	}
	process := config.DefaultProcess()
	process.Workers = 1 // more would each have an order of their own
	c, err := control.New(control.Options{Log: zap.NewNop(), Process: process, File: "usher.yaml"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	if err := c.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	return New(c)
}

// loopback returns an address that hardly anybody else uses.
func loopback() string {
	return fmt.Sprintf("127.%d.%d.%d", 1+rand.IntN(250), rand.IntN(250), 1+rand.IntN(250))
}

// serve greets clients with a name and waits for their end. It returns its address.
func serve(t *testing.T, name string) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var serving sync.WaitGroup
	serving.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			serving.Go(func() {
				_, _ = io.WriteString(c, name)
				_, _ = io.Copy(io.Discard, c)
				_ = c.Close()
			})
		}
	})
	t.Cleanup(func() {
		_ = l.Close()
		serving.Wait()
	})
	return l.Addr().String()
}

// servers returns the addresses of servers, by their names.
func servers(t *testing.T, names string) *strings.Replacer {
	t.Helper()
	var words []string
	for _, name := range strings.Split(names, "") {
		words = append(words, "$"+name, serve(t, name))
	}
	return strings.NewReplacer(words...)
}

// dial connects from an address, and returns the name of the server; empty: none has answered.
func dial(t *testing.T, from, to string) (net.Conn, string) {
	t.Helper()
	d := net.Dialer{}
	if from != "" {
		d.LocalAddr = net.TCPAddrFromAddrPort(netip.AddrPortFrom(netip.MustParseAddr(from), 0))
	}
	c, err := d.Dial("tcp", to)
	if err != nil {
		return nil, ""
	}
	name := make([]byte, 1)
	if _, err := io.ReadFull(c, name); err != nil {
		_ = c.Close()
		return nil, ""
	}
	return c, string(name)
}

// ask returns the servers of clients that come one after the other and stay until all have come, unless they go at once.
func ask(t *testing.T, to string, n int, stays bool) string {
	t.Helper()
	var names strings.Builder
	for range n {
		c, name := dial(t, "", to)
		names.WriteString(name)
		switch {
		case c == nil:
			names.WriteByte('-')
		case stays:
			defer c.Close()
		default:
			_ = c.Close()
		}
	}
	return names.String()
}

// change runs lines that are right.
func change(t *testing.T, s *Server, lines string) {
	t.Helper()
	refused, err := s.ChangeIPVS(t.Context(), strings.Split(strings.TrimSpace(lines), "\n"))
	if err != nil || len(refused) > 0 {
		t.Fatalf("%s\nis refused: %v, %v", lines, refused, err)
	}
}

// refusals runs lines and returns why some were refused, as LINE STATUS TEXT.
func refusals(t *testing.T, s *Server, lines ...string) string {
	t.Helper()
	refused, err := s.ChangeIPVS(t.Context(), lines)
	if err != nil {
		t.Fatal(err)
	}
	var words []string
	for _, e := range refused {
		words = append(words, fmt.Sprint(e.Line, " ", e.Status, " ", e.Text))
	}
	return strings.Join(words, "\n")
}

// find returns what is listed of a service.
func find(t *testing.T, s *Server, addr string) ipvsadm.ServiceView {
	t.Helper()
	for _, v := range s.IPVS().Services {
		if v.Addr.String() == addr {
			return v
		}
	}
	t.Fatalf("there is no service %s", addr)
	return ipvsadm.ServiceView{}
}
