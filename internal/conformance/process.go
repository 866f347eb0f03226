//go:build linux

package conformance

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"time"
)

// backendEnv holds the parameters of a Process.
const backendEnv = "CONFORMANCE_BACKEND"

type backendOrder struct {
	Network, Addr, Name string
	Think               time.Duration
}

// BackendMain serves and does not return if this process was started as the backend of
// a case. A program that runs cases calls it first, because its own binary is also the
// backend's.
func BackendMain() {
	text, ok := os.LookupEnv(backendEnv)
	if !ok {
		return
	}
	var order backendOrder
	err := json.Unmarshal([]byte(text), &order)
	if err == nil {
		err = order.serve()
	}
	fmt.Fprintln(os.Stderr, "backend:", err)
	os.Exit(1)
}

func (o backendOrder) serve() error {
	if o.Network == "udp" {
		addr, err := netip.ParseAddrPort(o.Addr)
		if err != nil {
			return err
		}
		conn, err := net.ListenUDP("udp", net.UDPAddrFromAddrPort(addr))
		if err != nil {
			return err
		}
		fmt.Println("ready")
		for buf := make([]byte, maxDatagram); ; {
			n, from, err := conn.ReadFromUDPAddrPort(buf)
			if err != nil {
				return err
			}
			reply := named(o.Name, Datagram{buf[:n], from})
			if strings.HasPrefix(string(buf[:n]), "PING") {
				reply = []byte("+PONG")
			}
			if _, err := conn.WriteToUDPAddrPort(reply, from); err != nil {
				return err
			}
		}
	}
	ln, err := net.Listen("tcp", o.Addr)
	if err != nil {
		return err
	}
	fmt.Println("ready")
	for {
		conn, err := ln.Accept()
		if err != nil {
			return err
		}
		go func() {
			defer conn.Close()
			answer(conn, o.Name, o.Think)
		}()
	}
}

// answer serves one connection. It answers each line with the name, after a delay, and
// an HTTP request with 200.
func answer(conn net.Conn, name string, think time.Duration) {
	lines := bufio.NewReader(conn)
	for {
		line, err := lines.ReadString('\n')
		if err != nil {
			return
		}
		if strings.HasPrefix(line, "GET ") {
			io.WriteString(conn, "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 0\r\n\r\n")
			return
		}
		time.Sleep(think)
		if _, err := io.WriteString(conn, name+"\n"); err != nil {
			return
		}
	}
}

// Answers is a backend that Visit understands.
func (c *C) Answers(name string) *Backend {
	return c.Serve(func(e *Conn) { answer(e.Conn, name, 0) })
}

// Process is a backend in a process of its own, so that it can be killed and paused.
// It answers Visit and Client.Ask.
type Process struct {
	Addr  string // as in Config.Backends
	c     *C
	order backendOrder
	cmd   *exec.Cmd
}

// Process starts a backend on 127.0.0.1. It waits for think before each TCP answer.
func (c *C) Process(network, name string, think time.Duration) *Process {
	b := &Process{c: c, order: backendOrder{Network: network, Name: name, Think: think}}
	if b.Addr = c.DeadUDP(); network == "tcp" {
		b.Addr = c.Refused()
	}
	b.order.Addr = b.Addr
	c.Cleanup(b.Kill)
	b.Start()
	return b
}

// Start starts the process, also again after Kill.
func (b *Process) Start() {
	order, err := json.Marshal(b.order)
	b.c.Must(err)
	self, err := os.Executable()
	b.c.Must(err)
	b.cmd = exec.Command(self)
	b.cmd.Env = append(os.Environ(), backendEnv+"="+string(order))
	b.cmd.Stderr = os.Stderr
	b.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	out, err := b.cmd.StdoutPipe()
	b.c.Must(err)
	b.c.Must(b.cmd.Start())
	if _, err := bufio.NewReader(out).ReadString('\n'); err != nil {
		b.c.Fatalf("a backend's process does not start (does the program call BackendMain?): %v", err)
	}
}

// Kill ends the process. On return its sockets are closed: the kernel has reset its
// connections and refuses new ones.
func (b *Process) Kill() {
	if b.cmd != nil && b.cmd.ProcessState == nil {
		b.cmd.Process.Kill()
		b.cmd.Wait()
	}
}

// Pause stops the process. Its kernel still accepts connections and receives
// datagrams, but no answer comes.
func (b *Process) Pause() {
	b.c.Must(b.cmd.Process.Signal(syscall.SIGSTOP))
	b.c.Wait(b.c.patience(), "a backend's process to be stopped", func() bool { return isStopped(b.cmd.Process.Pid) })
}

// isStopped reports whether no thread of a process can run.
func isStopped(pid int) bool {
	tasks, err := os.ReadDir(fmt.Sprintf("/proc/%d/task", pid))
	for _, task := range tasks {
		text, _ := os.ReadFile(fmt.Sprintf("/proc/%d/task/%s/stat", pid, task.Name()))
		if _, state, _ := strings.Cut(string(text), ") "); !strings.HasPrefix(state, "T") {
			return false
		}
	}
	return err == nil
}

// Resume lets a paused process go on.
func (b *Process) Resume() { b.c.Must(b.cmd.Process.Signal(syscall.SIGCONT)) }
