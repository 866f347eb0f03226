package ipvsadm_test

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"usher/internal/ipvsadm"
)

// result is what a program leaves behind.
type result struct {
	code           int
	stdout, stderr string
}

// library is the one to preload, built once for all tests.
var library = sync.OnceValues(func() ([]byte, error) {
	dir, err := os.MkdirTemp("", "")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	path := filepath.Join(dir, "kernel.so")
	out, err := exec.Command("gcc", "-O1", "-shared", "-fPIC", "-o", path, "testdata/kernel.c", "-ldl").CombinedOutput()
	if err != nil {
		return nil, fmt.Errorf("gcc: %w\n%s", err, out)
	}
	return os.ReadFile(path)
})

// real is the ipvsadm of the machine, whose kernels are ours.
type real struct{ path, shim string }

// newReal skips the test where there is no ipvsadm that can be deceived.
func newReal(t *testing.T) *real {
	t.Helper()
	path, err := exec.LookPath("ipvsadm")
	if err != nil {
		path = "/usr/sbin/ipvsadm" // which is not on everybody's path
	}
	if _, err := os.Stat(path); err != nil {
		t.Skip(err)
	}
	code, err := library()
	if err != nil {
		t.Skip(err)
	}
	r := &real{path: path, shim: filepath.Join(t.TempDir(), "kernel.so")}
	if err := os.WriteFile(r.shim, code, 0o700); err != nil {
		t.Fatal(err)
	}
	// A library that is not loaded would leave ipvsadm with the kernel of the machine.
	state := ipvsadm.NewState()
	if err := state.Add(ipvsadm.Service{Key: ipvsadm.Key{Mark: 1}, Scheduler: "rr"}); err != nil {
		t.Fatal(err)
	}
	k := newKernel(t, state, 0)
	if version := r.run(t, k, "", "-v"); !strings.HasPrefix(version.stdout, "ipvsadm v1.31 ") {
		t.Skipf("this ipvsadm is not 1.31: %+v", version)
	} else if list := r.run(t, k, "", "-Ln"); !strings.Contains(list.stdout, "FWM  1 rr") {
		t.Skipf("the library does not reach this ipvsadm: %+v", list)
	}
	return r
}

// run runs a command line with a kernel.
func (r *real) run(t *testing.T, k *kernel, stdin string, args ...string) result {
	t.Helper()
	var stdout, stderr bytes.Buffer
	c := &exec.Cmd{Path: r.path, Args: append([]string{"ipvsadm"}, args...), Stdin: strings.NewReader(stdin), Stdout: &stdout, Stderr: &stderr}
	c.Env = []string{"LD_PRELOAD=" + r.shim, "IPVS_SOCKET=" + k.socket(), "IPVS_CONNECTIONS=" + k.connections}
	if err := c.Run(); c.ProcessState == nil {
		t.Fatal(err)
	}
	return result{c.ProcessState.ExitCode(), stdout.String(), stderr.String()}
}
