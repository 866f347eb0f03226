package proxy

import (
	"os"
	"slices"
	"strings"
	"testing"
)

func TestFitPorts(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		text string
		most int
		want string
	}{
		{"32768\t60999\n", 500_000, "udp flows at most 28232 (local ports 32768-60999; net.ipv4.ip_local_port_range)"},
		{"32768\t60999\n", 28_233, "udp flows at most 28232 (local ports 32768-60999; net.ipv4.ip_local_port_range)"},
		{"32768\t60999\n", 28_232, ""},
		{"40000 40000", 10, "udp flows at most 1 (local ports 40000-40000; net.ipv4.ip_local_port_range)"},
		{"", 10, ""},
		{"40000", 10, ""},
		{"60000 50000", 10, ""},
	} {
		if got := fitPorts(tc.text, tc.most); got != tc.want {
			t.Errorf("%q, %d: got %q, want %q", tc.text, tc.most, got, tc.want)
		}
	}
}

func TestLocalPortsAreNotedForUDPAlone(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile("/proc/sys/net/ipv4/ip_local_port_range")
	if err != nil || fitPorts(string(text), defaultMaxConns) == "" {
		t.Skip("no such bound here")
	}
	stream, datagrams := service(t), udpService(t, UDPConfig{})
	if got := portsNote([]ServiceConfig{stream}, defaultMaxConns); got != "" {
		t.Errorf("tcp alone: %q", got)
	}
	if got := portsNote([]ServiceConfig{stream, datagrams}, 1); got != "" {
		t.Errorf("more ports than flows: %q", got)
	}
	want := portsNote([]ServiceConfig{stream, datagrams}, defaultMaxConns)
	if want == "" {
		t.Fatal("nothing is told")
	}
	s, err := New(Options{Engine: "portable"}, []ServiceConfig{datagrams})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	if told := slices.Contains(s.Notes(), want); told != (fitPorts(string(text), int(s.maxConns)) != "") {
		t.Errorf("of at most %d flows: %q", s.maxConns, s.Notes())
	}
}

func TestFitConns(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		name                              string
		limit, wanted, listeners, workers int
		least, most                       int
		note                              string
	}{
		{"derived", 20000, 0, 1, 2, 9500, 9999, "from the limit of 20000"},
		{"asked for", 20000, 100, 1, 2, 100, 100, "max-conns 100"},
		{"too much asked for", 1024, 5000, 1, 2, 200, 500, "5000 asked for"},
		{"small limit", 64, 0, 1, 1, 10, 31, "from the limit of 64"},
		{"listeners take all", 1000, 0, 2000, 2, 0, 0, "too few"},
		{"no limit known", 0, 0, 1, 2, defaultMaxConns, defaultMaxConns, "no descriptor limit"},
		{"no limit known, asked for", 0, 7, 1, 2, 7, 7, "max-conns 7"},
		{"unlimited", 1 << 30, 0, 1, 2, defaultMaxConns, defaultMaxConns, "from the limit"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			n, note := fitConns(tc.limit, tc.wanted, tc.listeners, tc.workers)
			if n < tc.least || n > tc.most {
				t.Errorf("%d flows, want %d to %d", n, tc.least, tc.most)
			}
			if !strings.Contains(note, tc.note) {
				t.Errorf("note %q, want something about %q", note, tc.note)
			}
			if tc.limit > 0 && n*descriptorsPerFlow+tc.listeners > tc.limit && n > 0 {
				t.Errorf("%d flows do not fit into %d descriptors", n, tc.limit)
			}
		})
	}
}
