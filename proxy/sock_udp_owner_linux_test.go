package proxy

import (
	"errors"
	"net"
	"net/netip"
	"os"
	"strconv"
	"sync"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// sharedSocket returns a socket that lets others bind its address, and the address.
func sharedSocket(t *testing.T, at string, connected bool) netip.AddrPort {
	t.Helper()
	var sa sockaddr
	fd, e := newDatagramSocket(sa.setAddrPort(netip.MustParseAddrPort(at)))
	if e == noError {
		t.Cleanup(func() { closeFD(fd) })
		shareAddress(fd, true)
		e = bind(fd, &sa)
	}
	local := localAddr(fd, &sa)
	if e == noError && connected {
		e = connectToItself(fd)
	}
	if e != noError {
		t.Fatal(e)
	}
	return local
}

// lonePort returns a UDP port that no socket has, on any address. It is below those that
// the kernel hands out: a stranger's socket on one loopback address is in the way of all
// addresses.
func lonePort(t *testing.T) string {
	t.Helper()
	for range 700 {
		port := strconv.Itoa(32000 + (os.Getpid()+int(owned.Add(1)))%700)
		if c, err := net.ListenPacket("udp", ":"+port); err == nil {
			c.Close()
			return port
		}
	}
	t.Skip("no port is free")
	return ""
}

// TestAddressHasOneOwner: an address can be had beside sockets that drain, but not beside
// one that receives from anybody, though both let others share it; and of servers that
// start at the same instant one gets it.
func TestAddressHasOneOwner(t *testing.T) {
	t.Parallel()
	eachEngine(t, func(t *testing.T, engine string) {
		try := func(at netip.AddrPort) (*Server, error) {
			c := udpService(t, UDPConfig{}, udpEcho(t))
			c.Listeners[0].Addr = at
			return newServer(Options{Engine: engine, Workers: 2}, c)
		}
		for _, host := range []string{"127.0.0.1", "::1", "0.0.0.0", "::"} {
			host := net.JoinHostPort(host, lonePort(t))
			at := sharedSocket(t, host, false)
			if s, err := try(at); !errors.Is(err, syscall.EADDRINUSE) {
				t.Errorf("%v is somebody's: %v, want address in use", at, err)
				if err == nil {
					s.Close()
				}
			}
			host = net.JoinHostPort(netip.MustParseAddrPort(host).Addr().String(), lonePort(t))
			at = netip.AddrPortFrom(netip.MustParseAddrPort(host).Addr(), sharedSocket(t, host, true).Port())
			const starting = 6
			var servers [starting]*Server
			var errs [starting]error
			var all sync.WaitGroup
			for i := range starting {
				all.Go(func() { servers[i], errs[i] = try(at) })
			}
			all.Wait()
			owners := 0
			for i, s := range servers {
				if s != nil {
					owners++
					s.Close()
				} else if !errors.Is(errs[i], syscall.EADDRINUSE) {
					t.Errorf("%v: %v", at, errs[i])
				}
			}
			if owners != 1 {
				t.Errorf("%v has %d owners", at, owners)
			}
		}
	})
}

// TestOtherOwnerIsUnconnected asks the kernel of sockets that share an address.
func TestOtherOwnerIsUnconnected(t *testing.T) {
	t.Parallel()
	for _, connected := range []bool{false, true} {
		var sa sockaddr
		at := sharedSocket(t, "127.0.0.1:0", connected)
		fd, _ := newDatagramSocket(unix.AF_INET)
		t.Cleanup(func() { closeFD(fd) })
		shareAddress(fd, true)
		sa.setAddrPort(at)
		if e := bind(fd, &sa); e != noError {
			t.Fatal(e)
		}
		if got := hasOtherOwner(fd, at, false); got != !connected {
			t.Errorf("connected %v: another owner: %v", connected, got)
		}
	}
}
