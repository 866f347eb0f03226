package flow

import (
	"net/netip"
	"testing"
	"time"

	"usher/proxy/proxyheader"
)

// TestHeadersOfSessions has datagrams sent at some times, in milliseconds, and replies. The
// string says of each datagram whether it has the header.
func TestHeadersOfSessions(t *testing.T) {
	t.Parallel()
	forged := proxyheader.AppendV2(nil, &proxyheader.Header{Local: true})
	for _, tt := range []struct {
		name    string
		every   bool
		payload []byte
		events  []int // a reply if negative
		headers string
	}{
		{"burst", false, nil, []int{0, 0, 1, 499}, "h---"},
		{"no reply", false, nil, []int{0, 500, 900, 1000}, "hh-h"},
		{"replies", false, nil, []int{0, -10, 600, 5009}, "h--"},
		{"long after the reply", false, nil, []int{0, -10, 5010, 5020, -5030, 10029}, "hh--"},
		{"every", true, nil, []int{0, 0, -1, 2}, "hhh"},
		{"forged", false, forged, []int{0, 0, -1, 2}, "hhh"},
	} {
		c := testUDPService(t, UDPConfig{}, netip.MustParseAddrPort("10.0.0.1:53"))
		c.SendProxy = SendProxy{Version: 2, Every: tt.every}
		svc := testService(c)
		m := sessionsOf(admissionFor(t, 10, svc), func(*Session) {})
		client, local := netip.MustParseAddrPort("192.0.2.1:1000"), netip.MustParseAddrPort("192.0.2.2:53")
		x, _ := m.route(testBinding(svc), client, local, 0)
		got := ""
		for _, ms := range tt.events {
			now := time.Duration(ms) * time.Millisecond
			switch {
			case ms < 0:
				m.Replied(x, 1, -now)
				continue
			case x.NeedsHeader(tt.payload, now):
				x.HeaderSent(now)
				got += "h"
			default:
				got += "-"
			}
			m.Sent(x, 1, len(tt.payload), now)
		}
		if got != tt.headers {
			t.Errorf("%s: headers %s, want %s", tt.name, got, tt.headers)
		}
		if x.HeaderDropped(); !x.NeedsHeader(nil, 5*time.Second) {
			t.Errorf("%s: what did not leave was taken for a header", tt.name)
		}
		h, n, err := proxyheader.Parse(m.AppendHeader(nil, x))
		if err != nil || n == 0 || h.Source != client || h.Destination != local || !h.Datagram {
			t.Errorf("%s: %+v, %v", tt.name, h, err)
		}
	}
}
