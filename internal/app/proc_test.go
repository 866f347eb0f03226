package app

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/procfs"

	"usher/internal/flags"
)

// What reads the kernel's files for node_exporter reads those of --proc: connections and bytes are exact. At the end the
// files are gone.
func TestProc(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "proc")
	t.Run("run", func(t *testing.T) {
		backend := greeter(t)
		c := parse(t, flags.Words{
			Listen: []string{"127.0.0.1:0"}, Backend: []string{backend},
			Options: []flags.Option{{Name: "proc", Value: dir}, {Name: "health", Value: "off"}, {Name: "log-format", Value: "json"}},
		})
		log := run(t, c, book{})
		log.await(t, `"msg":"serving"`)
		address := log.await(t, `"listen":\["([^"]+)"\]`)
		for range 3 {
			conn, err := net.Dial("tcp", address)
			if err != nil {
				t.Fatal(err)
			}
			if got, err := io.ReadAll(conn); string(got) != "hello" {
				t.Errorf("got %q, %v", got, err)
			}
			if !hasLine(filepath.Join(dir, "net/nf_conntrack"), "src="+conn.LocalAddr().(*net.TCPAddr).IP.String()+" ", fmt.Sprintf(" sport=%d ", conn.LocalAddr().(*net.TCPAddr).Port)) {
				t.Errorf("nf_conntrack has no line of %v", conn.LocalAddr())
			}
			conn.Close()
		}
		want := fmt.Sprintf("3 connections, 15 bytes out; %s -> %s TCP weight 1, 0 active", address, backend)
		for deadline := time.Now().Add(patience); ; time.Sleep(10 * time.Millisecond) {
			got, err := exported(dir)
			if got == want {
				break
			}
			if time.Now().After(deadline) {
				t.Fatalf("exporters see %q, want %q: %v", got, want, err)
			}
		}
	})
	if _, err := os.Stat(dir); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the folder is there after the end: %v", err)
	}
}

// exported is what the parser of node_exporter finds.
func exported(dir string) (string, error) {
	proc, err := procfs.NewFS(dir)
	if err != nil {
		return "", err
	}
	stats, err := proc.IPVSStats()
	if err != nil {
		return "", err
	}
	backends, err := proc.IPVSBackendStatus()
	if err != nil || len(backends) != 1 {
		return "", fmt.Errorf("%d backends: %w", len(backends), err)
	}
	if runtime.GOOS == "linux" && (stats.IncomingPackets < 6 || stats.OutgoingPackets < 6) { // SYN and ACK of three connections
		return "", fmt.Errorf("%d and %d packets", stats.IncomingPackets, stats.OutgoingPackets)
	}
	b := backends[0]
	return fmt.Sprintf("%d connections, %d bytes out; %s:%d -> %s:%d %s weight %d, %d active", stats.Connections, stats.OutgoingBytes,
		b.LocalAddress, b.LocalPort, b.RemoteAddress, b.RemotePort, b.Proto, b.Weight, b.ActiveConn), nil
}

// hasLine awaits a line of a file that has all words.
func hasLine(path string, words ...string) bool {
	for deadline := time.Now().Add(patience); time.Now().Before(deadline); time.Sleep(10 * time.Millisecond) {
		text, _ := os.ReadFile(path)
		for line := range strings.Lines(string(text)) {
			if !slices.ContainsFunc(words, func(word string) bool { return !strings.Contains(line, word) }) {
				return true
			}
		}
	}
	return false
}
