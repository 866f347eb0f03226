package main

import (
	"archive/tar"
	"archive/zip"
	"bytes"
	"compress/gzip"
	"context"
	"crypto/sha256"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"github.com/google/go-cmp/cmp"
)

// copyCheckout copies the files of the checkout, committed or not, to a folder without a repository.
func copyCheckout(t *testing.T, to string) {
	t.Helper()
	list, err := output(t.Context(), "../..", nil, "git", "ls-files", "-z", "--cached", "--others", "--exclude-standard")
	if err != nil {
		t.Skipf("the checkout is not of git: %v", err)
	}
	for name := range strings.SplitSeq(strings.TrimRight(list, "\x00"), "\x00") {
		text, err := os.ReadFile(filepath.Join("../..", name))
		if os.IsNotExist(err) {
			continue // removed, and not committed yet
		}
		path := filepath.Join(to, name)
		if err == nil {
			err = os.MkdirAll(filepath.Dir(path), 0o755)
		}
		if err == nil {
			err = os.WriteFile(path, text, 0o644)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
}

// A release has the same bytes wherever the checkout is. Its archive has the binary and what belongs to it.
func TestReleaseIsReproducible(t *testing.T) {
	t.Parallel()
	var sums, archives [2][]byte
	var name string
	for i := range sums {
		root, out := filepath.Join(t.TempDir(), fmt.Sprint("checkout", i)), t.TempDir()
		copyCheckout(t, root)
		r := &release{root: root, out: out, targets: []target{host()}}
		if err := r.make(t.Context()); err != nil {
			t.Fatal(err)
		}
		var err error
		if sums[i], err = os.ReadFile(filepath.Join(out, "SHA256SUMS")); err != nil {
			t.Fatal(err)
		}
		name = strings.Fields(string(sums[i]))[1]
		if archives[i], err = os.ReadFile(filepath.Join(out, name)); err != nil {
			t.Fatal(err)
		}
		if want := fmt.Sprintf("%x  %s\n", sha256.Sum256(archives[i]), name); string(sums[i]) != want {
			t.Errorf("SHA256SUMS: %s, want %s", sums[i], want)
		}
	}
	if diff := cmp.Diff(string(sums[0]), string(sums[1])); diff != "" {
		t.Error("two checkouts make two releases:", diff)
	}
	if strings.HasSuffix(name, ".tar.gz") {
		checkContent(t, strings.TrimSuffix(name, ".tar.gz"), archives[0])
	}
}

// checkContent finds what an archive must have, and runs its binary.
func checkContent(t *testing.T, folder string, archive []byte) {
	t.Helper()
	all := readTar(t, archive)
	for name, want := range map[string]string{
		"LICENSE": "Apache License", "THIRD_PARTY_LICENSES": "github.com/hashicorp/go-sockaddr ", "README.md": "usher", "CHANGELOG.md": "Changelog",
		"usher.1": ".TH USHER 1 1980-01-01 ", "completions/usher.fish": "__complete", "deploy/systemd/system/usher.service": "[Service]",
	} {
		if !strings.Contains(all[folder+"/"+name], want) {
			t.Errorf("%s lacks %q", name, want)
		}
	}
	program := filepath.Join(t.TempDir(), "usher")
	if err := os.WriteFile(program, []byte(all[folder+"/usher"]), 0o755); err != nil {
		t.Fatal(err)
	}
	if out, err := output(t.Context(), "", nil, program, "--version"); err != nil || out != "usher version devel\n" {
		t.Errorf("usher --version: %q, %v", out, err)
	}
}

func readTar(t *testing.T, archive []byte) map[string]string {
	t.Helper()
	plain, err := gzip.NewReader(bytes.NewReader(archive))
	if err != nil {
		t.Fatal(err)
	}
	all := make(map[string]string)
	for r := tar.NewReader(plain); ; {
		head, err := r.Next()
		if err == io.EOF {
			return all
		}
		if err != nil {
			t.Fatal(err)
		}
		text, err := io.ReadAll(r)
		if err != nil {
			t.Fatal(err)
		}
		if head.Uid != 0 || head.Gid != 0 || strings.HasSuffix(head.Name, "/usher") != (head.Mode == 0o755) {
			t.Errorf("%s: mode %o, of %d:%d", head.Name, head.Mode, head.Uid, head.Gid)
		}
		all[head.Name] = string(text)
	}
}

func TestZip(t *testing.T) {
	t.Parallel()
	at := time.Date(2026, 11, 30, 10, 4, 57, 0, time.UTC)
	var b bytes.Buffer
	if err := writeZip(&b, []file{{"u/usher.exe", 0o755, []byte("x")}}, at); err != nil {
		t.Fatal(err)
	}
	r, err := zip.NewReader(bytes.NewReader(b.Bytes()), int64(b.Len()))
	if err != nil {
		t.Fatal(err)
	}
	if f := r.File[0]; len(r.File) != 1 || f.Name != "u/usher.exe" || f.Mode() != 0o755 || !f.Modified.Equal(at) {
		t.Errorf("%+v", r.File[0].FileHeader)
	}
}

func TestDeployFiles(t *testing.T) {
	t.Parallel()
	files, err := deployFiles(fstest.MapFS{
		"systemd/usher.socket": {Data: []byte("unit")}, "systemd/unit_test.go": {}, "grafana/testdata/x.json": {}, "grafana/usher.json": {},
	})
	var names []string
	for _, f := range files {
		names = append(names, f.name)
	}
	if want := []string{"deploy/grafana/usher.json", "deploy/systemd/usher.socket"}; err != nil || !slices.Equal(names, want) {
		t.Errorf("%v, %v, want %v", names, err, want)
	}
}

func TestMistakes(t *testing.T) {
	t.Parallel()
	for args, want := range map[string]string{
		"-target plan9/amd64": `no target "plan9/amd64"`,
		"v1 v2":               "one VERSION",
	} {
		if err := run(context.Background(), strings.Fields(args)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", args, err, want)
		}
	}
}

func TestLicenseFiles(t *testing.T) {
	t.Parallel()
	for name, want := range map[string]bool{
		"LICENSE": true, "LICENSE.txt": true, "License.md": true, "LICENSE-MIT": true, "COPYING": true, "NOTICE": true, "PATENTS": true,
		"LICENSE.libyaml": true, "README.md": false, "licenses_test.go": false, "patents_of_others": false,
	} {
		if got := licenseFiles.MatchString(name); got != want {
			t.Errorf("%s: %v, want %v", name, got, want)
		}
	}
	if _, err := readLicenses(component{"x v1", t.TempDir()}); err == nil || err.Error() != "x v1 has no license file" {
		t.Errorf("a module without a license: %v", err)
	}
}
