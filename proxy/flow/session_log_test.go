package flow

import (
	"net/netip"
	"testing"
	"time"
)

// TestRefusedClientsAreInTheLog, udp ones too, but not a whole flood of them.
func TestRefusedClientsAreInTheLog(t *testing.T) {
	t.Parallel()
	svc := testService(testUDPService(t, UDPConfig{MaxFlows: 1}))
	a := admissionFor(t, 10, svc)
	var records []Record
	a.Record = func(r Record) { records = append(records, r) }
	m := sessionsOf(a, func(*Session) {})
	client, local := netip.MustParseAddrPort("192.0.2.1:1"), netip.MustParseAddrPort("192.0.2.2:53")
	for range 2 * refusalLines {
		m.route(testBinding(svc), client, local, time.Millisecond)
	}
	m.route(testBinding(svc), client, local, 2*time.Second)
	if n := len(records); n != refusalLines+1 {
		t.Errorf("%d lines, want %d", n, refusalLines+1)
	}
	if r := records[0]; r.Client != client || r.Local != local || r.Outcome != NoBackend {
		t.Errorf("logged %+v", r)
	}
	if n := svc.Ended(NoBackend); n != 2*refusalLines+1 {
		t.Errorf("%d counted", n)
	}
}
