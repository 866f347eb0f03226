package proxy

import (
	"errors"
	"math/rand/v2"
	"net"
	"reflect"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"usher/balancer"
)

// savedState returns the encoded state of a server with connections and sessions.
func savedState(t testing.TB) []byte {
	c := udpService(t, UDPConfig{}, udpEcho(t))
	c.Name = "datagrams"
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { ln.Close() })
	s := startServer(t, Options{Engine: "epoll", Workers: 2}, service(t, ln.Addr().(*net.TCPAddr).AddrPort()), c)
	for range 4 {
		client, err := net.Dial("tcp", at(s, 0).String())
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { client.Close() })
		ask(t, dialUDP(t, at(s, 1)), "hello")
	}
	eventually(t, "all are connected", func() bool { return s.Services()[0].Config().Pool.Backends()[0].Active() == 4 })
	st, err := s.Suspend()
	if err != nil {
		t.Fatal(err)
	}
	defer s.Resume()
	text, err := st.Encode()
	if err != nil {
		t.Fatal(err)
	}
	return text
}

// FuzzRestore restores states that were damaged: as bytes, and then field by field. All
// descriptors in them are replaced by ones of the test, of which some are not what is said.
// What is restored runs for a moment.
func FuzzRestore(f *testing.F) {
	text := savedState(f)
	for seed := range uint64(40) {
		f.Add(text, seed)
	}
	f.Fuzz(func(t *testing.T, text []byte, seed uint64) {
		st, err := DecodeState(text)
		if err != nil {
			return
		}
		r := rand.New(rand.NewPCG(seed, 0))
		for range seed % 4 {
			damage(r, reflect.ValueOf(st).Elem())
		}
		own := ownDescriptors(r, st, seed%8 < 6)
		defer own.close()
		if st.Check() != nil || len(st.Workers) > 4 {
			return
		}
		services := restorable(t, st)
		s, err := Restore(Options{MaxConns: 1000}, st, services)
		if err != nil {
			own.wantOpen(t)
			return
		}
		s.Start()
		time.Sleep(time.Millisecond)
		s.Close()
		own.all = nil // closed by the server
	})
}

// restorable returns the services that a state is of.
func restorable(t *testing.T, st *State) (all []*ServiceConfig) {
	for i := range st.Services {
		if svc := &st.Services[i]; !svc.Removed {
			c := st.Settings[svc.Running-1].Config
			var err error
			if c.Pool, err = balancer.NewPool(balancer.Options{}); err != nil {
				t.Fatal(err)
			}
			c.Name = svc.Name
			all = append(all, &c)
		}
	}
	return all
}

// damage changes one field somewhere in v.
func damage(r *rand.Rand, v reflect.Value) {
	switch v.Kind() {
	case reflect.Struct:
		if v.NumField() > 0 {
			if field := v.Field(r.IntN(v.NumField())); field.CanSet() {
				damage(r, field)
			}
		}
	case reflect.Pointer:
		if v.IsNil() {
			v.Set(reflect.New(v.Type().Elem()))
		}
		damage(r, v.Elem())
	case reflect.Slice:
		switch n := v.Len(); {
		case n == 0 || r.IntN(10) == 0:
			v.Set(reflect.Append(v, reflect.Zero(v.Type().Elem())))
		case r.IntN(10) == 0:
			v.SetLen(n - 1)
		default:
			damage(r, v.Index(r.IntN(n)))
		}
	case reflect.Array:
		damage(r, v.Index(r.IntN(v.Len())))
	case reflect.Bool:
		v.SetBool(!v.Bool())
	case reflect.String:
		v.SetString([]string{"", "x", "udp", "unix", "tcp"}[r.IntN(5)])
	case reflect.Float64:
		v.SetFloat(r.NormFloat64())
	case reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64:
		v.SetInt([]int64{0, 1, -1, 2, 1 << 20, 1<<31 - 1, 1<<63 - 1, -1 << 63, r.Int64()}[r.IntN(9)])
	case reflect.Uint, reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64:
		v.SetUint([]uint64{0, 1, 2, 3, 7, 255, 1 << 20, 1<<32 - 1, 1<<64 - 1, r.Uint64()}[r.IntN(10)])
	}
}

// descriptors are those of a test, by number, with what they are.
type testDescriptors struct{ all map[int]uint64 }

// ownDescriptors replaces the descriptors of a state by others. right says whether they are
// what they have to be.
func ownDescriptors(r *rand.Rand, st *State, right bool) testDescriptors {
	own := testDescriptors{make(map[int]uint64)}
	replaced := make(map[int32]int32)
	replace := func(fd *int32, kind descriptorKind) {
		if *fd < 0 {
			return
		}
		now, seen := replaced[*fd]
		if !seen {
			if !right && r.IntN(8) == 0 {
				kind = descriptorKind(r.IntN(int(pipeWriter) + 2))
			}
			now = own.open(kind)
			replaced[*fd] = now
		}
		*fd = now
	}
	for i := range st.Bindings {
		for j := range st.Bindings[i].FDs {
			replace(&st.Bindings[i].FDs[j], streamListener)
		}
	}
	for i := range st.Workers {
		w := &st.Workers[i]
		for j := range w.Listeners {
			replace(&w.Listeners[j].FD, datagramSocket)
		}
		for j := range w.Sessions {
			replace(&w.Sessions[j].FD, datagramSocket)
		}
		for j := range w.Conns {
			for s := range w.Conns[j].Half {
				h := &w.Conns[j].Half[s]
				replace(&h.FD, streamSocket)
				if h.Pipe != nil {
					replace(&h.Pipe.Read, pipeReader)
					replace(&h.Pipe.Write, pipeWriter)
				}
			}
		}
	}
	return own
}

// open returns a descriptor of a kind.
func (d *testDescriptors) open(kind descriptorKind) int32 {
	fds := [2]int{-1, -1}
	var err error
	switch kind {
	case streamListener:
		if fds[0], err = unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0); err == nil {
			err = unix.Listen(fds[0], 1)
		}
	case streamSocket:
		fds, err = unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	case datagramSocket:
		fds[0], err = unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	case pipeReader, pipeWriter:
		err = unix.Pipe2(fds[:], unix.O_NONBLOCK|unix.O_CLOEXEC)
		if kind == pipeWriter {
			fds[0], fds[1] = fds[1], fds[0]
		}
	default: // one that blocks
		fds[0], err = unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	}
	if err != nil {
		return -1
	}
	if fds[1] >= 0 {
		unix.Close(fds[1])
	}
	var stat unix.Stat_t
	_ = unix.Fstat(fds[0], &stat)
	d.all[fds[0]] = stat.Ino
	return int32(fds[0])
}

// wantOpen checks that all are what they were.
func (d *testDescriptors) wantOpen(t *testing.T) {
	for fd, inode := range d.all {
		var stat unix.Stat_t
		if err := unix.Fstat(fd, &stat); err != nil || stat.Ino != inode {
			t.Errorf("descriptor %d was closed by a Restore that failed: %v", fd, err)
		}
	}
}

func (d *testDescriptors) close() {
	for fd := range d.all {
		unix.Close(fd)
	}
}

// TestDamagedStatesAreRefused: bytes that are cut off, and what the portable engine has.
func TestDamagedStatesAreRefused(t *testing.T) {
	t.Parallel()
	text := savedState(t)
	for n := 0; n < len(text); n += 1 + len(text)/200 {
		if _, err := DecodeState(text[:n]); err == nil {
			t.Errorf("%d bytes of %d were taken for all", n, len(text))
		}
	}
	if _, err := DecodeState(append(text, 0)); err == nil {
		t.Error("bytes behind the state were ignored")
	}
	for what, damage := range map[string]func(*State){
		"another format":                        func(st *State) { st.Version++ },
		"a service of another name":             func(st *State) { st.Settings[0].Config.Name = "other" },
		"a port range without end":              func(st *State) { st.Settings[0].Config.Listeners[0].Ports = 1 << 30 },
		"a descriptor twice":                    func(st *State) { st.Bindings[0].FDs[0] = st.Workers[0].Listeners[0].FD },
		"a standard descriptor":                 func(st *State) { st.Workers[0].Listeners[0].FD = 2 },
		"no workers":                            func(st *State) { st.Workers = nil },
		"replies by a socket that is not there": func(st *State) { st.Workers[0].Listeners[0].Replies = 7 },
	} {
		st, err := DecodeState(text)
		if err != nil || st.Check() != nil {
			t.Fatal(err, st.Check())
		}
		if damage(st); st.Check() == nil {
			t.Errorf("%s was taken", what)
		}
	}
	s := startServer(t, Options{Engine: "portable"}, service(t))
	if _, err := s.Suspend(); !errors.Is(err, ErrNotHandedOver) {
		t.Errorf("the portable engine: %v", err)
	}
	s.Close()
	s = startServer(t, Options{Engine: "epoll"}, service(t))
	s.Close()
	if _, err := s.Suspend(); !errors.Is(err, ErrShutDown) {
		t.Errorf("after Close: %v", err)
	}
}
