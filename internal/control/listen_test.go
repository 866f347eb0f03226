package control

import (
	"net"
	"net/netip"
	"strings"
	"testing"

	"usher/internal/discovery"
	"usher/internal/flags"
)

func TestResolveListeners(t *testing.T) {
	t.Parallel()
	addr := netip.MustParseAddr
	resolver := discovery.Resolver{Lookup: book{
		"here.test":      {addr("127.0.0.1")},
		"partly.test":    {addr("203.0.113.7"), addr("127.0.0.1")},
		"elsewhere.test": {addr("203.0.113.7"), addr("203.0.113.8")},
	}}
	for _, tt := range []struct{ words, want, err string }{
		{words: ":80 [::1]:81 unix:///x here.test:82-83", want: ":80 [::1]:81 unix:///x 127.0.0.1:82-83"},
		{words: "partly.test:80", want: "127.0.0.1:80"},
		{words: "udp:here.test:53 udp://:54 udp://[::1]:55 udp://127.0.0.2:1000-1009",
			want: "udp://127.0.0.1:53 udp://:54 udp://[::1]:55 udp://127.0.0.2:1000-1009"},
		{words: "elsewhere.test:80", want: "203.0.113.7:80 203.0.113.8:80"},
		{words: "nowhere.test:80", err: "service default: listen on nowhere.test:80: lookup nowhere.test: no such host"},
		{words: "here.test:80 127.0.0.1:80", err: `service "default" listens on 127.0.0.1:80 twice`},
		{words: "here.test:9001", err: "backend 127.0.0.1:9001 of service default is its own listener 127.0.0.1:9001"},
	} {
		c := parse(t, flags.Words{Listen: strings.Fields(tt.words), Backend: []string{"9001"}})
		got, err := newController(t, resolver).wanted(t, c.Services)
		if err != nil || tt.err != "" {
			if err == nil || err.Error() != tt.err {
				t.Errorf("%s: error %v, want %s", tt.words, err, tt.err)
			}
			continue
		}
		if got := strings.Join(texts(got[0].Listeners), " "); got != tt.want {
			t.Errorf("%s: got %s, want %s", tt.words, got, tt.want)
		}
		// The data path writes addresses in the same form.
		if got := strings.Join(texts(Listeners(got[0].Listeners)), " "); got != tt.want {
			t.Errorf("%s: for the data path %s, want %s", tt.words, got, tt.want)
		}
	}
}

func TestBound(t *testing.T) {
	t.Parallel()
	c := parse(t, flags.Words{Listen: []string{"127.0.0.1:0", "unix:///x", ":80-81"}, Backend: []string{"40001"}})
	running := Listeners(c.Services[0].Listeners)
	running[0].Addr = netip.MustParseAddrPort("127.0.0.1:40001")
	got := bound(c.Services[0], running)
	if got, want := strings.Join(texts(got.Listeners), " "), "127.0.0.1:40001 unix:///x :80-81"; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	if c.Services[0].Listeners[0].Port != 0 {
		t.Error("the listeners given are changed")
	}
}

func TestExplain(t *testing.T) {
	t.Parallel()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	c := parse(t, flags.Words{Listen: []string{l.Addr().String()}, Backend: []string{"9001"}})
	err = newController(t, discovery.Resolver{}).Replace(t.Context(), Flags, Part{Services: c.Services})
	if err == nil || !strings.Contains(err.Error(), "service default: listen tcp "+l.Addr().String()) {
		t.Errorf("a port that is taken: %v", err)
	}
	for listen, want := range map[string]bool{"127.0.0.1:0": false, "127.0.0.1:1": true, "127.0.0.1:1023": true, "127.0.0.1:1024": false, "unix:///x": false} {
		c := parse(t, flags.Words{Listen: []string{listen}, Backend: []string{"9001"}})
		if got := hasLowPort(c.Services); got != want {
			t.Errorf("%s is a low port: %v, want %v", listen, got, want)
		}
	}
	at := netip.MustParseAddrPort
	for _, tt := range []struct {
		listen string
		socket netip.AddrPort
		want   bool
	}{
		{"127.0.0.1:80", at("127.0.0.1:80"), true},
		{"127.0.0.1:80", at("0.0.0.0:80"), true},
		{"127.0.0.1:80", at("[::]:80"), true},
		{"127.0.0.1:80", at("127.0.0.2:80"), false},
		{"127.0.0.1:80", at("127.0.0.1:81"), false},
		{"127.0.0.1:80-82", at("127.0.0.1:82"), true},
		{"127.0.0.1:80-82", at("127.0.0.1:83"), false},
		{":80", at("10.0.0.1:80"), true},
		{"0.0.0.0:80", at("10.0.0.1:80"), true},
		{"unix:///x", at("10.0.0.1:80"), false},
	} {
		for _, network := range []string{"tcp", "udp"} {
			listen := strings.TrimPrefix(network+"://"+tt.listen, "tcp://")
			if network == "udp" && strings.HasPrefix(tt.listen, "unix") {
				continue
			}
			c := parse(t, flags.Words{Listen: []string{listen}, Backend: []string{"9001"}})
			if got := isInTheWay(c.Services, network, tt.socket); got != tt.want {
				t.Errorf("listener %s, %s socket %s: in the way %v, want %v", listen, network, tt.socket, got, tt.want)
			}
			if isInTheWay(c.Services, map[string]string{"tcp": "udp", "udp": "tcp"}[network], tt.socket) {
				t.Errorf("listener %s, socket %s: in the way of the other protocol", listen, tt.socket)
			}
		}
	}
}
