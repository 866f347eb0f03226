package proxy

import (
	"bytes"
	"net/netip"
	"testing"
	"unsafe"

	"golang.org/x/sys/unix"
)

// given is one call of sendBatch.add: datagrams of equal size, the last may be
// smaller, to one receiver.
type given struct {
	sizes    []int
	receiver uint32
	source   netip.Addr
	head     string // before each
}

func run(n, size int, rest ...int) given {
	g := given{}
	for range n {
		g.sizes = append(g.sizes, size)
	}
	g.sizes = append(g.sizes, rest...)
	return g
}

func (g given) to(receiver uint32) given { g.receiver = receiver; return g }

func (g given) after(head string) given { g.head = head; return g }

func (g given) from(source string) given { g.source = netip.MustParseAddr(source); return g }

func TestTrains(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name     string
		given    []given
		messages int // with offload
	}{
		{"one", []given{run(1, 100)}, 1},
		{"equal", []given{run(1, 100), run(1, 100), run(1, 100)}, 1},
		{"smaller at the end", []given{run(1, 100), run(1, 100), run(1, 7)}, 1},
		{"nothing after the smaller", []given{run(1, 100), run(1, 7), run(1, 7)}, 2},
		{"nothing after the smaller of a group", []given{run(3, 100, 7), run(1, 7)}, 2},
		{"larger", []given{run(1, 100), run(1, 101)}, 2},
		{"empty ones", []given{run(1, 0), run(1, 0), run(1, 5), run(1, 0), run(1, 5)}, 5},
		{"groups", []given{run(10, 100), run(20, 100), run(5, 100, 1)}, 1},
		{"smaller group", []given{run(10, 100), run(2, 50)}, 2},
		{"a group of smaller ones", []given{run(1, 100), run(3, 50)}, 2},
		{"64 and no more", []given{run(64, 10), run(1, 10)}, 2},
		{"64 in two", []given{run(40, 10), run(40, 10)}, 2},
		{"65507 bytes and no more", []given{run(1, 30000), run(1, 30000), run(1, 5507), run(1, 30000)}, 2},
		{"one byte more", []given{run(1, 30000), run(1, 30000), run(1, 5508)}, 2},
		{"receivers", []given{run(1, 100), run(1, 100).to(1), run(1, 100)}, 3},
		{"sources", []given{run(1, 100).from("127.0.0.1"), run(1, 100).from("127.0.0.2")}, 2},
		{"heads", []given{run(3, 100).after("head"), run(2, 100, 7).after("head"), run(1, 7).after("head")}, 2},
		{"some with heads", []given{run(1, 100).after("head"), run(2, 100), run(1, 100).after("head")}, 3},
		{"heads of the empty", []given{run(1, 0).after("head"), run(1, 0).after("head")}, 2},
		{"65507 bytes with heads", []given{run(3, 20000, 5503-12).after("head"), run(1, 20000).after("head")}, 2},
		{"one byte more with heads", []given{run(3, 20000, 5503-11).after("head")}, 2},
		{"65 with heads", []given{run(65, 10).after("head")}, 2},
		{"sources of IPv6", []given{run(1, 100).from("::1"), run(1, 100).from("::1")}, 1},
	}
	for _, x := range tests {
		t.Run(x.name, func(t *testing.T) {
			t.Parallel()
			if n := checkTrains(t, x.given, true); n != x.messages {
				t.Errorf("%d messages, want %d", n, x.messages)
			}
			checkTrains(t, x.given, false)
		})
	}
}

// FuzzTrains reads two bytes a call: what it is like, and a size.
func FuzzTrains(f *testing.F) {
	f.Add([]byte{0, 10, 0, 10, 0, 3, 4, 200, 8, 200, 16, 200, 32, 0})
	f.Add(bytes.Repeat([]byte{12, 255}, 100))
	f.Fuzz(func(t *testing.T, data []byte) {
		var all []given
		for ; len(data) >= 2 && len(all) < 300; data = data[2:] {
			kind, size := data[0], int(data[1])
			if kind&1 != 0 {
				size *= 250
			}
			g := run(1, size)
			if n := min(int(kind>>1&7)*9, maxDatagram/max(size, 1)); n > 1 && size > 0 {
				g = run(n, size)
				if kind&16 != 0 && size > 1 && n*size+size/2 <= maxDatagram {
					g = run(n, size, size/2)
				}
			}
			g.receiver = uint32(kind >> 5 & 1)
			switch {
			case kind&192 == 128:
				g.head = "head"
				g.sizes = g.sizes[:min(len(g.sizes), 3)]
			case kind&64 != 0:
				g.source = netip.AddrFrom4([4]byte{127, 0, 0, 1 + kind>>7})
			}
			all = append(all, g)
		}
		checkTrains(t, all, true)
		checkTrains(t, all, false)
	})
}

// checkTrains adds all that is given and cuts the messages again as the kernel
// does: the datagrams must come out as they went in. It returns the number of
// messages.
func checkTrains(t *testing.T, all []given, gso bool) (messages int) {
	t.Helper()
	type datagram struct {
		payload  []byte
		receiver uint32
		source   netip.Addr
	}
	var want, got []datagram
	var copies, raw []byte
	o := new(sendBatch)
	flush := func() {
		messages += o.n
		for i := range o.n {
			o.finish(i)
			x, m := &o.groups[i], &o.msgs[i]
			var whole []byte
			for _, v := range unsafe.Slice(m.hdr.Iov, int(m.hdr.Iovlen)) {
				whole = append(whole, unsafe.Slice(v.Base, int(v.Len))...)
			}
			copied := make([]byte, x.payload())
			o.copyTo(copied, i)
			copies = append(copies, copied...)
			segment := len(whole)
			var source netip.Addr
			if m.hdr.Control != nil {
				controls, err := unix.ParseSocketControlMessage(unsafe.Slice(m.hdr.Control, int(m.hdr.Controllen)))
				if err != nil {
					t.Fatal(err)
				}
				for _, c := range controls {
					switch {
					case c.Header.Level == unix.IPPROTO_UDP && c.Header.Type == unix.UDP_SEGMENT:
						segment = int(*(*uint16)(unsafe.Pointer(&c.Data[0])))
						if !gso || len(whole) > maxDatagram || (len(whole)+segment-1)/segment > maxSegments {
							t.Errorf("offload %v, %d bytes in parts of %d", gso, len(whole), segment)
						}
					case c.Header.Level == unix.IPPROTO_IP && c.Header.Type == unix.IP_PKTINFO:
						source = netip.AddrFrom4((*unix.Inet4Pktinfo)(unsafe.Pointer(&c.Data[0])).Spec_dst)
					case c.Header.Level == unix.IPPROTO_IPV6 && c.Header.Type == unix.IPV6_PKTINFO:
						source = netip.AddrFrom16((*unix.Inet6Pktinfo)(unsafe.Pointer(&c.Data[0])).Addr)
					default:
						t.Errorf("control message %+v", c.Header)
					}
				}
			}
			n := 0
			for first := true; first || len(whole) > 0; first = false {
				part := whole[:min(segment, len(whole))]
				whole = whole[len(part):]
				got = append(got, datagram{part, x.receiver, source})
				n++
			}
			if n != x.count {
				t.Errorf("message %d counts %d datagrams, and is cut into %d", i, x.count, n)
			}
		}
		o.reset()
	}
	stamp := byte(0)
	for _, g := range all {
		total := 0
		for _, n := range g.sizes {
			total += n
		}
		whole := make([]byte, total)
		for rest, i := whole, 0; i < len(g.sizes); i++ {
			part := rest[:g.sizes[i]]
			rest = rest[len(part):]
			stamp++
			for k := range part {
				part[k] = stamp
			}
			raw = append(raw, part...)
			want = append(want, datagram{append([]byte(g.head), part...), g.receiver, g.source})
		}
		// Without offload, and with heads, the caller adds one by one.
		adds := [][]byte{whole}
		oneByOne := !gso || g.head != ""
		if oneByOne {
			adds = adds[:0]
			for rest, i := whole, 0; i < len(g.sizes); i++ {
				adds = append(adds, rest[:g.sizes[i]:g.sizes[i]])
				rest = rest[g.sizes[i]:]
			}
		}
		for _, p := range adds {
			segment := 0
			if len(g.sizes) > 1 && !oneByOne {
				segment = g.sizes[0]
			}
			o.head = []byte(g.head)
			if !o.add(p, segment, nil, 0, g.receiver, g.source, g.source.Is6(), gso) {
				flush()
				o.head = []byte(g.head)
				if !o.add(p, segment, nil, 0, g.receiver, g.source, g.source.Is6(), gso) {
					t.Fatal("no room after reset")
				}
			}
		}
	}
	flush()
	if len(got) != len(want) {
		t.Fatalf("%d datagrams came out of %d", len(got), len(want))
	}
	for i := range want {
		if !bytes.Equal(got[i].payload, want[i].payload) || got[i].receiver != want[i].receiver || got[i].source != want[i].source {
			t.Fatalf("datagram %d is of %d bytes to %d from %v, want %d to %d from %v", i,
				len(got[i].payload), got[i].receiver, got[i].source, len(want[i].payload), want[i].receiver, want[i].source)
		}
	}
	if !bytes.Equal(copies, raw) {
		t.Error("copies of the messages are not of the datagrams that were given")
	}
	return messages
}

// TestAddressAskedIsTheMoreExactOne: a socket of both families says twice where a
// datagram of IPv4 was sent to, in either order.
func TestAddressAskedIsTheMoreExactOne(t *testing.T) {
	t.Parallel()
	four := unix.Inet4Pktinfo{Spec_dst: [4]byte{192, 0, 2, 1}, Addr: [4]byte{192, 0, 2, 255}}
	six := unix.Inet6Pktinfo{Addr: netip.MustParseAddr("::ffff:192.0.2.255").As16()}
	for first := range 2 {
		b := &batch{}
		c := b.control[0][:0]
		for i := range 2 {
			if i == first {
				c = appendControl(c, unix.IPPROTO_IP, unix.IP_PKTINFO, four)
			} else {
				c = appendControl(c, unix.IPPROTO_IPV6, unix.IPV6_PKTINFO, six)
			}
		}
		c = appendControl(c, unix.IPPROTO_UDP, unix.UDP_GRO, int32(1200))
		b.msgs[0].hdr.SetControllen(len(c)) // all that there may be has room
		a := b.ancillary(0)
		if a.local != netip.MustParseAddr("192.0.2.1") || a.segment != 1200 {
			t.Errorf("%+v", a)
		}
	}
}
