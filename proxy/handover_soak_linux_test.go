package proxy

import (
	"encoding/binary"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"usher/proxy/flow"
)

// TestHandOverUnderLoad hands a server over again and again while clients stream both ways,
// at their own speeds, half-close, come and go, and ask by datagrams. Nobody is refused, or
// reset, and every byte arrives. The seed is printed.
func TestHandOverUnderLoad(t *testing.T) {
	t.Parallel()
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	c := service(t, echo(t), echo(t))
	c.Name = "streams"
	u := udpService(t, UDPConfig{}, udpEcho(t), udpEcho(t))
	u.Name = "datagrams"
	s := startServer(t, Options{Engine: "epoll", Workers: 2}, c, u)
	addr, datagrams := at(s, 0), at(s, 1)
	var stop atomic.Bool
	var clients sync.WaitGroup
	var streams, asked atomic.Int64
	for i := range 12 {
		r := rand.New(rand.NewPCG(seed, uint64(i)))
		clients.Go(func() {
			for !stop.Load() && !t.Failed() {
				if err := streamNumbers(r, addr.String()); err != nil {
					t.Errorf("stream %d: %v", streams.Load(), err)
				}
				streams.Add(1)
			}
		})
	}
	for i := range 4 {
		conn := dialUDP(t, datagrams)
		clients.Go(func() {
			for n := 0; !stop.Load() && !t.Failed(); n++ {
				text := fmt.Sprint("question ", i, " ", n)
				if got := ask(t, conn, text); got != text {
					t.Errorf("%q, want %q", got, text)
				}
				asked.Add(1)
			}
		})
	}
	r := rand.New(rand.NewPCG(seed, 1000))
	configs := []*ServiceConfig{&c, &u}
	for range 15 {
		before := streams.Load() + asked.Load()
		eventually(t, "there is work between two hand-overs", func() bool { return t.Failed() || streams.Load()+asked.Load() > before })
		time.Sleep(time.Duration(r.IntN(5000)) * time.Microsecond) // at any moment of the work
		s = handOver(t, s, configs...)
	}
	stop.Store(true)
	clients.Wait()
	eventually(t, "all connections end", func() bool { return s.Open() == 4 })
	svc := s.Services()[0]
	if svc.Accepted() != uint64(streams.Load()) || svc.Ended(flow.Finished) != svc.Accepted() {
		t.Errorf("%d accepted, %d ended in order, there were %d", svc.Accepted(), svc.Ended(flow.Finished), streams.Load())
	}
	if svc := s.Services()[1]; svc.Active() != 4 || svc.Accepted() != 4 {
		t.Errorf("%d sessions of %d, want 4", svc.Active(), svc.Accepted())
	}
}

// streamNumbers sends numbers, in pieces of any size, half-closes, and checks what comes back.
func streamNumbers(r *rand.Rand, addr string) error {
	conn, err := net.Dial("tcp", addr)
	if err != nil {
		return err
	}
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(60 * time.Second))
	size := []int{8, 1 << 10, 64 << 10, 2 << 20}[r.IntN(4)] / 8
	pieces := 1 + r.IntN(64<<10)
	isSlow := r.IntN(3) == 0
	sent := make(chan error, 1)
	go func() {
		all := make([]byte, 0, 8*size)
		for i := range size {
			all = binary.BigEndian.AppendUint64(all, uint64(i)*0x9e3779b97f4a7c15)
		}
		for len(all) > 0 {
			n, err := conn.Write(all[:min(pieces, len(all))])
			if err != nil {
				sent <- err
				return
			}
			all = all[n:]
		}
		sent <- conn.(*net.TCPConn).CloseWrite()
	}()
	buffer := make([]byte, 64<<10)
	received, number := 0, [8]byte{}
	for {
		n, err := conn.Read(buffer)
		for _, b := range buffer[:n] {
			if received%8 == 0 {
				binary.BigEndian.PutUint64(number[:], uint64(received/8)*0x9e3779b97f4a7c15)
			}
			if b != number[received%8] {
				return fmt.Errorf("byte %d is %x, want %x", received, b, number[received%8])
			}
			received++
		}
		if err == io.EOF {
			break
		}
		if err != nil {
			return fmt.Errorf("after %d bytes: %w", received, err)
		}
		if isSlow && received%(256<<10) < n {
			time.Sleep(time.Millisecond)
		}
	}
	if received != 8*size {
		return fmt.Errorf("%d bytes, want %d", received, 8*size)
	}
	return <-sent
}
