package proxy

import (
	"fmt"
	"net/netip"
	"os"
	"sync/atomic"
	"testing"

	"golang.org/x/sys/unix"

	"usher/proxy/flow"
)

// disturbed is a socket that sends datagrams to peer, with an error pending that no
// datagram to come is to blame for: as of an ICMP message about an earlier one.
// Sockets of the unix family do the same as those of UDP here, and can be brought to
// it without a network: an error is pending (ECONNRESET) at who is connected to a
// socket that then connects to another one, and a datagram longer than the send
// buffer is too long (EMSGSIZE).
type disturbed struct {
	fd, peer, third int
}

func newDisturbed(t *testing.T) *disturbed {
	t.Helper()
	open := func(name string) (int, *unix.SockaddrUnix) {
		fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { unix.Close(fd) })
		at := &unix.SockaddrUnix{Name: fmt.Sprintf("@usher %d %s %s", os.Getpid(), t.Name(), name)}
		if err := unix.Bind(fd, at); err != nil {
			t.Fatal(err)
		}
		return fd, at
	}
	var d disturbed
	var own, peer, third *unix.SockaddrUnix
	d.fd, own = open("own")
	d.peer, peer = open("peer")
	d.third, third = open("third")
	for _, step := range []struct {
		fd int
		to *unix.SockaddrUnix
	}{{d.fd, peer}, {d.peer, own}, {d.peer, third}, {d.peer, own}} {
		if err := unix.Connect(step.fd, step.to); err != nil {
			t.Fatal(err)
		}
	}
	return &d
}

// got returns the sizes of the datagrams that the peer has.
func (d *disturbed) got() (sizes []int) {
	b := make([]byte, 64<<10)
	for {
		n, err := unix.Read(d.peer, b)
		if err != nil {
			return sizes
		}
		sizes = append(sizes, n)
	}
}

func TestSendAfterAnErrorOfBefore(t *testing.T) {
	t.Parallel()
	const giant = 1 << 20
	block := make([]byte, giant)
	for _, tc := range []struct {
		name      string
		sizes     []int
		got       []int
		oversized uint64
	}{
		{"one", []int{5}, []int{5}, 0},
		{"several", []int{5, 6, 7}, []int{5, 6, 7}, 0},
		{"too long", []int{giant}, nil, 1},
		{"too long, then others", []int{giant, 6, 7}, []int{6, 7}, 1},
		{"too long between others", []int{5, giant, 7}, []int{5, 7}, 1},
		{"too long at the end", []int{5, 6, giant}, []int{5, 6}, 1},
		{"too long all along", []int{giant, 5, giant, giant, 6}, []int{5, 6}, 3},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			x := newDisturbed(t)
			d, svc, gso := new(datagrams), new(Service), true
			d.up.reset()
			for i, n := range tc.sizes {
				// Messages to different receivers make no group.
				if !d.up.add(block[:n], 0, nil, 0, uint32(i), netip.Addr{}, false, false) {
					t.Fatal("no room")
				}
			}
			r := d.send(&d.up, 0, int32(x.fd), &gso, svc)
			bytes := 0
			for _, n := range tc.got {
				bytes += n
			}
			if r.refused || r.messages != len(tc.sizes) || r.datagrams != len(tc.got) || r.bytes != bytes {
				t.Errorf("%+v", r)
			}
			if n := svc.Dropped(flow.DropOversized); n != tc.oversized || svc.Dropped(flow.DropRefused)+svc.Dropped(flow.DropFull) > 0 {
				t.Errorf("%d oversized, %d refused, %d found no room", n, svc.Dropped(flow.DropRefused), svc.Dropped(flow.DropFull))
			}
			if got := x.got(); fmt.Sprint(got) != fmt.Sprint(tc.got) {
				t.Errorf("the peer has %d, want %d", got, tc.got)
			}
			if !gso {
				t.Error("segmentation was turned off for it")
			}
		})
	}
}

// TestSendThatFailsForGood: an error that stays is the way's, not a datagram's.
func TestSendThatFailsForGood(t *testing.T) {
	t.Parallel()
	x := newDisturbed(t)
	// Who is not the peer of its peer may not send to it (EPERM), as with a firewall.
	if err := unix.Connect(x.peer, &unix.SockaddrUnix{Name: fmt.Sprintf("@usher %d %s third", os.Getpid(), t.Name())}); err != nil {
		t.Fatal(err)
	}
	d, svc, gso := new(datagrams), new(Service), true
	for i := range 3 {
		d.up.add(make([]byte, 10), 0, nil, 0, uint32(i), netip.Addr{}, false, false)
	}
	if r := d.send(&d.up, 0, int32(x.fd), &gso, svc); !r.refused || r.messages != 0 || r.datagrams != 0 {
		t.Errorf("%+v", r)
	}
	for reason := range flow.DropReplies + 1 {
		if n := svc.Dropped(reason); n != 0 {
			t.Errorf("%d %v: the datagrams are still to be sent elsewhere", n, reason)
		}
	}
}

// TestSendToAFullPeer drops all that there is no room for, and counts it.
func TestSendToAFullPeer(t *testing.T) {
	t.Parallel()
	x := newDisturbed(t)
	d, svc, gso := new(datagrams), new(Service), true
	block := make([]byte, 150_000) // more in all than the largest send buffer holds
	for i := range maxSegments {
		d.up.add(block, 0, nil, 0, uint32(i), netip.Addr{}, false, false)
	}
	r := d.send(&d.up, 0, int32(x.fd), &gso, svc)
	got := len(x.got())
	if got == 0 || got == maxSegments || r.refused || r.messages != maxSegments || r.datagrams != got || svc.Dropped(flow.DropFull) != uint64(maxSegments-got) {
		t.Errorf("%d of %d have come; %+v, %d found no room", got, maxSegments, r, svc.Dropped(flow.DropFull))
	}
}

// TestSendWithoutSegmentation has the kernel refuse to cut groups, in the two ways in
// which it does so of an ordinary user's sockets: those of UDP-Lite have no such offload
// (EIO), which is what a way without it says, and nor has a datagram without a checksum
// (EINVAL), which is what parts larger than the MTU get from some kernels. Of the two
// only the first holds for whatever may come.
func TestSendWithoutSegmentation(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		name     string
		protocol int
		sumless  bool
		gso      bool // afterwards
		fellBack uint64
	}{
		{"no such way", unix.IPPROTO_UDPLITE, false, false, 1},
		{"not this group", unix.IPPROTO_UDP, true, true, 0},
		{"as ever", unix.IPPROTO_UDP, false, true, 0},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			open := func() int {
				fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, tc.protocol)
				if err != nil {
					t.Skipf("socket of protocol %d: %v", tc.protocol, err)
				}
				t.Cleanup(func() { unix.Close(fd) })
				return fd
			}
			peer, fd := open(), open()
			if err := unix.Bind(peer, &unix.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}); err != nil {
				t.Fatal(err)
			}
			at, err := unix.Getsockname(peer)
			if err != nil {
				t.Fatal(err)
			}
			if err := unix.Connect(fd, at); err != nil {
				t.Fatal(err)
			}
			if tc.sumless {
				if err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_NO_CHECK, 1); err != nil {
					t.Fatal(err)
				}
			}
			d, svc, gso := new(datagrams), new(Service), true
			var sent []int
			for round := range 2 {
				// Two receivers make two groups, one more datagram is none, and heads make another.
				d.up.reset()
				for receiver, sizes := range [][]int{{100, 100, 100, 7}, {50, 50}, {9}, {20, 20, 3}} {
					for _, n := range sizes {
						if receiver == 3 {
							d.up.head = make([]byte, 28)
						}
						if !d.up.add(make([]byte, n), 0, nil, 0, uint32(receiver), netip.Addr{}, false, gso) {
							t.Fatal("no room")
						}
						sent = append(sent, len(d.up.head)+n)
					}
				}
				messages := d.up.n
				if want := map[bool]int{true: 4, false: 10}[gso]; messages != want {
					t.Fatalf("round %d: %d messages, want %d", round, messages, want)
				}
				r := d.send(&d.up, 0, int32(fd), &gso, svc)
				if r.refused || r.messages != messages || r.datagrams != 10 || r.bytes != 459 {
					t.Errorf("round %d: %+v", round, r)
				}
				if gso != tc.gso || svc.FellBack() != tc.fellBack {
					t.Errorf("round %d: segmentation is on: %v; %d sockets fell back", round, gso, svc.FellBack())
				}
			}
			if got := (&disturbed{peer: peer}).got(); fmt.Sprint(got) != fmt.Sprint(sent) {
				t.Errorf("the peer has %d, want %d", got, sent)
			}
			for reason := range flow.DropReplies + 1 {
				if n := svc.Dropped(reason); n != 0 {
					t.Errorf("%d dropped: %v", n, reason)
				}
			}
		})
	}
}

// TestDropsOfTheKernelWrap: its counter has 32 bits.
func TestDropsOfTheKernelWrap(t *testing.T) {
	t.Parallel()
	var counter atomic.Uint64
	seen, want := uint32(1<<32-10), uint64(0)
	for _, step := range []struct {
		count uint32
		more  uint64
	}{{1<<32 - 10, 0}, {1<<32 - 1, 9}, {5, 6}, {5, 0}, {3, 0}, {6, 1}, {1<<32 - 1, 0}, {8, 2}} {
		seen = countDrops(&counter, seen, step.count)
		if want += step.more; counter.Load() != want {
			t.Errorf("at %d: %d drops, want %d", step.count, counter.Load(), want)
		}
	}
}
