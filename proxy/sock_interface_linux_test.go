package proxy

import (
	"net"
	"testing"
)

func TestInterfaceOfConnection(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct{ network, listen, dial string }{
		{"tcp4", "127.0.0.1:0", "127.0.0.1"},
		{"tcp6", "[::1]:0", "[::1]"},
		{"tcp", ":0", "127.0.0.1"}, // an IPv4 client of a socket for both families
	} {
		ln, err := net.Listen(tt.network, tt.listen)
		if err != nil {
			t.Logf("%s: %v", tt.listen, err)
			continue
		}
		defer ln.Close()
		_, port, _ := net.SplitHostPort(ln.Addr().String())
		c := dial(t, tt.dial+":"+port)
		accepted, err := ln.Accept()
		if err != nil {
			t.Fatal(err)
		}
		defer accepted.Close()
		for range 2 {
			if got := connInterface(accepted); got != "lo" {
				t.Errorf("%v came by %q", c.LocalAddr(), got)
			}
		}
	}
}
