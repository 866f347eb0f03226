package iptables

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"regexp"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"usher/proxy/limit"
	"usher/proxy/rules"
)

// inNamespace is set in the process that runs in a network namespace of its own.
const inNamespace = "USHER_TEST_NAMESPACE"

const (
	kernelLists   = 24
	kernelPackets = 40 // for each list
)

// TestKernel: the kernel decides as package rules does, and counts the same at each rule. Random lists are loaded into a
// network namespace with the real iptables; connections and datagrams come from another one over a veth pair.
//
// No verdict is waited for: a SYN is sent once, and its socket closed at once unless it is to be accepted. The test waits
// until the kernel's counters are the expected ones. Everything is on one CPU, which keeps packets in their order.
func TestKernel(t *testing.T) {
	if os.Getenv(inNamespace) == "" {
		t.Parallel()
		runInNamespace(t)
		return
	}
	const seed = 1 // another one tests other cases
	r := rand.New(rand.NewPCG(seed, 0))
	net := newKernelNet(t)
	for i := range kernelLists {
		net.judge(t, r, i)
		if t.Failed() {
			t.Fatalf("seed %d, list %d", seed, i)
		}
	}
}

// runInNamespace runs the test that calls it in a process of its own.
func runInNamespace(t *testing.T) {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	for _, program := range []string{"iptables-restore", "iptables-save", "ip"} {
		if _, err := exec.LookPath(program); err != nil {
			t.Skip(err)
		}
	}
	cmd := namespace(t, `exec "$0" -test.run "^$1\$" -test.v -test.timeout 8m`)
	cmd.Args = append(cmd.Args, self, t.Name())
	cmd.Env = append(os.Environ(), inNamespace+"=1")
	out, err := cmd.CombinedOutput()
	_, ended := errors.AsType[*exec.ExitError](err)
	switch skipped := regexp.MustCompile(`(?m)^\s+\S+\.go:\d+: (no namespace: .*)$`).FindSubmatch(out); {
	case skipped != nil:
		t.Skipf("%s", skipped[1])
	case err != nil && !ended:
		t.Skipf("no network namespace: %v", err)
	case err != nil:
		t.Errorf("%v\n%s", err, out)
	}
}

// kernelNet is a pair of namespaces: that of the process has the rules, and the one of a thread the clients.
type kernelNet struct {
	clients chan func() // run in the namespace of the clients
	next    int         // the source port of the next packet
}

// kernelPorts are the ports that clients ask for.
var kernelPorts = []uint16{80, 81, 443, 5353}

func newKernelNet(t *testing.T) *kernelNet {
	t.Helper()
	// All threads that begin from here on, and all programs, are on this CPU.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	var one unix.CPUSet
	one.Set(firstCPU(t))
	for _, task := range tasks(t) {
		_ = unix.SchedSetaffinity(task, &one) // a thread that has ended needs none
	}
	n := &kernelNet{clients: make(chan func()), next: 20000}
	thread := make(chan int)
	done := make(chan struct{})
	go func() {
		defer close(done)
		runtime.LockOSThread() // for ever: the thread ends with its goroutine, and its namespace with it
		if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
			thread <- 0
			return
		}
		thread <- unix.Gettid()
		for f := range n.clients {
			f()
		}
	}()
	t.Cleanup(func() { close(n.clients); <-done })
	id := <-thread
	if id == 0 {
		t.Skip("no namespace: unshare is not permitted")
	}
	// Both ends have one hardware address, so that neither asks for that of the other.
	setUp(t, "ip link add veth0 address 02:00:00:00:00:01 type veth peer name veth1 address 02:00:00:00:00:01",
		fmt.Sprintf("ip link set veth1 netns /proc/%d/task/%d/ns/net", os.Getpid(), id),
		"ip link set lo up", "ip link set veth0 arp off up", "ip route add local 10.8.0.0/16 dev lo", "ip route add 10.9.0.0/16 dev veth0")
	n.inClients(func() {
		setUp(t, "ip link set lo up", "ip link set veth1 arp off up", "ip route add local 10.9.0.0/16 dev lo",
			"ip route add 10.8.0.0/16 dev veth1")
	})
	for _, port := range kernelPorts {
		l, err := net.Listen("tcp4", fmt.Sprintf("0.0.0.0:%d", port))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { l.Close() })
	}
	return n
}

func firstCPU(t *testing.T) int {
	t.Helper()
	var may unix.CPUSet
	if err := unix.SchedGetaffinity(0, &may); err != nil {
		t.Fatal(err)
	}
	for cpu := range 1024 {
		if may.IsSet(cpu) {
			return cpu
		}
	}
	return 0
}

// tasks are the threads of this process.
func tasks(t *testing.T) (ids []int) {
	t.Helper()
	entries, err := os.ReadDir("/proc/self/task")
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		id := 0
		_, _ = fmt.Sscan(e.Name(), &id)
		ids = append(ids, id)
	}
	return ids
}

func setUp(t *testing.T, commands ...string) {
	t.Helper()
	for _, c := range commands {
		words := strings.Fields(c)
		if out, err := exec.Command(words[0], words[1:]...).CombinedOutput(); err != nil {
			t.Skipf("no namespace: %s: %v %s", c, err, out)
		}
	}
}

// inClients runs a function in the namespace of the clients.
func (n *kernelNet) inClients(f func()) {
	done := make(chan struct{})
	n.clients <- func() { defer close(done); f() }
	<-done
}

// judge loads a random list, sends packets through it, and compares the counters.
func (n *kernelNet) judge(t *testing.T, r *rand.Rand, number int) {
	t.Helper()
	lines, hasConnlimit := kernelList(r, number)
	list, err := Build(lines)
	if err != nil {
		t.Fatalf("%v\n%s", err, strings.Join(lines, "\n"))
	}
	if oneIn(r, 2) {
		list.Chains[0].Policy = rules.Drop
	}
	set, err := rules.Compile(list, nil, rules.Options{Seed: r.Uint64()})
	if err != nil {
		t.Fatalf("%v\n%s", err, strings.Join(lines, "\n"))
	}
	load(t, list)
	var sent []string
	for range kernelPackets {
		if hasConnlimit {
			time.Sleep(kernelTick)
		}
		p := n.packet(r)
		var held limit.Holds
		v := set.Decide(&p, 0, &held)
		sent = append(sent, fmt.Sprintf("%v %v: %v", p.Protocol, p.Client, v.Target))
		var err error
		n.inClients(func() { err = n.send(t, p, v.Target == rules.Accept) })
		if err != nil {
			t.Errorf("%+v: usher accepts, and the kernel: %v", p, err)
			break
		}
	}
	want := counted(set)
	var got []uint64
	for limit := time.Now().Add(20 * time.Second); !slices.Equal(got, want) && time.Now().Before(limit); {
		got = savedCounters(t)
	}
	if slices.Equal(got, want) {
		return
	}
	t.Errorf("kernel and usher after\n%s", strings.Join(sent, "\n"))
	for i, line := range append([]string{"policy"}, slices.DeleteFunc(Lines(list), func(s string) bool { return s[:2] == "-N" })...) {
		t.Logf("%d %d %s", got[i], want[i], line)
	}
}

// kernelTick is longer than two ticks of the kernel's clock: only then does connlimit forget what was refused.
const kernelTick = 25 * time.Millisecond

// packet is the first one of a connection or a datagram, from a source port of its own.
func (n *kernelNet) packet(r *rand.Rand) rules.Packet {
	n.next++
	p := rules.Packet{
		Client:    netip.AddrPortFrom(kernelAddr(r, 9), uint16(n.next)),
		Local:     netip.AddrPortFrom(kernelAddr(r, 8), kernelPorts[r.IntN(len(kernelPorts))]),
		Protocol:  []rules.Protocol{rules.TCP, rules.UDP}[r.IntN(2)],
		Interface: "veth0",
	}
	if p.Protocol == rules.UDP {
		p.Bytes = 1
	}
	return p
}

func kernelAddr(r *rand.Rand, second byte) netip.Addr {
	return netip.AddrFrom4([4]byte{10, second, byte(r.IntN(2)), byte(1 + r.IntN(4))})
}

// send sends a datagram, or begins a connection. It waits for one that is to be accepted, which stays until the test
// ends, and gives up any other at once.
func (n *kernelNet) send(t *testing.T, p rules.Packet, isAccepted bool) error {
	local := net.Addr(net.TCPAddrFromAddrPort(p.Client))
	network, timeout := "tcp4", 20*time.Second
	if p.Protocol == rules.UDP {
		local, network = net.UDPAddrFromAddrPort(p.Client), "udp4"
	}
	if p.Protocol == rules.TCP && !isAccepted {
		return sendSYN(p)
	}
	ctx, cancel := context.WithTimeout(context.Background(), timeout)
	defer cancel()
	d := net.Dialer{LocalAddr: local}
	conn, err := d.DialContext(ctx, network, p.Local.String())
	if err != nil {
		return err
	}
	t.Cleanup(func() { conn.Close() })
	if p.Protocol == rules.UDP {
		_, err = conn.Write([]byte{0})
		conn.Close()
	}
	return err
}

// sendSYN begins a connection and forgets it: the kernel sends no second SYN.
func sendSYN(p rules.Packet) error {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	if err := unix.Bind(fd, &unix.SockaddrInet4{Addr: p.Client.Addr().As4(), Port: int(p.Client.Port())}); err != nil {
		return err
	}
	err = unix.Connect(fd, &unix.SockaddrInet4{Addr: p.Local.Addr().As4(), Port: int(p.Local.Port())})
	if err == syscall.EINPROGRESS || err == syscall.ECONNREFUSED {
		return nil
	}
	return err
}

// load makes a list the rules of INPUT, with a rule before it that lets later packets of connections pass.
func load(t *testing.T, list *rules.List) {
	t.Helper()
	var text strings.Builder
	text.WriteString("*filter\n")
	for _, c := range list.Chains {
		policy := "-"
		if c.Name == rules.Input {
			policy = TargetName(&rules.Rule{Target: c.Policy})
		}
		fmt.Fprintf(&text, ":%s %s [0:0]\n", c.Name, policy)
	}
	text.WriteString("-A INPUT -p tcp -m tcp ! --tcp-flags FIN,SYN,RST,ACK SYN -j ACCEPT\n")
	for _, line := range Lines(list) {
		if strings.HasPrefix(line, "-A") {
			text.WriteString(line + "\n")
		}
	}
	text.WriteString("COMMIT\n")
	cmd := exec.Command("iptables-restore")
	cmd.Stdin = strings.NewReader(text.String())
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("iptables-restore: %v %s\n%s", err, out, text.String())
	}
}

// counted are the packets of the policy and of each rule, as usher counts them.
func counted(set *rules.Set) (all []uint64) {
	for i := range set.List().Chains {
		policy, ofRules := set.Counters(i)
		if i == 0 {
			ofRules = append([]*rules.Counter{policy}, ofRules...)
		}
		for _, c := range ofRules {
			all = append(all, c.Flows.Load()+c.Datagrams.Load())
		}
	}
	return all
}

// savedCounter is that of the policy of INPUT, or of a rule. The first rule is left out.
var savedCounter = regexp.MustCompile(`(?m)^(?::INPUT \S+ )?\[(\d+):\d+\]`)

// savedCounters are the kernel's.
func savedCounters(t *testing.T) (all []uint64) {
	t.Helper()
	out, err := exec.Command("iptables-save", "-c", "-t", "filter").Output()
	if err != nil {
		t.Fatal(err)
	}
	for i, m := range savedCounter.FindAllStringSubmatch(string(out), -1) {
		n, err := strconv.ParseUint(m[1], 10, 64)
		if err != nil {
			t.Fatal(err)
		}
		if i != 1 {
			all = append(all, n)
		}
	}
	return all
}

// kernelList is a random list whose verdicts depend on packets and their order alone. It shares no state with others.
func kernelList(r *rand.Rand, number int) (lines []string, hasConnlimit bool) {
	hasConnlimit = oneIn(r, 6)
	chains := []string{"INPUT", "a", "b"}
	lines = []string{"-N a", "-N b"}
	for range 8 + r.IntN(25) {
		chain := r.IntN(3)
		words := []string{"-A", chains[chain]}
		add := func(text string) { words = append(words, strings.Fields(text)...) }
		not := func() string { return []string{"", "", "! "}[r.IntN(3)] }
		pick := func(of ...string) string { return of[r.IntN(len(of))] }
		if oneIn(r, 3) {
			add(not() + "-s 10.9." + pick("0.0/16", "0.0/24", "1.0/24", "0.1", "1.2", "0.2/31"))
		}
		if oneIn(r, 3) {
			add(not() + "-d 10.8." + pick("0.0/16", "0.0/24", "1.0/24", "0.1", "1.3", "0.2/31"))
		}
		if oneIn(r, 5) {
			add(not() + "-i " + pick("veth0", "veth+", "lo"))
		}
		protocol := pick("", "", "tcp", "udp")
		switch {
		case protocol != "" && oneIn(r, 2):
			add("-p " + protocol + " " + not() + "--dport " + pick("80", "80:81", "443:", ":443"))
		case protocol != "" && oneIn(r, 2):
			add("-p " + protocol + " -m multiport " + not() + pick("--dports 80,443", "--dports 81:443,5353", "--ports 80,20010:20040"))
		case protocol != "":
			add(not() + "-p " + protocol)
		}
		add(kernelMatch(r, number, hasConnlimit && protocol == "tcp" && !strings.Contains(strings.Join(words, " "), "! -p")))
		target := pick("ACCEPT", "DROP", "REJECT", "RETURN", "", "a", "b")
		if target == "a" && chain > 0 || target == "b" && chain > 1 {
			target = ""
		}
		if target != "" {
			add("-j " + target)
		}
		lines = append(lines, strings.Join(words, " "))
	}
	return lines, hasConnlimit
}

// kernelMatch is a match with a state, or none.
func kernelMatch(r *rand.Rand, list int, mayCount bool) string {
	name := fmt.Sprintf("%c%d", 'x'+r.IntN(2), list)
	not := []string{"", "", "! "}[r.IntN(3)]
	switch {
	case mayCount:
		return fmt.Sprintf("-m connlimit --connlimit-%s %d --connlimit-mask %d --connlimit-saddr",
			[]string{"above", "upto"}[r.IntN(2)], r.IntN(4), []int{16, 24, 32}[r.IntN(3)])
	case oneIn(r, 4):
		every := 1 + r.IntN(4)
		return fmt.Sprintf("-m statistic --mode nth %s--every %d --packet %d", not, every, r.IntN(every))
	case oneIn(r, 4):
		return "-m recent --name " + name + " " + not + []string{"--set", "--set --rdest", "--rcheck", "--rcheck --hitcount 3",
			"--update --hitcount 2", "--update --rdest", "--remove"}[r.IntN(7)]
	case oneIn(r, 8):
		return "-m conntrack " + not + "--ctstate NEW"
	case oneIn(r, 8):
		return "-m comment --comment x"
	}
	return ""
}
