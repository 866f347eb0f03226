package dialect

import (
	"fmt"
	"testing"

	"usher/internal/api"
)

// The state and the directions of a flow, as conntrack has them.
func TestTrackedFlow(t *testing.T) {
	t.Parallel()
	at := api.Flow{Client: "10.0.0.1:1000", Destination: "10.0.0.2:80", Target: "10.0.0.3:8080", Source: "10.0.0.2:4000", Network: "tcp", ID: "0-tcp-0-1"}
	for name, c := range map[string]struct {
		change func(*api.Flow)
		want   string
	}{
		"connecting":  {func(f *api.Flow) { f.State, f.TimeoutMS = "connecting", 4999 }, "SYN_SENT 4 false false 10.0.0.3:8080 10.0.0.2:4000"},
		"queued":      {func(f *api.Flow) { f.State, f.Target, f.Source = "queued", "", "" }, "SYN_SENT 432000 false false 10.0.0.2:80 10.0.0.1:1000"},
		"established": {func(f *api.Flow) { f.State = "established" }, "ESTABLISHED 432000 true true 10.0.0.3:8080 10.0.0.2:4000"},
		"client":      {func(f *api.Flow) { f.State, f.Closed = "half-closed", "client" }, "CLOSE_WAIT 432000 true true 10.0.0.3:8080 10.0.0.2:4000"},
		"backend":     {func(f *api.Flow) { f.State, f.Closed = "half-closed", "backend" }, "FIN_WAIT 432000 true true 10.0.0.3:8080 10.0.0.2:4000"},
		"both":        {func(f *api.Flow) { f.State, f.Closed = "half-closed", "both" }, "TIME_WAIT 432000 true true 10.0.0.3:8080 10.0.0.2:4000"},
		"aborted":     {func(f *api.Flow) { f.State = "closing" }, "CLOSE 432000 true true 10.0.0.3:8080 10.0.0.2:4000"},
		"unreplied":   {func(f *api.Flow) { f.Network, f.State, f.TimeoutMS = "udp", "unreplied", 30000 }, " 30 false false 10.0.0.3:8080 10.0.0.2:4000"},
		"replied":     {func(f *api.Flow) { f.Network, f.State, f.AgeMS = "udp", "assured", 1000 }, " 432000 true false 10.0.0.3:8080 10.0.0.2:4000"},
		"stream":      {func(f *api.Flow) { f.Network, f.State, f.AgeMS = "udp", "assured", 2001 }, " 432000 true true 10.0.0.3:8080 10.0.0.2:4000"},
	} {
		a := at
		c.change(&a)
		f, ok := TrackedFlow(&a)
		if got := fmt.Sprint(f.State, " ", f.Timeout, f.SeenReply, f.Assured, f.Reply.Src, f.Reply.Dst); !ok || got != c.want {
			t.Errorf("%s: %q, want %q", name, got, c.want)
		}
	}
	if _, ok := TrackedFlow(&api.Flow{Client: "unix", Network: "unix"}); ok {
		t.Error("a flow without addresses is shown")
	}
}
