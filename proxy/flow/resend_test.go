package flow

import (
	"math/rand/v2"
	"net/netip"
	"slices"
	"testing"
	"time"
)

// TestResendBuffer writes records of all sizes and looks at those that must be there.
func TestResendBuffer(t *testing.T) {
	t.Parallel()
	r := rand.New(rand.NewPCG(1, 2))
	var b resendBuffer
	type record struct {
		Binding uint64
		data    []byte
		segment int
		void    bool
	}
	var all []record
	for range 3000 {
		n := r.IntN(2000)
		if r.IntN(20) == 0 {
			n = r.IntN(maxDatagramSize + 1)
		}
		x := record{data: make([]byte, n), segment: r.IntN(1500)}
		for i := range x.data {
			x.data[i] = byte(r.Uint32())
		}
		var p []byte
		x.Binding, p = b.add(n, x.segment)
		copy(p, x.data)
		if len(all) > 0 {
			b.follow(all[len(all)-1].Binding, x.Binding)
		}
		if x.void = r.IntN(10) == 0; x.void {
			b.void(x.Binding)
		}
		all = append(all, x)
		used := 0
		for i := len(all) - 1; i >= 0 && used < resendSize-2*maxDatagramSize; i-- {
			x := &all[i]
			used += len(x.data) + resendHeader
			if b.header(x.Binding) == nil {
				t.Fatalf("a record is gone that %d bytes were written after", used)
			}
			p, segment, next := b.record(x.Binding)
			if x.void != (p == nil) || !x.void && (segment != x.segment || !slices.Equal(p, x.data)) {
				t.Fatal("a record has changed")
			}
			if i < len(all)-1 && next != all[i+1].Binding || i == len(all)-1 && next != 0 {
				t.Fatal("a record has lost the next one")
			}
		}
	}
	if b.header(all[0].Binding) != nil || b.header(0) != nil {
		t.Error("a record that was overwritten is there")
	}
}

// TestKeptIsBounded: of one session, and of all.
func TestKeptIsBounded(t *testing.T) {
	t.Parallel()
	at := func(i byte) netip.AddrPort { return netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 0, 0, i}), 53) }
	c := testUDPService(t, UDPConfig{}, at(1), at(2))
	svc := testService(c)
	m := sessionsOf(admissionFor(t, 1000, svc), func(*Session) {})
	begin := func(i byte) *Session {
		x, a := m.route(testBinding(svc), at(i), netip.MustParseAddrPort("192.0.2.2:53"), 0)
		if x == nil {
			t.Fatal(a)
		}
		return x
	}
	send := func(x *Session, n int) bool {
		m.Sent(x, 1, n, time.Millisecond)
		_, p := m.Keep(x, 1, n, 0, time.Millisecond)
		return len(p) == n
	}
	first := begin(1)
	kept := 1
	for ; send(first, 1000); kept++ { // the last one has no copy
	}
	if kept < 60 || kept > resendMost/1000 {
		t.Errorf("%d kB of one session are kept", kept)
	}
	largest := begin(2)
	if !send(largest, maxDatagramSize) {
		t.Error("the largest datagram is not kept")
	}
	for i := byte(3); i < 10; i++ {
		for x := begin(i); send(x, 1000); {
		}
	}
	// The first one's are overwritten: they are lost, and it goes on.
	if m.PeerAbsent(first, 2*time.Millisecond).Do != Open || first.kept.first != 0 || svc.Dropped(DropRefused) != uint64(kept) {
		t.Errorf("%d dropped, want %d", svc.Dropped(DropRefused), kept)
	}
	if up := first.ent.Up(); up != 0 {
		t.Errorf("%d bytes count for a backend that got none", up)
	}
	if len(m.resend.block) != resendSize {
		t.Errorf("%d bytes are kept in all", len(m.resend.block))
	}
}

// TestLostCopiesAreCounted has flows that end although copies of what they sent are left,
// and those that have sent more than there is room to copy.
func TestLostCopiesAreCounted(t *testing.T) {
	t.Parallel()
	const size, fit = 1000, resendMost / (1000 + resendHeader)
	for _, tt := range []struct {
		name     string
		sent     int
		refusals int // by each of two backends
		resent   int // to the second one
		lost     int
	}{
		{"the second backend refuses the first copy", 5, 2, 0, 5},
		{"the second backend refuses the third copy", 5, 2, 2, 5},
		{"the second backend refuses the last copy", 5, 2, 5, 5},
		{"no socket for the second backend", 5, 1, 0, 5},
		{"all are sent again", 5, 1, 5, 0},
		{"more than there is room for", fit + 7, 1, fit, 7},
		{"more than there is room for, and nobody takes it", fit + 7, 2, fit, fit + 7},
		{"never refused", 5, 0, 0, 0},
	} {
		at := netip.MustParseAddrPort("10.0.0.1:53")
		svc := testService(testUDPService(t, UDPConfig{}, at, netip.AddrPortFrom(at.Addr(), 54)))
		m := sessionsOf(admissionFor(t, 1000, svc), func(*Session) {})
		x, _ := m.route(testBinding(svc), at, at, 0)
		for range tt.sent {
			m.Sent(x, 1, size, 0)
			m.Keep(x, 1, size, 0, 0)
		}
		for i := range tt.refusals {
			moved := m.PeerAbsent(x, 0).Do == Open
			if moved != (i == 0) {
				t.Fatalf("%s: moved after refusal %d: %v", tt.name, i+1, moved)
			}
			if !moved {
				break
			}
			if up := x.ent.Up(); up != 0 {
				t.Errorf("%s: %d bytes count for a backend that got none", tt.name, up)
			}
			for range tt.resent * (1 - i) {
				m.Resent(x, 1, size, 0)
			}
		}
		if x.ent != nil {
			m.end(x, Refused, 0)
		}
		if lost := svc.Dropped(DropRefused); lost != uint64(tt.lost) {
			t.Errorf("%s: %d datagrams are counted as dropped, want %d", tt.name, lost, tt.lost)
		}
	}
}
