package dialect

import (
	"fmt"
	"net"
	"slices"
	"strings"
	"testing"
	"time"

	"usher/internal/config"
	"usher/internal/control"
	"usher/internal/ipvsadm"
)

// Services that ipvsadm makes serve in the order of the kernel's formulas: the newest server first.
func TestServersTakeTheKernelsTurns(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	at := servers(t, "ABC")
	for _, tt := range []struct {
		scheduler string
		weights   [3]int // of A, B and C, added in that order
		stays     bool
		want      string
	}{
		{"rr", [3]int{1, 1, 1}, false, "CBACBA"},
		{"wrr", [3]int{4, 3, 2}, false, "ABACBACBAABACBACBA"},
		{"wrr", [3]int{5, 1, 1}, false, "AAAACBAAAAACBA"},
		{"wrr", [3]int{30, 10, 20}, false, "ACACBAACACBA"},
		{"lc", [3]int{1, 1, 1}, true, "CBACBA"},
		{"wlc", [3]int{2, 1, 1}, true, "CBAACBAA"},
		{"sed", [3]int{3, 2, 1}, true, "ABACBA"},
		{"nq", [3]int{3, 2, 1}, true, "CBAABA"},
		{"fo", [3]int{1, 3, 2}, true, "BBBB"},
		{"ovf", [3]int{1, 2, 0}, true, "BBBAA-"},
	} {
		to := loopback() + ":8080"
		change(t, s, at.Replace(fmt.Sprintf("-A -t %[1]s -s %[2]s\n-a -t %[1]s -r $A -m -w %[3]d\n-a -t %[1]s -r $B -m -w %[4]d\n-a -t %[1]s -r $C -m -w %[5]d",
			to, tt.scheduler, tt.weights[0], tt.weights[1], tt.weights[2])))
		if got := ask(t, to, len(tt.want), tt.stays); got != tt.want {
			t.Errorf("%s %v: %s, want %s", tt.scheduler, tt.weights, got, tt.want)
		}
	}
}

// A server of weight 0 gets no new clients but those who persist; a service whose servers are all so refuses, and so does
// one without servers.
func TestQuiescedServers(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	at := servers(t, "AB")
	to := loopback() + ":8080"
	change(t, s, at.Replace("-A -t "+to+" -s rr -p 60\n-a -t "+to+" -r $A -m"))
	first, name := dial(t, "127.0.0.2", to)
	if name != "A" {
		t.Fatalf("the only server is A, not %q", name)
	}
	defer first.Close()
	change(t, s, at.Replace("-e -t "+to+" -r $A -m -w 0\n-a -t "+to+" -r $B -m"))
	for from, want := range map[string]string{"127.0.0.2": "A", "127.0.0.3": "B"} {
		c, name := dial(t, from, to)
		if name != want {
			t.Errorf("a client of %s gets %q, want %q", from, name, want)
		}
		if c != nil {
			c.Close()
		}
	}
	change(t, s, at.Replace("-d -t "+to+" -r $B"))
	if c, name := dial(t, "127.0.0.4", to); name != "" {
		c.Close()
		t.Errorf("a new client gets %q of weight 0", name)
	}
	change(t, s, at.Replace("-d -t "+to+" -r $A"))
	if c, err := net.Dial("tcp", to); err == nil {
		c.Close()
		t.Error("a service without servers does not refuse connections")
	}
	if _, err := first.Write([]byte("x")); err != nil { // its flow goes on
		t.Error(err)
	}
}

// Between its thresholds a server gets no new flows.
func TestThresholds(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	at := servers(t, "A")
	to := loopback() + ":8080"
	change(t, s, at.Replace("-A -t "+to+" -s rr\n-a -t "+to+" -r $A -m -x 2 -y 1"))
	if got := ask(t, to, 3, true); got != "AA-" {
		t.Errorf("upper threshold 2: %s", got)
	}
	await(t, "a server below its lower threshold", func() string { return unless(ask(t, to, 1, false) == "A", "it gets no flow") })
}

// A mistake changes nothing and has the kernel's answer; what usher cannot do is refused with the reason.
func TestRefusedCommands(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	to := loopback() + ":8080"
	taken := config.NewService("web", config.TCP)
	taken.Listeners = []config.Addr{mustListener(t, loopback()+":8081")}
	taken.OnEmpty = config.EmptyRefuse
	if err := s.control.Add(t.Context(), control.API, taken); err != nil {
		t.Fatal(err)
	}
	others := taken.Listeners[0].HostPort()
	change(t, s, "-A -t "+to+" -s rr")
	for line, want := range map[string]string{
		"-A -t " + to + " -s rr":                 "0 255 Service already exists",
		"-A -t " + loopback() + ":8080 -s quick": "0 255 Scheduler or persistence engine not found",
		"-D -t 127.9.9.9:1":                      "0 255 No such service",
		"-a -t 127.9.9.9:1 -r 127.0.0.1:1 -m":    "0 255 Service not defined",
		"-a -t " + to + " -r 127.0.0.1:1 -g":     "0 255 direct routing (-g, the default) sends packets on",
		"-d -t " + to + " -r 127.0.0.1:1":        "0 255 No such destination",
		"-A -t 192.0.2.1:8080 -s rr":             "0 255 service tcp:192.0.2.1:8080: listen tcp 192.0.2.1:8080: ",
		"-A -t " + others + " -s rr":             "0 255 services \"web\" and ",
		"-L -n":                                  "0 255 this command changes nothing",
		"":                                       "0 255 this command changes nothing",
		"--start-daemon master":                  "0 255 there is no sync daemon",
		"-A -t 127.9.9.9:0 -s rr -p":             "0 255 usher opens a socket for each port",
		"-D -t " + others:                        "0 255 service web belongs to the API: change it with usher set, add and rm",
	} {
		if got := refusals(t, s, line); !strings.HasPrefix(got, want) {
			t.Errorf("%s: %q, want %q", line, got, want)
		}
	}
	if got := s.IPVSLines(); !slices.Equal(got, []string{"-A -t " + to + " -s rr"}) {
		t.Errorf("refused commands have left %q", got)
	}
}

func mustListener(t *testing.T, word string) config.Addr {
	t.Helper()
	a, err := config.ParseListener(word)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

// A restore goes on behind a line that is refused, and the lines of a service that cannot be had leave nothing behind.
func TestARestoreGoesOn(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	at := servers(t, "A")
	to, other := loopback()+":8080", loopback()+":8080"
	got := refusals(t, s, "-A -t 192.0.2.1:80 -s rr", "-a -t 192.0.2.1:80 -r 127.0.0.1:1 -m",
		"-A -t "+to+" -s rr", at.Replace("-a -t "+to+" -r $A -m"), "-A -t "+to+" -s wrr", "-A -t "+other+" -s lc")
	if lines := strings.Split(got, "\n"); len(lines) != 2 || !strings.HasPrefix(lines[0], "0 255 service tcp:192.0.2.1:80: listen tcp ") ||
		lines[1] != "4 255 Service already exists" {
		t.Errorf("refused: %s", got)
	}
	want := []string{"-A -t " + to + " -s rr", at.Replace("-a -t " + to + " -r $A -m -w 1"), "-A -t " + other + " -s lc"}
	if lines := s.IPVSLines(); !slices.Equal(lines, want) {
		t.Errorf("runs %q, want %q", lines, want)
	}
	if got := ask(t, to, 2, false); got != "AA" {
		t.Errorf("served by %s", got)
	}
}

// Figures count what was there, -Z begins anew, and the counters of the data path go on.
func TestFiguresCount(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	at := servers(t, "AB")
	to := loopback() + ":8080"
	change(t, s, at.Replace("-A -t "+to+" -s rr\n-a -t "+to+" -r $A -m\n-a -t "+to+" -r $B -m"))
	conns := func() (service, a, b uint64) {
		v := find(t, s, to)
		return v.Stats.Conns, v.Destinations[1].Stats.Conns, v.Destinations[0].Stats.Conns
	}
	ask(t, to, 5, false)
	if v, a, b := conns(); v != 5 || a != 2 || b != 3 {
		t.Errorf("5 connections are shown as %d: A %d, B %d", v, a, b)
	}
	await(t, "bytes", func() string { return unless(find(t, s, to).Stats.OutBytes == 5, "not 5") })
	change(t, s, "-Z -t "+to)
	if v, a, b := conns(); v != 0 || a != 0 || b != 0 {
		t.Errorf("after -Z there are %d, %d, %d connections", v, a, b)
	}
	ask(t, to, 1, false)
	if v, a, b := conns(); v != 1 || a != 1 || b != 0 {
		t.Errorf("one connection after -Z is shown as %d: A %d, B %d", v, a, b)
	}
	if live := s.control.Live(); live[0].Running.Accepted() != 6 {
		t.Errorf("the data path has counted %d", live[0].Running.Accepted())
	}
}

// A counter that has begun anew since -Z is not held back by what it was then.
func TestCountersThatBeginAnew(t *testing.T) {
	t.Parallel()
	got := since(ipvsadm.Stats{Conns: 3, InBytes: 500}, ipvsadm.Stats{Conns: 100, InBytes: 200})
	if want := (ipvsadm.Stats{Conns: 3, InBytes: 300}); got != want {
		t.Errorf("%+v, want %+v", got, want)
	}
}

// The view of one service contains that service only, of any owner.
func TestViewOfOneService(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	a, b := loopback()+":8080", loopback()+":8080"
	change(t, s, "-A -t "+a+" -s rr\n-A -u "+b+" -s rr")
	web := config.NewService("web", config.TCP)
	web.Listeners, web.OnEmpty = []config.Addr{mustListener(t, loopback()+":8080")}, config.EmptyRefuse
	if err := s.control.Add(t.Context(), control.API, web); err != nil {
		t.Fatal(err)
	}
	for word, want := range map[string]int{"-t " + a: 1, "-u " + b: 1, "-u " + a: 0, "-t " + web.Listeners[0].HostPort(): 1} {
		key, err := ipvsadm.ParseKey(word)
		if err != nil {
			t.Fatal(err)
		}
		all := s.IPVSService(key).Services
		if len(all) != want || want == 1 && all[0].Key() != key {
			t.Errorf("%s: %+v", word, all)
		}
	}
}

// A batch of one service that changes leaves the others as they are, pointers included.
func TestOneServiceChanges(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	a, b := loopback()+":8080", loopback()+":8080"
	change(t, s, "-A -t "+a+" -s rr\n-A -t "+b+" -s rr -p 60 -M 255.255.255.0")
	before := s.plan.of(s.now.Load().ipvs, nil)
	change(t, s, "-a -t "+a+" -r 127.0.0.1:1 -m -w 3 -x 10 -y 5")
	after := s.plan.of(s.now.Load().ipvs, nil)
	if len(after) != 2 || after[0] == before[0] || after[1] != before[1] {
		t.Errorf("services %p, not %p", after, before)
	}
	want := config.Persist{Timeout: time.Minute, Bits4: 24}
	if after[1].Persist != want || after[0].Backends[0].String() != "127.0.0.1:1@3,upper=10,lower=5" {
		t.Errorf("persist %v, backend %s", after[1].Persist, after[0].Backends[0])
	}
	change(t, s, "--set 60 30 20")
	if c := s.plan.of(s.now.Load().ipvs, nil)[0]; c.IdleTimeout != time.Minute || c.HalfCloseTimeout != 30*time.Second {
		t.Errorf("timeouts %v and %v", c.IdleTimeout, c.HalfCloseTimeout)
	}
}

// The names of services are ones.
func TestNamesOfServices(t *testing.T) {
	t.Parallel()
	for line, want := range map[string]string{
		"-A -t 10.0.0.1:80 -s rr":               "tcp:10.0.0.1:80",
		"-A -u [fd00::1]:53 -s rr":              "udp:fd00:0:0:0:0:0:0:1:53",
		"-A -f 7 -s rr":                         "fwm:7:udp",
		"-A -f 7 -6 -s rr":                      "fwm6:7:udp",
		"-A -t 10.0.0.1:8000-8100 -s rr -p 300": "tcp:10.0.0.1:8000-8100",
	} {
		cmd, err := ipvsadm.Parse(strings.Fields(line))
		if err != nil {
			t.Fatalf("%s: %v", line, err)
		}
		networks := networksOf(&cmd.Service.Key)
		got := NameOf(&cmd.Service.Key, networks[len(networks)-1])
		if got != want || config.CheckServiceName(got) != nil {
			t.Errorf("%s: %s (%v), want %s", line, got, config.CheckServiceName(got), want)
		}
	}
}

// unless returns a reason, or nothing if all is well.
func unless(is bool, reason string) string {
	if is {
		return ""
	}
	return reason
}
