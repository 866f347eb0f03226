package main

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"os"
	"os/signal"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
)

func TestMain(m *testing.M) {
	// A runner that nohup started passes on the ignored SIGHUP. Once it is caught, child programs have its default
	// action again.
	if signal.Ignored(syscall.SIGHUP) && filepath.Base(os.Args[0]) != "usher" {
		signal.Notify(make(chan os.Signal, 1), syscall.SIGHUP)
	}
	programs := map[string]func(){"usher": main}
	for _, name := range []string{"ipvsadm", "ipvsadm-save", "ipvsadm-restore", "iptables", "iptables-save", "iptables-restore"} {
		programs[name] = main
	}
	testscript.Main(m, programs)
}

// patience is how long a script waits for an event that must happen.
const patience = time.Minute

// The scripts run the real program. Beside the usual commands they have:
//
//	start NAME WORD...        run usher with these words; its output goes to NAME.out and NAME.log
//	await FILE REGEXP         wait until a line of the file matches; named groups become variables
//	until REGEXP WORD...      run usher with these words until a line of its output matches, and print that output
//	[!] logged FILE REGEXP    whether a line of the file matches now
//	stall NAME WORD...        run usher with a log that nobody reads and that takes no line
//	spawn NAME PROGRAM WORD...  run another program, as start does
//	pipe NAME OUTPUT WORD...  run usher with a pipe as its stdout, its stderr or both; close NAME closes the reader.
//	                          What comes through the pipe goes to NAME.log
//	terminal NAME WORD...     run usher in a terminal of its own, whose text goes to NAME.log (Linux); close NAME closes
//	                          the terminal
//	press NAME [KEYS]         press keys in that terminal; without KEYS Ctrl-C
//	signal NAME SIGNAL        send a running usher TERM, INT, HUP, KILL or USR2 (Linux)
//	ended NAME STATUS         wait until it has ended, with this exit status, and all that it wrote is in its files
//	backend NAME [ADDRESS]    serve clients: greet them with NAME, then echo; $NAME is the address. Over udp:// answer
//	                          each datagram with NAME and its text, and a DNS query as a server without records
//	loopback NAME             set $NAME to a loopback address that nothing else uses; Linux has them all
//	close NAME                stop a backend, or hang up on a held connection
//	[!] dial ADDRESS TEXT     connect, send TEXT and FIN, print all that comes back; ! expects a reset or nothing at all
//	ask NAME TEXT             send a datagram of a held udp client, again if need be, and print the reply to it;
//	                          dial does so for a new client
//	reach ADDRESS             wait until somebody listens there
//	refused ADDRESS           wait until nobody listens there
//	get URL                   print the answer to an HTTP request
//	http METHOD URL [HEADER…] print the status of an answer, and the answer
//	expand FROM TO            copy a file, with $NAME in it replaced by its value
//	hold NAME ADDRESS         connect, and keep the connection, or the socket of a udp client
//	[!] alive NAME            whether a held connection still echoes; ! waits until it has ended
func TestScripts(t *testing.T) {
	t.Parallel()
	testscript.Run(t, testscript.Params{
		Dir:                 "testdata/script",
		RequireExplicitExec: true,
		RequireUniqueNames:  true,
		Setup: func(env *testscript.Env) error {
			env.Values[stageKey{}] = &stage{
				programs: make(map[string]*program),
				closers:  make(map[string]io.Closer),
			}
			// The folder of control sockets, whose paths must be short.
			runtime, err := os.MkdirTemp("", "usher")
			env.Defer(func() { _ = os.RemoveAll(runtime) })
			env.Setenv("XDG_RUNTIME_DIR", runtime)
			return err
		},
		Condition: condition,
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"start":    start,
			"stall":    stall,
			"spawn":    spawn,
			"pipe":     pipe,
			"terminal": startInTerminal,
			"press":    press,
			"await":    await,
			"until":    until,
			"logged":   logged,
			"signal":   sendSignal,
			"ended":    ended,
			"backend":  startBackend,
			"loopback": loopback,
			"close":    closeNamed,
			"dial":     dial,
			"ask":      ask,
			"reach":    reach,
			"refused":  refused,
			"get":      get,
			"http":     request,
			"expand":   expand,
			"hold":     hold,
			"alive":    alive,
		},
	})
}

// condition adds [root], and [lowports] for a Linux that reserves port 80 for the privileged. In many containers it is
// free.
func condition(name string) (bool, error) {
	switch name {
	case "root":
		return os.Geteuid() == 0, nil
	case "lowports":
		text, err := os.ReadFile("/proc/sys/net/ipv4/ip_unprivileged_port_start")
		first, err2 := strconv.Atoi(strings.TrimSpace(string(text)))
		return err == nil && err2 == nil && first > 80, nil
	}
	return false, fmt.Errorf("unknown condition %q", name)
}

// stage holds the processes and connections of a script.
type stage struct {
	programs map[string]*program
	closers  map[string]io.Closer // backends and held connections
}

type stageKey struct{}

func stageOf(ts *testscript.TestScript) *stage { return ts.Value(stageKey{}).(*stage) }

// matchLine returns the submatches of the first line of the file that matches.
func matchLine(ts *testscript.TestScript, file, pattern string) (re *regexp.Regexp, match []string) {
	re, err := regexp.Compile("(?m)" + pattern)
	ts.Check(err)
	return re, re.FindStringSubmatch(ts.ReadFile(file))
}

func await(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: await FILE REGEXP")
	}
	var re *regexp.Regexp
	var match []string
	if !eventually(func() bool {
		re, match = matchLine(ts, args[0], args[1])
		return match != nil
	}) {
		ts.Fatalf("%s never had %q:\n%s", args[0], args[1], ts.ReadFile(args[0]))
	}
	for i, name := range re.SubexpNames() {
		if name != "" {
			ts.Setenv(name, match[i])
		}
	}
}

func logged(ts *testscript.TestScript, neg bool, args []string) {
	if len(args) != 2 {
		ts.Fatalf("usage: logged FILE REGEXP")
	}
	if _, match := matchLine(ts, args[0], args[1]); (match == nil) != neg {
		ts.Fatalf("%s:\n%s", args[0], ts.ReadFile(args[0]))
	}
}

// eventually polls cond until it holds or patience ends.
func eventually(cond func() bool) bool {
	for deadline := time.Now().Add(patience); time.Now().Before(deadline); time.Sleep(5 * time.Millisecond) {
		if cond() {
			return true
		}
	}
	return cond()
}

// echoServer greets each client with its name, and echoes.
type echoServer struct {
	listener net.Listener
	serving  sync.WaitGroup

	mu      sync.Mutex
	clients map[net.Conn]bool
}

func startBackend(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 1 || len(args) > 2 {
		ts.Fatalf("usage: backend NAME [ADDRESS]")
	}
	name, network, address := args[0], "tcp", "127.0.0.1:0"
	if len(args) == 2 {
		address = args[1]
	}
	if at, isUDP := strings.CutPrefix(address, "udp://"); isUDP {
		startUDPBackend(ts, name, at)
		return
	}
	if path, isUnix := strings.CutPrefix(address, "unix://"); isUnix {
		network, address = "unix", path
	}
	l, err := net.Listen(network, address)
	ts.Check(err)
	s := &echoServer{listener: l, clients: make(map[net.Conn]bool)}
	s.serving.Go(func() { s.serve(name) })
	stageOf(ts).closers[name] = s
	ts.Defer(func() { _ = s.Close() })
	ts.Setenv(name, l.Addr().String())
}

func (s *echoServer) serve(name string) {
	for {
		c, err := s.listener.Accept()
		if err != nil {
			return
		}
		s.mu.Lock()
		s.clients[c] = true
		s.mu.Unlock()
		s.serving.Go(func() {
			defer s.forget(c)
			fmt.Fprintln(c, name)
			_, _ = io.Copy(c, c)
		})
	}
}

func (s *echoServer) forget(c net.Conn) {
	s.mu.Lock()
	defer s.mu.Unlock()
	_ = c.Close()
	delete(s.clients, c)
}

func (s *echoServer) Close() error {
	err := s.listener.Close()
	s.mu.Lock()
	for c := range s.clients {
		_ = c.Close()
	}
	s.mu.Unlock()
	s.serving.Wait()
	return err
}

// udpServer answers datagrams.
type udpServer struct {
	conn    *net.UDPConn
	serving sync.WaitGroup
}

func startUDPBackend(ts *testscript.TestScript, name, address string) {
	at, err := net.ResolveUDPAddr("udp", address)
	ts.Check(err)
	conn, err := net.ListenUDP("udp", at)
	ts.Check(err)
	s := &udpServer{conn: conn}
	s.serving.Go(func() { s.serve(name) })
	stageOf(ts).closers[name] = s
	ts.Defer(func() { _ = s.Close() })
	ts.Setenv(name, conn.LocalAddr().String())
}

func (s *udpServer) serve(name string) {
	buffer := make([]byte, 64<<10)
	for {
		n, from, err := s.conn.ReadFromUDPAddrPort(buffer)
		if err != nil {
			return
		}
		reply := append([]byte(name+" "), buffer[:n]...)
		// A DNS query with one question (RFC 1035, 4.1.1) becomes its own answer.
		if query := "\x01\x00\x00\x01"; n > 12 && string(buffer[2:6]) == query {
			reply = append([]byte(nil), buffer[:n]...)
			reply[2] |= 0x80
		}
		_, _ = s.conn.WriteToUDPAddrPort(reply, from)
	}
}

func (s *udpServer) Close() error {
	err := s.conn.Close()
	s.serving.Wait()
	return err
}

func closeNamed(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 || stageOf(ts).closers[args[0]] == nil {
		ts.Fatalf("usage: close NAME, of a backend or a held connection")
	}
	ts.Check(stageOf(ts).closers[args[0]].Close())
}

// loopbacks counts the addresses that the process has given out.
var loopbacks atomic.Uint32

func loopback(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: loopback NAME")
	}
	n := uint32(os.Getpid())<<4 | loopbacks.Add(1)&15
	ts.Setenv(args[0], netip.AddrFrom4([4]byte{127, byte(n>>16)&63 | 64, byte(n >> 8), byte(n)}).String())
}

func connect(address string) (net.Conn, error) {
	network := "tcp"
	if at, isUDP := strings.CutPrefix(address, "udp://"); isUDP {
		network, address = "udp", at
	}
	if path, isUnix := strings.CutPrefix(address, "unix://"); isUnix {
		network, address = "unix", path
	}
	c, err := net.DialTimeout(network, address, patience)
	if err != nil {
		return nil, err
	}
	return c, c.SetDeadline(time.Now().Add(patience))
}

func dial(ts *testscript.TestScript, neg bool, args []string) {
	if len(args) != 2 {
		ts.Fatalf("usage: dial ADDRESS TEXT")
	}
	c, err := connect(args[0])
	if err != nil && neg {
		return
	}
	ts.Check(err)
	defer c.Close()
	if c, isUDP := c.(*net.UDPConn); isUDP {
		if neg {
			ts.Fatalf("! dial %s: a udp client cannot tell a refusal from a loss", args[0])
		}
		fmt.Fprintf(ts.Stdout(), "%s\n", replyTo(ts, c, args[1]))
		return
	}
	_, err = io.WriteString(c, args[1])
	if err == nil {
		err = c.(interface{ CloseWrite() error }).CloseWrite()
	}
	got, readErr := io.ReadAll(c)
	if errors.Is(readErr, os.ErrDeadlineExceeded) {
		ts.Fatalf("dial %s: no answer in %v", args[0], patience)
	}
	fmt.Fprintf(ts.Stdout(), "%s\n", got)
	if err = errors.Join(err, readErr); neg != (err != nil || len(got) == 0) {
		ts.Fatalf("dial %s: got %q, %v", args[0], got, err)
	}
}

func reach(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: reach ADDRESS")
	}
	if !eventually(func() bool { return isListening(args[0]) }) {
		ts.Fatalf("no socket listens on %s", args[0])
	}
}

func refused(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: refused ADDRESS")
	}
	if !eventually(func() bool { return !isListening(args[0]) }) {
		ts.Fatalf("somebody still listens on %s", args[0])
	}
}

func isListening(address string) bool {
	c, err := connect(address)
	if err != nil {
		return false
	}
	_ = c.Close()
	return true
}

func get(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: get URL")
	}
	client := http.Client{Timeout: patience}
	response, err := client.Get(args[0])
	ts.Check(err)
	defer response.Body.Close()
	_, err = io.Copy(ts.Stdout(), response.Body)
	ts.Check(err)
}

func request(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: http METHOD URL [HEADER...]")
	}
	r, err := http.NewRequest(args[0], args[1], nil)
	ts.Check(err)
	for _, line := range args[2:] {
		name, value, _ := strings.Cut(line, ": ")
		if r.Header.Set(name, value); name == "Host" {
			r.Host = value
		}
	}
	client := http.Client{Timeout: patience}
	response, err := client.Do(r)
	ts.Check(err)
	defer response.Body.Close()
	fmt.Fprintln(ts.Stdout(), response.Status)
	_, err = io.Copy(ts.Stdout(), response.Body)
	ts.Check(err)
}

// held is a connection with its greeting read.
type held struct {
	net.Conn
	reader *bufio.Reader
}

func hold(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: hold NAME ADDRESS")
	}
	c, err := connect(args[1])
	ts.Check(err)
	ts.Defer(func() { _ = c.Close() })
	h := &held{Conn: c, reader: bufio.NewReader(c)}
	stageOf(ts).closers[args[0]] = h
	if _, isUDP := c.(*net.UDPConn); isUDP {
		return // no greeting comes before the client has sent data
	}
	_, err = h.reader.ReadString('\n')
	ts.Check(err)
}

func ask(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: ask NAME TEXT")
	}
	h, _ := stageOf(ts).closers[args[0]].(*held)
	if h == nil {
		ts.Fatalf("%s is not held", args[0])
	}
	c, isUDP := h.Conn.(*net.UDPConn)
	if !isUDP {
		ts.Fatalf("%s is not a udp client", args[0])
	}
	fmt.Fprintf(ts.Stdout(), "%s\n", replyTo(ts, c, args[1]))
}

// replyTo sends text until a reply ends with it, as UDP clients do. Datagrams are lost where a backend has died.
func replyTo(ts *testscript.TestScript, c *net.UDPConn, text string) string {
	const again = 3 * time.Second
	buffer := make([]byte, 64<<10)
	for until := time.Now().Add(patience); time.Now().Before(until); {
		ts.Check(c.SetDeadline(time.Now().Add(again)))
		_, err := io.WriteString(c, text)
		for err == nil {
			var n int
			if n, err = c.Read(buffer); err == nil && strings.HasSuffix(string(buffer[:n]), text) {
				return string(buffer[:n])
			}
		}
		if !errors.Is(err, os.ErrDeadlineExceeded) {
			ts.Fatalf("ask %s: %v", c.RemoteAddr(), err)
		}
	}
	ts.Fatalf("ask %s: no reply to %q in %v", c.RemoteAddr(), text, patience)
	return ""
}

func alive(ts *testscript.TestScript, neg bool, args []string) {
	if len(args) != 1 {
		ts.Fatalf("usage: alive NAME")
	}
	h, ok := stageOf(ts).closers[args[0]].(*held)
	if !ok {
		ts.Fatalf("%s is not a held connection", args[0])
	}
	if neg {
		if _, err := h.reader.ReadByte(); err == nil || errors.Is(err, os.ErrDeadlineExceeded) {
			ts.Fatalf("%s has not ended: %v", args[0], err)
		}
		return
	}
	_, err := fmt.Fprintln(h, "still here?")
	ts.Check(err)
	line, err := h.reader.ReadString('\n')
	if err != nil || line != "still here?\n" {
		ts.Fatalf("%s echoes %q, %v", args[0], line, err)
	}
}
