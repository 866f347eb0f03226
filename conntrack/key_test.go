package conntrack

import (
	"net/netip"
	"testing"
	"unsafe"
)

func TestKey(t *testing.T) {
	t.Parallel()
	if size := unsafe.Sizeof(Key{}); size != 40 {
		t.Errorf("a Key takes %d bytes, want 40", size)
	}
	addr := netip.MustParseAddrPort
	for _, tc := range []struct {
		name                  string
		proto                 Proto
		client, local         netip.AddrPort
		wantClient, wantLocal netip.AddrPort
	}{
		{
			name:  "IPv4",
			proto: TCP, client: addr("192.0.2.1:40000"), local: addr("127.0.0.1:80"),
			wantClient: addr("192.0.2.1:40000"), wantLocal: addr("127.0.0.1:80"),
		},
		{
			name:  "IPv6",
			proto: UDP, client: addr("[2001:db8::1]:65535"), local: addr("[::1]:1"),
			wantClient: addr("[2001:db8::1]:65535"), wantLocal: addr("[::1]:1"),
		},
		{
			name:  "IPv4 through a socket of both families",
			proto: TCP, client: addr("[::ffff:192.0.2.1]:40000"), local: addr("[::ffff:127.0.0.1]:80"),
			wantClient: addr("192.0.2.1:40000"), wantLocal: addr("127.0.0.1:80"),
		},
		{
			name:  "zones are left out",
			proto: TCP, client: addr("[fe80::1%eth0]:40000"), local: addr("[fe80::2%eth0]:80"),
			wantClient: addr("[fe80::1]:40000"), wantLocal: addr("[fe80::2]:80"),
		},
		{
			name:  "unspecified is not invalid",
			proto: UDP, client: addr("[::]:0"), local: addr("0.0.0.0:0"),
			wantClient: addr("[::]:0"), wantLocal: addr("0.0.0.0:0"),
		},
		{
			name:  "all bits set",
			proto: 255, client: addr("[ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff]:65535"), local: addr("255.255.255.255:65535"),
			wantClient: addr("[ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff]:65535"), wantLocal: addr("255.255.255.255:65535"),
		},
		{name: "unix has no addresses", proto: Unix},
		{
			name:  "one address invalid",
			proto: TCP, client: netip.AddrPortFrom(netip.Addr{}, 7), local: addr("127.0.0.1:80"),
			wantClient: netip.AddrPortFrom(netip.Addr{}, 7), wantLocal: addr("127.0.0.1:80"),
		},
	} {
		k := NewKey(tc.proto, tc.client, tc.local)
		if k.Proto() != tc.proto || k.Client() != tc.wantClient || k.Local() != tc.wantLocal {
			t.Errorf("%s: got %v %v %v, want %v %v %v", tc.name,
				k.Proto(), k.Client(), k.Local(), tc.proto, tc.wantClient, tc.wantLocal)
		}
		if again := NewKey(k.Proto(), k.Client(), k.Local()); again != k {
			t.Errorf("%s: the key of its own parts differs", tc.name)
		}
		if k == (Key{}) {
			t.Errorf("%s: equal to the zero Key", tc.name)
		}
	}
}

func TestStrings(t *testing.T) {
	t.Parallel()
	for got, want := range map[string]string{
		TCP.String():         "tcp",
		UDP.String():         "udp",
		Unix.String():        "unix",
		Proto(0).String():    "proto(0)",
		State(0).String():    "none",
		Connecting.String():  "connecting",
		Established.String(): "established",
		HalfClosed.String():  "half-closed",
		Closing.String():     "closing",
		Unreplied.String():   "unreplied",
		Assured.String():     "assured",
		State(200).String():  "state(200)",
	} {
		if got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
}
