package main

import (
	"archive/tar"
	"archive/zip"
	"bytes"
	"compress/gzip"
	"context"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"
)

// file is one of an archive.
type file struct {
	name string // with slashes
	mode fs.FileMode
	text []byte
}

// shared are the files that all archives have, and their time.
type shared struct {
	version string
	at      time.Time
	files   []file
}

// sharedFiles reads and makes all files but the binaries. The manual page and the completions are what usher prints.
func (r *release) sharedFiles(ctx context.Context, scratch string) (s shared, err error) {
	if s.at, err = r.commitTime(ctx); err != nil {
		return s, err
	}
	program := binary(scratch, host())
	if err := r.build(ctx, host(), program); err != nil {
		return s, err
	}
	if s.version, err = r.nameOf(program); err != nil {
		return s, err
	}
	for _, name := range []string{"LICENSE", "README.md", "CHANGELOG.md"} {
		text, err := os.ReadFile(filepath.Join(r.root, name))
		if err != nil {
			return s, err
		}
		s.files = append(s.files, file{name, 0o644, text})
	}
	licenses, err := r.licenses(ctx)
	if err != nil {
		return s, err
	}
	s.files = append(s.files, file{"THIRD_PARTY_LICENSES", 0o644, licenses})
	date := []string{"SOURCE_DATE_EPOCH=" + strconv.FormatInt(s.at.Unix(), 10)}
	for name, words := range map[string][]string{
		"usher.1":                {"man"},
		"completions/usher.bash": {"completion", "bash"},
		"completions/usher.zsh":  {"completion", "zsh"},
		"completions/usher.fish": {"completion", "fish"},
	} {
		text, err := output(ctx, "", date, program, words...)
		if err != nil {
			return s, err
		}
		s.files = append(s.files, file{name, 0o644, []byte(text)})
	}
	deploy, err := deployFiles(os.DirFS(filepath.Join(r.root, "internal", "deploy")))
	s.files = append(s.files, deploy...)
	return s, err
}

// deployFiles are the units, dashboards and rules for operators, without their tests.
func deployFiles(from fs.FS) (all []file, err error) {
	err = fs.WalkDir(from, ".", func(name string, entry fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case entry.IsDir() && entry.Name() == "testdata":
			return fs.SkipDir
		case entry.IsDir(), path.Ext(name) == ".go":
			return nil
		}
		text, err := fs.ReadFile(from, name)
		all = append(all, file{"deploy/" + name, 0o644, text})
		return err
	})
	return all, err
}

// pack builds a target, writes its archive, and returns the archive's name.
func (r *release) pack(ctx context.Context, t target, scratch string, s shared) (string, error) {
	program := binary(scratch, t)
	if err := r.build(ctx, t, program); err != nil {
		return "", err
	}
	text, err := os.ReadFile(program)
	if err != nil {
		return "", err
	}
	folder := fmt.Sprintf("usher-%s-%s-%s", s.version, t.os, t.arch)
	files := append(slices.Clone(s.files), file{t.program(), 0o755, text})
	slices.SortFunc(files, func(a, b file) int { return strings.Compare(a.name, b.name) })
	for i := range files {
		files[i].name = folder + "/" + files[i].name
	}
	name, write := folder+".tar.gz", writeTar
	if t.os == "windows" {
		name, write = folder+".zip", writeZip
	}
	var archive bytes.Buffer
	if err := write(&archive, files, s.at); err != nil {
		return "", err
	}
	return name, os.WriteFile(filepath.Join(r.out, name), archive.Bytes(), 0o644)
}

// writeTar writes files as a compressed tar archive. All belong to root and have the same time.
func writeTar(w *bytes.Buffer, files []file, at time.Time) error {
	compressed, err := gzip.NewWriterLevel(w, gzip.BestCompression)
	if err != nil {
		return err
	}
	archive := tar.NewWriter(compressed)
	for _, f := range files {
		head := &tar.Header{Name: f.name, Mode: int64(f.mode), Size: int64(len(f.text)), ModTime: at, Format: tar.FormatUSTAR}
		if err := archive.WriteHeader(head); err != nil {
			return err
		}
		if _, err := archive.Write(f.text); err != nil {
			return err
		}
	}
	if err := archive.Close(); err != nil {
		return err
	}
	return compressed.Close()
}

// writeZip writes files as a zip archive with the same time for all.
func writeZip(w *bytes.Buffer, files []file, at time.Time) error {
	archive := zip.NewWriter(w)
	for _, f := range files {
		head := &zip.FileHeader{Name: f.name, Method: zip.Deflate, Modified: at}
		head.SetMode(f.mode)
		to, err := archive.CreateHeader(head)
		if err != nil {
			return err
		}
		if _, err := to.Write(f.text); err != nil {
			return err
		}
	}
	return archive.Close()
}
