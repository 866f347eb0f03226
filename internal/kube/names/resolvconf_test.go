package names

import (
	"net/netip"
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// TestResolvConf reads the file of a host and writes that of a pod, twice over the same file.
func TestResolvConf(t *testing.T) {
	t.Parallel()
	folder := t.TempDir()
	path := filepath.Join(folder, "resolv.conf")
	host := "# a comment\nnameserver 192.0.2.1\nnameserver fe80::1%eth0\nnameserver nonsense\nsearch example.com example.net\noptions ndots:2 timeout:1\noptions edns0\n"
	if err := os.WriteFile(path, []byte(host), 0o600); err != nil {
		t.Fatal(err)
	}
	const want = "# written by usher kube\nnameserver 127.0.0.53\n" +
		"search shop.svc.cluster.local svc.cluster.local cluster.local example.com example.net\noptions ndots:5 timeout:1 edns0\n"
	for range 2 {
		config, err := ReadHostConfig(path)
		if err != nil {
			t.Fatal(err)
		}
		if err := WriteResolvConf(path, netip.MustParseAddrPort("127.0.0.53:53"), "shop", "cluster.local.", config); err != nil {
			t.Fatal(err)
		}
		got, err := os.ReadFile(path)
		if diff := cmp.Diff(want, string(got)); err != nil || diff != "" {
			t.Error(err, diff)
		}
	}
	if err := WriteResolvConf(path, netip.MustParseAddrPort("127.0.0.1:5353"), "shop", "cluster.local", HostConfig{}); err == nil {
		t.Error("port 5353 is written")
	}
	if err := WriteResolvConf(filepath.Join(folder, "no", "file"), netip.MustParseAddrPort("[::]:53"), "shop", "cluster.local", HostConfig{}); err == nil {
		t.Error("written to a folder that is not there")
	}
	if left, err := os.ReadDir(folder); err != nil || len(left) != 1 {
		t.Error(left, err)
	}
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o644 {
		t.Error(info, err)
	}
}
