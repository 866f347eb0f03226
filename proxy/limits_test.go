package proxy

import (
	"slices"
	"strings"
	"testing"
)

func TestFitPorts(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		text string
		most int
		want int
		note string
	}{
		{"32768\t60999\n", 500_000, 26468, "udp flows at most 26468 (of local ports 32768-60999; net.ipv4.ip_local_port_range)"},
		{"32768\t60999\n", 26_469, 26468, "udp flows at most 26468 (of local ports 32768-60999; net.ipv4.ip_local_port_range)"},
		{"32768\t60999\n", 26_468, 0, ""},
		{"40000 40000", 10, 1, "udp flows at most 1 (of local ports 40000-40000; net.ipv4.ip_local_port_range)"},
		{"", 10, 0, ""},
		{"40000", 10, 0, ""},
		{"60000 50000", 10, 0, ""},
	} {
		if n, note := fitPorts(tc.text, tc.most); n != tc.want || note != tc.note {
			t.Errorf("%q, %d: got %d, %q, want %d, %q", tc.text, tc.most, n, note, tc.want, tc.note)
		}
	}
}

func TestLocalPortsAreNotedForUDPAlone(t *testing.T) {
	t.Parallel()
	stream, datagrams := service(t), udpService(t, UDPConfig{})
	ports, want := localPorts(defaultMaxConns)
	if ports == 0 {
		t.Skip("no such bound here")
	}
	if n, got := localPorts(1); n != 0 || got != "" {
		t.Errorf("more ports than flows: %d, %q", n, got)
	}
	s, err := newServer(Options{Engine: "portable"}, datagrams)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	if told := slices.Contains(s.Notes(), want); told != (ports < s.capacity) {
		t.Errorf("of at most %d flows: %q", s.capacity, s.Notes())
	}
	apply(t, s, stream)
	if slices.Contains(s.Notes(), want) {
		t.Errorf("tcp alone: %q", s.Notes())
	}
	apply(t, s, datagrams)
	if _, most := s.Services()[0].Shares(); most > int64(min(s.capacity, ports)) || most < int64(min(s.capacity, ports))/2 {
		t.Errorf("the only service may have %d flows, of %d, with %d local ports", most, s.capacity, ports)
	}
}

func TestShareLimit(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		name                              string
		limit, wanted, listeners, workers int
		least, most                       int // flows
		pipes                             int // of each worker, of 64 that it would take
		note                              string
	}{
		{"derived", 20000, 0, 1, 2, 9500, 9999, 64, "from the limit of 20000"},
		{"asked for", 20000, 100, 1, 2, 100, 100, 64, "max-conns 100"},
		{"too much asked for", 1024, 5000, 1, 2, 200, 500, 32, "5000 asked for"},
		{"small limit", 300, 0, 2, 2, 80, 110, 9, "36 are for pipes"},
		{"smaller limit", 64, 0, 1, 1, 10, 31, 4, "from the limit of 64"},
		{"too small for pipes", 64, 0, 1, 8, 10, 31, 0, "0 are for pipes"},
		{"many workers", 20000, 0, 64, 64, 4000, 9999, 19, "from the limit of 20000"},
		{"listeners take all", 1000, 0, 2000, 2, 0, 0, 31, "too few"},
		{"no limit known", 0, 0, 1, 2, defaultMaxConns, defaultMaxConns, 64, "no descriptor limit"},
		{"no limit known, asked for", 0, 7, 1, 2, 7, 7, 64, "max-conns 7"},
		{"unlimited", 1 << 30, 0, 1, 2, defaultMaxConns, defaultMaxConns, 64, "from the limit"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			b := shareLimit(tc.limit, tc.wanted, consumers{listening: tc.listeners, workers: tc.workers, pipes: 64})
			if b.flows < tc.least || b.flows > tc.most || b.pipes != tc.pipes {
				t.Errorf("%d flows and %d pipes, want %d to %d and %d", b.flows, b.pipes, tc.least, tc.most, tc.pipes)
			}
			if !strings.Contains(b.note, tc.note) {
				t.Errorf("note %q, want something about %q", b.note, tc.note)
			}
			used := b.flows*descriptorsPerFlow + b.pipes*tc.workers*descriptorsPerPipe + tc.listeners +
				tc.workers*descriptorsPerLoop + checksWithin(tc.limit)
			if tc.limit > 0 && b.flows > 0 && used >= tc.limit {
				t.Errorf("%d descriptors do not fit into %d", used, tc.limit)
			}
		})
	}
}
