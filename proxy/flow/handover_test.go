package flow

import (
	"reflect"
	"slices"
	"testing"

	"usher/conntrack"
)

// TestEveryFieldIsSaved fails if a field of a flow, a session or a service is neither saved nor
// derived when a server is handed over.
func TestEveryFieldIsSaved(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		of      any
		saved   []string
		derived []string
	}{
		{Flow{}, []string{
			"Settings", "backend", "holding", "phase", "gentle", "answered", "endState", "asked", "told", "Origin",
			"tries", "step", "portless", "accepted", "connected", "attempt", "redial", "budget", "began", "hold", "patience",
			"ends", "doubted", "given", "tried", "sticky", "ticket", "at", "needs",
		}, []string{"ent", "Service", "ID", "idle", "pass", "isHeld", "Feed", "isAnnounced", "rejoins"}},
		{endState{}, []string{
			"fins", "finished", "muted", "failedSide", "endsAs", "failedAt", "quiet", "inspected", "settled", "progress",
			"unacked", "undelivered",
		}, nil},
		{Origin{}, []string{"Client", "Local", "Path", "Offset", "Via"}, nil},
		{Via{}, []string{"Peer", "Destination", "TLVs", "ServerName", "ID"}, nil},
		{Pass{}, nil, []string{"counter", "holds"}},
		{counted{}, []string{"up", "down", "in", "out"}, nil},
		{Session{}, []string{
			"Settings", "Binding", "backend", "chosenDown", "madeRoom", "places", "stale", "aged", "Origin", "opened",
			"counted", "told", "ends", "sticky", "asked", "replies", "waiting", "refused", "heard", "kept", "header", "peer",
			"judged",
		}, []string{"Service", "ent", "ID", "idle", "pass", "isAnnounced", "rejoins"}},
		{unconfirmed{}, []string{"first", "last", "since", "datagrams", "bytes"}, []string{"used", "copies"}},
		{Sessions{}, []string{"table", "slots", "once", "named", "resend"}, []string{
			"InterfaceName", "door", "Feed",
			"admission", "cut", "others", "fire", "lines", "counts", "sticky", "rejoins", "now", "closed",
		}},
		{Service{}, []string{
			"Name", "running", "isRemoved", "persisted", "accepted", "starved", "ended", "up", "down", "in", "out", "connects", "lifetime",
			"dropped", "fellBack",
		}, []string{"places", "ports", "most", "clientMost", "seed", "limits", "lines", "Trace"}}, // rates begin anew
		{Settings{}, []string{"ServiceConfig", "Service", "queue"}, []string{"affinity", "access"}},
		{Binding{}, []string{"to", "isGone"}, nil},
		{Destination{}, []string{"Claim", "last"}, nil},
		{Claim{}, []string{"Service", "Offset", "ServerName", "Protocol", "From"}, nil},
		{ticket{}, []string{"state", "prev", "next"}, []string{"more", "wake"}},
	} {
		kind := reflect.TypeOf(tt.of)
		known := slices.Concat(tt.saved, tt.derived)
		for i := range kind.NumField() {
			name := kind.Field(i).Name
			at := slices.Index(known, name)
			if at < 0 {
				t.Errorf("%v.%s is neither saved nor derived", kind, name)
				continue
			}
			known = slices.Delete(known, at, at+1)
		}
		for _, name := range known {
			t.Errorf("%v has no field %s", kind, name)
		}
	}
}

// TestNumbersOfTheFormat: states are saved with these numbers. To change one takes another
// version of the format.
func TestNumbersOfTheFormat(t *testing.T) {
	t.Parallel()
	if connecting != 0 || waiting != 1 || relaying != 2 || greeting != 3 || silent != 4 || needsHeader != 1 || needsHello != 2 || Client != 0 || Backend != 1 {
		t.Error("phases or sides have other numbers")
	}
	for n, want := range []string{
		"running", "fin", "client-reset", "backend-reset", "client-lost", "backend-lost", "idle", "half-close",
		"connect-failed", "no-backend", "drain", "draining", "max-conns", "max-flows", "max-client-flows", "backends-full",
		"queue-full", "no-descriptors", "no-local-port", "replied", "refused", "evicted", "reclaimed", "backend-down",
		"max-age", "queue-timeout", "aborted", "killed", "rebalanced", "error",
		"denied", "rate-limited", "client-limit", "bad-proxy-header", "no-sni",
	} {
		if got := Outcome(n).String(); got != want {
			t.Errorf("outcome %d is %s, and was %s", n, got, want)
		}
	}
	for n, want := range []string{
		"none", "connecting", "established", "half-closed", "closing", "unreplied", "assured", "waiting", "queued",
		"greeting", "silent",
	} {
		if got := conntrack.State(n).String(); got != want {
			t.Errorf("state %d is %s, and was %s", n, got, want)
		}
	}
}

// TestCopiesAreSaved: what a backend may yet refuse is sent to the next one by the successor.
func TestCopiesAreSaved(t *testing.T) {
	t.Parallel()
	var m, next Sessions
	x := new(Session)
	for i, text := range []string{"one", "two two ", "", "four"} {
		_, p := m.Keep(x, []int{1, 2, 1, 1}[i], len(text), []int{3, 4, 0, 4}[i], 0)
		copy(p, text)
	}
	x.ent = new(entry)
	x.Settings = &Settings{}
	st := m.Save(x, new(Numbers))
	if err := st.Kept.check(); err != nil {
		t.Fatal(err)
	}
	y := new(Session)
	next.resend.add(100, 0) // of another session
	next.restoreKept(y, st.Kept)
	if y.kept.copies != x.kept.copies || y.kept.datagrams != x.kept.datagrams || y.kept.bytes != x.kept.bytes || y.kept.used != x.kept.used {
		t.Errorf("%+v, want %+v", y.kept, x.kept)
	}
	var all []string
	for p, segment := range next.Copies(y) {
		all = append(all, string(p))
		if segment > len(p) && len(p) > 0 {
			t.Errorf("%q has parts of %d", p, segment)
		}
	}
	if !slices.Equal(all, []string{"one", "two two ", "", "four"}) {
		t.Errorf("copies %q", all)
	}
	st.Kept.Copies[0].Bytes = make([]byte, resendMost)
	if st.Kept.check() == nil {
		t.Error("more copies than may be kept")
	}
}
