package control

import (
	"encoding/binary"
	"fmt"
	"net"
	"os"
	"strings"
	"testing"

	"usher/internal/flags"
)

func TestPortOwner(t *testing.T) {
	t.Parallel()
	for _, address := range []string{"127.0.0.1:0", "[::1]:0", ":0"} {
		l, err := net.Listen("tcp", address)
		if err != nil {
			t.Logf("no listener on %s here: %v", address, err)
			continue
		}
		defer l.Close()
		port := l.Addr().(*net.TCPAddr).Port
		at := strings.TrimSuffix(address, "0") + fmt.Sprint(port)
		c := parse(t, flags.Words{Listen: []string{at}, Backend: []string{"9001"}})
		if got, want := portOwner(c.Services), fmt.Sprintf("port %d is held by pid %d, ", port, os.Getpid()); !strings.HasPrefix(got, want) {
			t.Errorf("%s: got %q, want %q", at, got, want)
		}
		l.Close()
		if got := portOwner(c.Services); got != "" {
			t.Errorf("%s is free, but %q", at, got)
		}
	}
}

func TestPortOwnerOfUDP(t *testing.T) {
	t.Parallel()
	conn, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	port := conn.LocalAddr().(*net.UDPAddr).Port
	c := parse(t, flags.Words{Listen: []string{"udp://" + conn.LocalAddr().String()}, Backend: []string{"9001"}})
	if got, want := portOwner(c.Services), fmt.Sprintf("port %d is held by pid %d, ", port, os.Getpid()); !strings.HasPrefix(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
	conn.Close()
	if got := portOwner(c.Services); got != "" {
		t.Errorf("the port is free, but %q", got)
	}
}

func TestParseSocket(t *testing.T) {
	t.Parallel()
	if binary.NativeEndian.Uint16([]byte{1, 0}) != 1 {
		t.Skip("the samples are from a little-endian machine")
	}
	for text, want := range map[string]string{
		"0100007F:1F90":                         "127.0.0.1:8080 true",
		"00000000000000000000000001000000:0050": "[::1]:80 true",
		"0000000000000000FFFF00000100007F:0050": "127.0.0.1:80 true",
		"local_address":                         "invalid AddrPort false",
		"0100:0050":                             "invalid AddrPort false",
		"":                                      "invalid AddrPort false",
	} {
		at, ok := parseSocket(text)
		if got := fmt.Sprint(at, ok); got != want {
			t.Errorf("%q: got %s, want %s", text, got, want)
		}
	}
}
