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
		{allDown, "", "clients are sent to them anyway, as --fail open says"},
		{allDown, wait, "clients are sent to them anyway, for up to 30s, as --fail open and --wait say"},
		{allDown, wait + deep, "clients wait up to 30s for one, and are sent to them then, as --fail open and --wait say"},
		{allDown, closed + wait + deep, "clients wait up to 30s for one, and are refused then, as --fail closed and --wait say"},
		{allDown, closed, "clients are refused, as --fail closed says"},
		{allDown, closed + wait, "clients wait up to 30s for one, and are refused then, as --fail closed and --wait say"},
		{noAddress, "", "none has an address, clients are refused"},
		{noAddress, closed, "none has an address, clients are refused"},
		{noAddress, wait, "none has an address, clients wait up to 30s for one, and are refused then, as --wait says"},
		{noBackend, "", "none is left, clients are refused"},
		{noBackend, "empty close", "its listeners are closed, as --on-empty close says"},
		{noBackend, "empty drop", "clients get no answer, as --on-empty drop says"},
		{noBackend, "empty refuse" + wait, "clients wait up to 30s for one, and are refused then, as --on-empty refuse and --wait say"},
		{noWeight, "", "clients are refused"},
		{noneReady, "", "clients are refused"},
		{allDown, udp, "clients are sent to them anyway, as --fail open says"},
		{allDown, udp + closed, "datagrams are dropped, as --fail closed says"},
		{noAddress, udp, "none has an address, datagrams are dropped"},
		{noWeight, wait, "clients wait up to 30s for one, and are refused then, as --wait says"},
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
