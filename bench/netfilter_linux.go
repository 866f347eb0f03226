package main

import (
	"bytes"
	"errors"
	"fmt"
	"os/exec"
	"runtime"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// netfilter is a network namespace with rules of iptables, and a thread in it that connects to
// itself, accepts, and closes both ends. The kernel does all of that in the thread's time, the rules included.
type netfilter struct {
	requests chan time.Duration
	answers  chan netfilterTurn
}

type netfilterTurn struct {
	micros float64 // CPU time of a connection
	err    error
}

// newNetfilter makes one with what restore, a program such as iptables-restore, reads. It lives
// until close.
func newNetfilter(restore, rules string, cpu int) (*netfilter, error) {
	n := &netfilter{make(chan time.Duration), make(chan netfilterTurn)}
	go func() {
		runtime.LockOSThread() // the thread ends with the goroutine, and the namespace with it
		defer close(n.answers)
		fds, err := enterNamespace(restore, rules, cpu)
		n.answers <- netfilterTurn{err: err}
		if err != nil {
			return
		}
		for slot := range n.requests {
			n.answers <- fds.turn(slot)
		}
		unix.Close(fds.listener)
	}()
	return n, (<-n.answers).err
}

func (n *netfilter) close() {
	close(n.requests)
	for range n.answers {
	}
}

// turn connects for about slot and returns what a connection cost.
func (n *netfilter) turn(slot time.Duration) (float64, error) {
	n.requests <- slot
	t := <-n.answers
	return t.micros, t.err
}

// selfConnector connects to its own listener.
type selfConnector struct {
	listener int
	at       unix.Sockaddr
}

// enterNamespace moves the calling thread to a namespace of its own, whose loopback is up and has the rules.
func enterNamespace(restore, rules string, cpu int) (*selfConnector, error) {
	var cpus unix.CPUSet
	cpus.Set(cpu)
	if err := errors.Join(unix.SchedSetaffinity(0, &cpus), unix.Unshare(unix.CLONE_NEWNET)); err != nil {
		return nil, fmt.Errorf("make a network namespace: %w", err)
	}
	for _, c := range []struct {
		command *exec.Cmd
		input   string
	}{
		{exec.Command("ip", "link", "set", "lo", "up"), ""},
		{exec.Command(restore), rules},
	} {
		c.command.Stdin = strings.NewReader(c.input)
		if out, err := c.command.CombinedOutput(); err != nil {
			return nil, fmt.Errorf("%s: %w: %s", c.command, err, bytes.TrimSpace(out))
		}
	}
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	err = errors.Join(unix.Bind(fd, &unix.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}, Port: netfilterPort}), unix.Listen(fd, 16))
	if err != nil {
		unix.Close(fd)
		return nil, err
	}
	return &selfConnector{fd, &unix.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}, Port: netfilterPort}}, nil
}

// netfilterPort is free: nothing else is in the namespace.
const netfilterPort = 8080

func (s *selfConnector) turn(slot time.Duration) netfilterTurn {
	connections, end := 0, time.Now().Add(slot)
	before, err := cpuClock(unix.CLOCK_THREAD_CPUTIME_ID)
	for ; err == nil && time.Now().Before(end); connections++ {
		err = s.connect()
	}
	after, clockErr := cpuClock(unix.CLOCK_THREAD_CPUTIME_ID)
	if err = errors.Join(err, clockErr); err != nil {
		return netfilterTurn{err: fmt.Errorf("connect through iptables: %w", err)}
	}
	return netfilterTurn{micros: micros(after-before) / float64(connections)}
}

// connect makes one connection. The client resets it, which leaves no TIME_WAIT.
func (s *selfConnector) connect() error {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	err = errors.Join(unix.SetsockoptLinger(fd, unix.SOL_SOCKET, unix.SO_LINGER, &unix.Linger{Onoff: 1}), unix.Connect(fd, s.at))
	if err != nil {
		return err
	}
	accepted, _, err := unix.Accept4(s.listener, unix.SOCK_CLOEXEC)
	if err != nil {
		return err
	}
	return unix.Close(accepted)
}
