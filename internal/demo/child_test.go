package demo

import (
	"bytes"
	"context"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// A child that cannot start is one clear line, and nothing is left of it. The test is not
// parallel: between fork and exec a child has the sockets that others close.
func TestChildThatFails(t *testing.T) {
	sh, err := exec.LookPath("sh")
	if err != nil {
		t.Skip(err)
	}
	socket := filepath.Join(t.TempDir(), "s")
	for script, want := range map[string]string{
		"echo log; echo usher: no luck >&2; exit 1":   "no luck",
		"echo a >&2; echo usher: no port >&2; exit 2": "no port",
		"exit 3":                         "exit status 3",
		"exit 0":                         "it ended at once",
		"printf %0100000d 1 >&2; exit 4": strings.Repeat("0", maxReason),
	} {
		var log bytes.Buffer
		child, err := startChild(t.Context(), sh, []string{"-c", script}, socket, &log)
		if child != nil || err == nil || err.Error() != want || log.Len() > 0 {
			t.Errorf("%.40q: %v, want %s; log %q", script, err, want, &log)
		}
	}
	if child, err := startChild(t.Context(), filepath.Join(t.TempDir(), "none"), nil, socket, nil); child != nil || err == nil {
		t.Error(child, err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if child, err := startChild(ctx, sh, []string{"-c", "sleep 3600"}, socket, nil); child != nil || err == nil {
		t.Error(child, err)
	}
}
