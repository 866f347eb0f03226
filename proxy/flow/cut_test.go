package flow

import (
	"testing"
	"time"
)

// TestSessionsAreCutInShares: no call ends more than a share of the sessions, and all calls
// end all.
func TestSessionsAreCutInShares(t *testing.T) {
	t.Parallel()
	m, svc, ask := roomless(t, UDPConfig{MaxClientFlows: -1})
	for i := range uint32(EndShare + 10) {
		ask(i)
	}
	before := m.table.Len()
	if before <= EndShare {
		t.Fatalf("%d sessions have begun", before)
	}
	for from, more := 0, true; more; {
		from, more = m.CutFlows(CutTarget{Service: svc}, from, time.Millisecond)
		if ended := before - m.table.Len(); ended > EndShare {
			t.Errorf("one call ended %d sessions", ended)
		}
		before = m.table.Len()
	}
	if before != 0 {
		t.Errorf("%d sessions are left", before)
	}
}
