package ipvsadm_test

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"reflect"
	"slices"
	"strings"
	"testing"

	"usher/internal/ipvsadm"
)

// TestAnswers checks the answers of the kernel, and the words and statuses that ipvsadm makes of them.
func TestAnswers(t *testing.T) {
	t.Parallel()
	const s, six = "-t 1.2.3.4:80", "-t [::1]:80"
	state := lines(t, "-A "+s, "-a -m -r 10.0.0.1:80 "+s, "-A "+six, "-A -f 7")
	const unicast = "Invalid operation.  Possibly wrong module version, address not unicast, ..."
	for _, test := range []struct{ line, want string }{
		{"-A " + s, "Service already exists"},
		{"-A -s foo " + s, "Service already exists"},
		{"-A -s foo -t 9.9.9.9:9", "Scheduler or persistence engine not found"},
		{"-A -p --pe foo -t 9.9.9.9:9", "Scheduler or persistence engine not found"},
		{"-E -s foo " + s, "Scheduler or persistence engine not found"},
		{"-E -s foo -t 9.9.9.9:9", "No such service"},
		{"-D -t 9.9.9.9:9", "No such service"},
		{"-D -u 1.2.3.4:80", "No such service"},
		{"-D -f 7 -6", "No such service"},
		{"-Z -t 9.9.9.9:9", "No such service"},
		{"-a -r 10.0.0.1 -t 9.9.9.9:9", "Service not defined"},
		{"-e -r 10.0.0.1 -t 9.9.9.9:9", "Service not defined"},
		{"-d -r 10.0.0.1 -t 9.9.9.9:9", "Service not defined"},
		{"-a -r 10.0.0.1 " + s, "Destination already exists"},
		{"-e -r 10.0.0.2 " + s, "No such destination"},
		{"-d -r 10.0.0.2 " + s, "No such destination"},
		{"-a -r 10.0.0.1 -y 2 -x 1 " + s, "Numerical result out of range"},
		{"-e -r 10.0.0.2 -y 2 -x 1 " + s, "Numerical result out of range"},
		{"-a -r 224.0.0.1 " + s, unicast},
		{"-a -r 0.0.0.1 " + s, unicast},
		{"-a -r [ff02::1]:80 " + six, unicast},
		{"-a -r [fe80::1]:80 " + six, unicast},
		{"-a -r [::]:80 " + six, unicast},
		{"-a -i -r 10.0.0.1 " + six, ""},
		{"-E -s none -p 5 " + s, ""},
		{"-e " + s + " -r 10.0.0.1 -m -w 0 -y 1 -x 1", ""},
		{"-Z " + s, ""},
		{"-d " + s + " -r 10.0.0.1", ""},
		{"-D -f 7", ""},
	} {
		c, err := ipvsadm.Parse(split(test.line))
		if err != nil {
			t.Fatal(test.line, err)
		}
		got := ""
		if err := c.Do(state); err != nil {
			e, is := errors.AsType[*ipvsadm.Error](err)
			if !is || e.Status != 255 {
				t.Errorf("%s: %+v", test.line, err)
			}
			got = err.Error()
		}
		if got != test.want {
			t.Errorf("%s: %q, want %q", test.line, got, test.want)
		}
	}
	if err := state.SetTimeouts(ipvsadm.Timeouts{TCP: 1 << 31}); err != ipvsadm.EINVAL {
		t.Error(err)
	}
	if err := state.SetTimeouts(ipvsadm.Timeouts{UDP: 5}); err != nil || state.Timeouts != (ipvsadm.Timeouts{TCP: 900, TCPFin: 120, UDP: 5}) {
		t.Error(err, state.Timeouts)
	}
}

// dump is all of a state, in order.
func dump(s *ipvsadm.State) string {
	var b strings.Builder
	fmt.Fprintln(&b, s.Timeouts)
	for _, v := range s.Services() {
		fmt.Fprintf(&b, "%+v\n", *v)
		if s.Find(v.Key) != v {
			fmt.Fprintln(&b, "is not found")
		}
	}
	return b.String()
}

// step changes a state at random; few keys make the changes meet.
func step(r *rand.Rand, s *ipvsadm.State, services, destinations int) {
	key := ipvsadm.Key{Mark: 1 + uint32(r.IntN(services))}
	switch kind := r.IntN(4); {
	case kind == 0:
		key = ipvsadm.Key{Protocol: ipvsadm.TCP, Addr: netip.AddrPortFrom(addrOf(r, services, false), uint16(1+r.IntN(2)))}
	case kind == 1:
		key = ipvsadm.Key{Protocol: ipvsadm.UDP, Addr: netip.AddrPortFrom(addrOf(r, services, true), 80)}
	case kind == 2:
		key.IPv6 = true
	}
	service := ipvsadm.Service{Key: key, Scheduler: []string{"rr", "sh", "mh"}[r.IntN(3)], Bits: 128}
	if r.IntN(2) == 0 {
		service.Persist, service.Bits = 1+uint32(r.IntN(9)), 1+r.IntN(32)
	}
	if r.IntN(4) == 0 && service.Scheduler != "rr" {
		service.Flags = []string{service.Scheduler + "-port"}
	}
	service.OnePacket = key.Protocol != ipvsadm.TCP && r.IntN(4) == 0
	is6 := key.IPv6 || key.Addr.Addr().Is6()
	d := ipvsadm.Destination{Addr: netip.AddrPortFrom(addrOf(r, destinations, is6), uint16(r.IntN(2))), Weight: int32(r.IntN(3))}
	if r.IntN(4) == 0 {
		d.Upper = uint32(r.IntN(9))
		d.Lower = d.Upper / 2
	}
	if r.IntN(8) == 0 && key.Mark != 0 {
		d.Method, d.TunnelType, d.TunnelPort, d.TunnelFlags = ipvsadm.Tunnel, ipvsadm.GUE, 9, uint16(r.IntN(3))
	}
	switch n := r.IntN(100); {
	case n < 15:
		s.Add(service)
	case n < 20:
		s.Edit(service)
	case n < 22:
		s.Delete(key)
	case n < 80:
		s.AddDestination(key, d)
	case n < 85:
		s.EditDestination(key, d)
	case n < 95:
		s.DeleteDestination(key, d.Addr)
	default:
		s.SetTimeouts(ipvsadm.Timeouts{TCP: uint32(r.IntN(3)), UDP: uint32(r.IntN(3))})
	}
}

func addrOf(r *rand.Rand, n int, is6 bool) netip.Addr {
	first := []byte{10, 100, 200}[r.IntN(3)]
	if is6 {
		return netip.AddrFrom16([16]byte{0x20, first, 15: byte(r.IntN(n))})
	}
	return netip.AddrFrom4([4]byte{first, 0, 0, byte(r.IntN(n))})
}

// TestSaved checks for 1,000 random states that nothing is lost: Lines make the same state, and what Save writes makes
// one that Save writes alike.
func TestSaved(t *testing.T) {
	t.Parallel()
	for seed := range uint64(1000) {
		r := rand.New(rand.NewPCG(seed, 1))
		s := ipvsadm.NewState()
		for range 10 + r.IntN(90) {
			step(r, s, 4, 40)
		}
		again := lines(t, slices.Collect(s.Lines())...)
		if dump(again) != dump(s) {
			t.Fatalf("seed %d: lines make\n%swant\n%s", seed, dump(again), dump(s))
		}
		var first, second strings.Builder
		if err := s.Save(&first, ipvsadm.Names{}); err != nil {
			t.Fatal(err)
		}
		restored := lines(t, strings.Split(strings.TrimSpace(first.String()), "\n")...)
		if err := restored.Save(&second, ipvsadm.Names{}); err != nil || first.String() != second.String() {
			t.Fatalf("seed %d: %v: saved again\n%swant\n%s", seed, err, &second, &first)
		}
		if !reflect.DeepEqual(unordered(restored), unordered(s)) {
			t.Fatalf("seed %d: restored\n%swant\n%s", seed, dump(restored), dump(s))
		}
	}
}

// unordered is a state as a set.
func unordered(s *ipvsadm.State) map[ipvsadm.Key]ipvsadm.Service {
	all := map[ipvsadm.Key]ipvsadm.Service{}
	for _, v := range s.Services() {
		v := *v
		v.Destinations = slices.SortedFunc(slices.Values(v.Destinations), func(a, b ipvsadm.Destination) int {
			return a.Addr.Compare(b.Addr)
		})
		all[v.Key] = v
	}
	return all
}

// TestClones checks that a clone and its origin do not see each other's changes, and share what did not change.
func TestClones(t *testing.T) {
	t.Parallel()
	for seed := range uint64(20) {
		r := rand.New(rand.NewPCG(seed, 2))
		s := ipvsadm.NewState()
		for range 150 {
			step(r, s, 4, 40)
		}
		var states []*ipvsadm.State
		var kept []string
		for range 20 {
			states, kept = append(states, s), append(kept, dump(s))
			next := s.Clone()
			if !slices.Equal(next.Services(), s.Services()) {
				t.Fatal("a clone has services of its own")
			}
			if r.IntN(3) == 0 { // the origin changes, and the clone is kept
				next, s = s, next
				states[len(states)-1] = s
			}
			for range r.IntN(20) {
				step(r, next, 4, 40)
			}
			s = next
		}
		for i := range states {
			if got := dump(states[i]); got != kept[i] {
				t.Fatalf("seed %d: state %d has become\n%swant\n%s", seed, i, got, kept[i])
			}
		}
	}
}

// TestNewestFirst checks the order of destinations, which schedulers and --nosort look at.
func TestNewestFirst(t *testing.T) {
	t.Parallel()
	s := lines(t, "-A -f 1", "-a -f 1 -r 10.0.0.1:1", "-a -f 1 -r 10.0.0.2:1", "-a -f 1 -r 10.0.0.3:1", "-e -f 1 -r 10.0.0.1:1 -w 5",
		"-d -f 1 -r 10.0.0.2:1", "-a -f 1 -r 10.0.0.2:1")
	var got []string
	for _, d := range s.Find(ipvsadm.Key{Mark: 1}).Destinations {
		got = append(got, d.Addr.Addr().String())
	}
	if want := []string{"10.0.0.2", "10.0.0.3", "10.0.0.1"}; !slices.Equal(got, want) {
		t.Error(got, want)
	}
}
