package proxy

import (
	"io"
	"net"
	"net/netip"
	"testing"
)

// TestSource: connections and datagrams leave from the address that the backend's spec says at that time, and a backend
// whose address cannot be had is one that cannot be reached.
func TestSource(t *testing.T) {
	t.Parallel()
	one, two, foreign := netip.MustParseAddr("127.0.0.2"), netip.MustParseAddr("127.0.0.3"), netip.MustParseAddr("192.0.2.1")
	if c, err := net.ListenUDP("udp4", net.UDPAddrFromAddrPort(netip.AddrPortFrom(one, 0))); err != nil {
		t.Skipf("this machine has one loopback address: %v", err)
	} else {
		c.Close()
	}
	answer := func(c *net.TCPConn, text string) {
		_, _ = c.Read(make([]byte, 1)) // what is not read would make its end a reset
		_, _ = io.WriteString(c, text)
	}
	tells := serve(t, func(c *net.TCPConn) { answer(c, c.RemoteAddr().(*net.TCPAddr).IP.String()) })
	other := serve(t, func(c *net.TCPConn) { answer(c, "other") })
	_, udpTells := udpBackend(t, func(c *net.UDPConn, _ []byte, from netip.AddrPort) {
		_, _ = c.WriteToUDPAddrPort([]byte(from.Addr().Unmap().String()), from)
	})
	eachEngine(t, func(t *testing.T, engine string) {
		for network, c := range map[string]ServiceConfig{"tcp": service(t, tells), "udp": udpService(t, UDPConfig{}, udpTells)} {
			_, at := start(t, Options{Engine: engine, Workers: 1}, c)
			if network == "udp" {
				at = at[len("udp://"):]
			}
			for _, source := range []netip.Addr{one, two, {}} {
				all := specs(c.Pool.Backends()[0].Endpoint().Addr)
				all[0].Source = source
				c.Pool.Update(all, 0)
				want := "127.0.0.1"
				if source.IsValid() {
					want = source.String()
				}
				if got := answerFrom(t, network, at); got != want {
					t.Errorf("%s: the backend saw %q, want %s", network, got, want)
				}
			}
		}
		c := service(t, tells, other)
		all := specs(tells, other)
		all[0].Source, all[1].Backup = foreign, true
		c.Pool.Update(all, 0)
		if _, at := start(t, Options{Engine: engine, Workers: 1}, c); answerFrom(t, "tcp", at) != "other" {
			t.Error("an address that is not local did not lead to the other backend")
		}
	})
}

// answerFrom sends a byte and returns what is answered.
func answerFrom(t *testing.T, network, at string) string {
	t.Helper()
	c, err := net.Dial(network, at)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if _, err := c.Write([]byte{'x'}); err != nil {
		t.Fatal(err)
	}
	answer := make([]byte, 64)
	n, err := c.Read(answer)
	if err != nil {
		t.Fatal(err)
	}
	return string(answer[:n])
}
