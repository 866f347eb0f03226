package main

import (
	"errors"
	"net"
	"net/netip"
	"sync"

	"golang.org/x/sys/unix"
)

// endpoints are all endpoints of all Services: a listener on every address. It says to each client which one it is.
type endpoints struct {
	listener net.Listener
	serving  sync.WaitGroup
}

// listenAsEndpoints listens in the namespace of the calling thread.
func listenAsEndpoints() (*endpoints, error) {
	l, err := net.ListenTCP("tcp4", &net.TCPAddr{Port: endpointPort})
	if err != nil {
		return nil, err
	}
	e := &endpoints{listener: l}
	e.serving.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			e.serving.Go(func() {
				defer c.Close()
				own := c.LocalAddr().(*net.TCPAddr).AddrPort().Addr().Unmap().As4()
				if _, err := c.Write(own[:]); err == nil {
					_, _ = c.Read(own[:1]) // until the client leaves
				}
			})
		}
	})
	return e, nil
}

func (e *endpoints) close() {
	e.listener.Close()
	e.serving.Wait()
}

// ask connects to a ClusterIP, and returns the endpoint that answers. Calls with a timeout are not restarted after the
// signals by which the Go runtime preempts, so it asks again then.
func ask(clusterIP netip.Addr) (netip.Addr, error) {
	for {
		if answer, err := askOnce(clusterIP); !errors.Is(err, unix.EINTR) {
			return answer, err
		}
	}
}

// askOnce is ask up to a signal. The sockets are of the calling thread's namespace and
// block it, so that no scheduler is between an answer and its time. The client resets the connection, which leaves no TIME_WAIT.
func askOnce(clusterIP netip.Addr) (netip.Addr, error) {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return netip.Addr{}, err
	}
	defer unix.Close(fd)
	limit := unix.Timeval{Sec: 5}
	err = errors.Join(
		unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &limit), unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_SNDTIMEO, &limit),
		unix.SetsockoptLinger(fd, unix.SOL_SOCKET, unix.SO_LINGER, &unix.Linger{Onoff: 1}))
	if err != nil {
		return netip.Addr{}, err
	}
	if err := unix.Connect(fd, &unix.SockaddrInet4{Addr: clusterIP.As4(), Port: kubePort}); err != nil {
		return netip.Addr{}, err
	}
	var answer [4]byte
	switch n, err := unix.Read(fd, answer[:]); {
	case err != nil:
		return netip.Addr{}, err
	case n < len(answer):
		return netip.Addr{}, errors.New("the connection ended without an answer")
	}
	return netip.AddrFrom4(answer), nil
}
