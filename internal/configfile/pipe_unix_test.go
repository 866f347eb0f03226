//go:build unix

package configfile

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// TestPipes: a pipe is read once its writer has written, and one without a writer holds nobody up.
func TestPipes(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "usher.yaml")
	if err := syscall.Mkfifo(path, 0o600); err != nil {
		t.Skip("this file system has no named pipes:", err)
	}
	if _, err := Load(path, nil); err == nil || !strings.Contains(err.Error(), ": the file is empty") {
		t.Errorf("a pipe without a writer: %v", err)
	}
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	go func() {
		defer w.Close()
		_, _ = w.WriteString("services: {web: {listen: 8080, backends: 9001}}")
	}()
	if f, err := Load(fmt.Sprintf("/dev/fd/%d", r.Fd()), nil); err != nil || len(f.Services) != 1 {
		t.Errorf("a pipe with a writer: %v", err)
	}
}
