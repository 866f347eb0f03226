package reach

import (
	"net"
	"net/netip"
	"runtime"
	"testing"
)

// TestProbe asks about addresses that no host of tests has, and about one that each has.
func TestProbe(t *testing.T) {
	t.Parallel()
	foreign := Unreachable
	if runtime.GOOS == "linux" {
		foreign = Bindable
	}
	for ip, want := range map[string]Reach{"127.0.0.1": Local, "192.0.2.77": foreign} {
		if got := Probe(netip.MustParseAddr(ip)); got != want {
			t.Errorf("%s: %d, not %d", ip, got, want)
		}
	}
}

// TestLowPort: the port below it is one that this process may not bind.
func TestLowPort(t *testing.T) {
	t.Parallel()
	if low := LowPort(); low > 0 && canBindPort(int(low)-1) {
		t.Errorf("port %d can be bound", low-1)
	}
}

func canBindPort(port int) bool {
	socket, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1), Port: port})
	if err == nil {
		_ = socket.Close()
	}
	return err == nil
}
