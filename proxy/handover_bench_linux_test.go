package proxy

import (
	"io"
	"net"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"usher/balancer"
)

// BenchmarkHandOver measures what a hand-over of 4,000 idle connections takes: the process's
// CPU time by part, in milliseconds, and the pause of the flows.
func BenchmarkHandOver(b *testing.B) {
	const flows = 4_000 // of four descriptors each
	raiseDescriptorLimit()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	defer ln.Close()
	go func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			defer c.Close()
		}
	}()
	c := service(b, ln.Addr().(*net.TCPAddr).AddrPort())
	s, err := newServer(Options{Engine: "epoll", Workers: 2}, c)
	if err != nil {
		b.Fatal(err)
	}
	s.Start()
	defer func() { s.Close() }()
	for range flows {
		client, err := net.Dial("tcp", s.Services()[0].Config().Listeners[0].Addr.String())
		if err != nil {
			b.Skip(err)
		}
		defer client.Close()
		_, _ = io.WriteString(client, "x")
	}
	deadline := time.Now().Add(30 * time.Second)
	for c.Pool.Backends()[0].Active() < flows && time.Now().Before(deadline) {
		time.Sleep(time.Millisecond)
	}
	var parts [5]time.Duration
	var pause time.Duration
	for b.Loop() {
		began, at := time.Now(), cpuTime()
		lap := func(part int) {
			now := cpuTime()
			parts[part] += now - at
			at = now
		}
		st, err := s.Suspend()
		if err != nil {
			b.Fatal(err)
		}
		lap(0)
		text, err := st.Encode()
		if err != nil {
			b.Fatal(err)
		}
		lap(1)
		b.ReportMetric(float64(len(text))/1024, "KiB")
		if st, err = DecodeState(text); err != nil {
			b.Fatal(err)
		}
		lap(2)
		if c.Pool, err = balancer.NewPool(balancer.Options{}); err != nil {
			b.Fatal(err)
		}
		next, err := Restore(Options{}, st, []*ServiceConfig{&c})
		if err != nil {
			b.Fatal(err)
		}
		lap(3)
		next.Start()
		for range 2 {
			next.engine.(*epollEngine).all(func(*worker) {})
		}
		lap(4)
		pause += time.Since(began)
		b.StopTimer()
		leave(s)
		s = next
		if s.Open() != flows {
			b.Fatalf("%d flows", s.Open())
		}
		b.StartTimer()
	}
	for i, name := range []string{"suspend", "encode", "decode", "restore", "start"} {
		b.ReportMetric(float64(parts[i].Microseconds())/1000/float64(b.N), name+"-cpu-ms")
	}
	b.ReportMetric(float64(pause.Microseconds())/1000/float64(b.N), "pause-ms")

}

func cpuTime() time.Duration {
	var ru unix.Rusage
	if unix.Getrusage(unix.RUSAGE_SELF, &ru) != nil {
		return 0
	}
	return time.Duration(ru.Utime.Nano() + ru.Stime.Nano())
}
