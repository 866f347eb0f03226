package proxy

import (
	"strings"
	"testing"
)

func TestFitConns(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		name                              string
		limit, wanted, listeners, workers int
		least, most                       int
		note                              string
	}{
		{"derived", 20000, 0, 1, 2, 9500, 9999, "from the limit of 20000"},
		{"asked for", 20000, 100, 1, 2, 100, 100, "max-conns 100"},
		{"too much asked for", 1024, 5000, 1, 2, 200, 500, "5000 asked for"},
		{"small limit", 64, 0, 1, 1, 10, 31, "from the limit of 64"},
		{"listeners take all", 1000, 0, 2000, 2, 0, 0, "too few"},
		{"no limit known", 0, 0, 1, 2, defaultMaxConns, defaultMaxConns, "no descriptor limit"},
		{"no limit known, asked for", 0, 7, 1, 2, 7, 7, "max-conns 7"},
		{"unlimited", 1 << 30, 0, 1, 2, defaultMaxConns, defaultMaxConns, "from the limit"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			n, note := fitConns(tc.limit, tc.wanted, tc.listeners, tc.workers)
			if n < tc.least || n > tc.most {
				t.Errorf("%d flows, want %d to %d", n, tc.least, tc.most)
			}
			if !strings.Contains(note, tc.note) {
				t.Errorf("note %q, want something about %q", note, tc.note)
			}
			if tc.limit > 0 && n*descriptorsPerFlow+tc.listeners > tc.limit && n > 0 {
				t.Errorf("%d flows do not fit into %d descriptors", n, tc.limit)
			}
		})
	}
}
