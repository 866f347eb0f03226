//go:build linux

package conformance

import (
	"math/rand/v2"
	"net/netip"
	"strings"
	"testing"
	"time"
)

// play runs f as a case that needs no proxy.
func play(t *testing.T, f func(c *C)) {
	t.Helper()
	r := judgeCase(t, &Usher{Engine: "none"}, Options{Strict: true}, Case{Name: t.Name(), Run: f}, newBlock())
	if r.Outcome == Skipped {
		t.Skip(r.Reason)
	}
}

// A run that the kernel segments must arrive like datagrams sent one by one.
func TestSendRun(t *testing.T) {
	t.Parallel()
	play(t, func(c *C) {
		a, b := c.UDPBackend(), c.UDPBackend()
		from := udpEnd{a, netip.MustParseAddrPort(b.Addr)}
		to := udpEnd{b, netip.MustParseAddrPort(a.Addr)}
		for _, run := range [][]int{{1200, 1200, 1200}, {1472, 1472, 7}, {9, 9, 9, 1}, {5}, {0, 0, 0}, {30000, 30000}} {
			s := c.Stream(1)
			sent, err := from.send(&s, run, true)
			c.Must(err)
			if len(sent) != len(run) {
				c.Fatalf("%v became %d datagrams", run, len(sent))
			}
			for _, want := range sent {
				c.Must(arrives(to, from, want))
			}
			c.Must(b.Silent(10 * time.Millisecond))
		}
	})
}

// A burst fits its room. It contains runs, some with a shorter datagram at their end.
func TestBurst(t *testing.T) {
	t.Parallel()
	runs, short := 0, 0
	for seed := range uint64(200) {
		used := 0
		for _, run := range burst(rand.New(rand.NewPCG(seed, 0)), room) {
			if len(run) > 1 {
				runs++
			}
			if len(run) > 2 && run[len(run)-1] < run[0] {
				short++
			}
			if len(run) > maxSegments {
				t.Errorf("seed %d: the kernel cuts no run of %d", seed, len(run))
			}
			for i, n := range run {
				used += charge(n)
				if i > 0 && i < len(run)-1 && n != run[0] {
					t.Errorf("seed %d: %v is no run", seed, run)
				}
			}
		}
		if used > room {
			t.Errorf("seed %d: %d bytes of %d", seed, used, room)
		}
	}
	if runs < 500 || short < 200 {
		t.Errorf("%d runs, %d with a shorter end", runs, short)
	}
}

// Arrives and Reply must see each way in which a datagram can be harmed.
func TestArrives(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name string
		sent []string
		want string // in the error; empty: none
	}{
		{"whole", []string{"one", "", "two"}, ""},
		{"merged", []string{"one", "two"}, "3 bytes came where one of 0"},
		{"cut", []string{"on"}, "2 bytes came where one of 3"},
		{"other contents", []string{"onE"}, "wrong contents"},
		{"swapped", []string{"one", "two", ""}, "3 bytes came where one of 0"},
		{"lost", []string{"one", ""}, "a datagram of 3 bytes: backend: receive: i/o timeout"},
	}
	for _, x := range tests {
		t.Run(x.name, func(t *testing.T) {
			t.Parallel()
			play(t, func(c *C) {
				if x.name == "lost" {
					c.o.Patience = 100 * time.Millisecond
				}
				a, b := c.UDPBackend(), c.UDPBackend()
				from := udpEnd{a, netip.MustParseAddrPort(b.Addr)}
				to := udpEnd{b, netip.MustParseAddrPort(a.Addr)}
				for _, text := range x.sent {
					c.Must(from.Send(from.to, []byte(text)))
				}
				var err error
				for _, text := range []string{"one", "", "two"} {
					if err = arrives(to, from, []byte(text)); err != nil {
						break
					}
				}
				if (err == nil) != (x.want == "") || err != nil && !strings.Contains(err.Error(), x.want) {
					t.Errorf("error %v, want %q", err, x.want)
				}
			})
		})
	}
	play(t, func(c *C) {
		a, b, stranger := c.UDPBackend(), c.UDPBackend(), c.UDPBackend()
		client := &Client{UDP: a, proxy: netip.MustParseAddrPort(b.Addr)}
		c.Must(stranger.Send(netip.MustParseAddrPort(a.Addr), []byte("x")))
		if err := client.Hear("x"); err == nil || !strings.Contains(err.Error(), "the reply came from "+stranger.Addr) {
			t.Errorf("a reply from a stranger: %v", err)
		}
	})
}

// Ports that the suite has taken are given to no other run.
func TestUDPPorts(t *testing.T) {
	t.Parallel()
	play(t, func(c *C) {
		base := c.udpPorts(20)
		for range 50 {
			if p := c.udpPorts(1); p >= base && p < base+20 {
				t.Errorf("port %d is given twice", p)
			}
		}
		dead := c.DeadUDP()
		if Upstreams(dead) != 0 {
			t.Errorf("%s has a flow", dead)
		}
		b, err := c.openUDP("backend", dead)
		c.Must(err)
		if b.Addr != dead {
			t.Errorf("bound to %s, want %s", b.Addr, dead)
		}
	})
}
