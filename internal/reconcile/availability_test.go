package reconcile

import (
	"strings"
	"testing"

	"usher/internal/config"
)

func TestConsequences(t *testing.T) {
	t.Parallel()
	const wait, closed, udp, deep = "wait", "closed", "udp", "deep"
	for _, tt := range []struct {
		why     availability
		options string
		want    string
	}{
		{allDown, "", "clients are sent to them anyway (--fail open)"},
		{allDown, wait, "clients are sent to them anyway, for up to 30s (--fail open, --wait)"},
		{allDown, wait + deep, "clients wait up to 30s for one, and are sent to them then (--fail open, --wait)"},
		{allDown, closed + wait + deep, "clients wait up to 30s for one, and are refused then (--fail closed, --wait)"},
		{allDown, closed, "clients are refused (--fail closed)"},
		{allDown, closed + wait, "clients wait up to 30s for one, and are refused then (--fail closed, --wait)"},
		{noAddress, "", "none has an address, clients are refused"},
		{noAddress, closed, "none has an address, clients are refused"},
		{noAddress, wait, "none has an address, clients wait up to 30s for one, and are refused then (--wait)"},
		{noBackend, "", "none is left, clients are refused"},
		{noBackend, "empty close", "its listeners are closed (--on-empty close)"},
		{noBackend, "empty drop", "clients get no answer (--on-empty drop)"},
		{noBackend, "empty refuse" + wait, "clients wait up to 30s for one, and are refused then (--on-empty refuse, --wait)"},
		{noWeight, "", "clients are refused"},
		{noneReady, "", "clients are refused"},
		{allDown, udp, "clients are sent to them anyway (--fail open)"},
		{allDown, udp + closed, "datagrams are dropped (--fail closed)"},
		{noAddress, udp, "none has an address, datagrams are dropped"},
		{noWeight, wait, "clients wait up to 30s for one, and are refused then (--wait)"},
	} {
		s := config.NewService("", config.TCP)
		s.Backends = []config.Backend{{}}
		if words := strings.Fields(tt.options); len(words) == 2 {
			s.OnEmpty, s.Backends = config.EmptyPolicy(strings.TrimSuffix(words[1], wait)), nil
		}
		s.FailClosed = strings.Contains(tt.options, closed)
		if strings.Contains(tt.options, wait) {
			s.Wait = 30e9
		}
		if strings.Contains(tt.options, deep) {
			s.Health.Kind = "http"
		}
		if strings.Contains(tt.options, udp) {
			s.Listeners = []config.Addr{{Network: config.UDP}}
		}
		if got := consequence(tt.why, s); got != tt.want {
			t.Errorf("%d with %q: %s, want %s", tt.why, tt.options, got, tt.want)
		}
	}
}
