// Release builds usher for all systems that it runs on, and packs each binary with what belongs to it.
//
//	go run ./bench/release [-o DIR] [-target OS/ARCH,...] [VERSION]
//	go run ./bench/release -licenses FILE
//
// The archives are reproducible: the same commit and the same Go make the same bytes, wherever the checkout is. Their
// files have the time of the commit. SHA256SUMS has their checksums. Without VERSION the build names itself after its tag
// or commit.
//
//	main ─ build ─▶ binary ┐
//	       manual, shells ─┼─▶ archive ─▶ SHA256SUMS
//	       licenses ───────┘
package main

import (
	"context"
	"crypto/sha256"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
)

// release is what is built, and of what.
type release struct {
	root    string // of the checkout
	out     string // the folder of the archives
	version string // empty: what the build says of itself
	targets []target
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := run(ctx, os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "release:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string) error {
	words := flag.NewFlagSet("release", flag.ContinueOnError)
	out := words.String("o", "dist", "the folder of the archives")
	only := words.String("target", "", "OS/ARCH,...; default: all")
	licenses := words.String("licenses", "", "writes only the licenses of all code in the binary, to this file")
	if err := words.Parse(args); errors.Is(err, flag.ErrHelp) {
		return nil
	} else if err != nil {
		return err
	}
	if words.NArg() > 1 {
		return fmt.Errorf("one VERSION, not %q", words.Args())
	}
	targets, err := parseTargets(*only)
	if err != nil {
		return err
	}
	module, err := output(ctx, "", nil, "go", "env", "GOMOD")
	if err != nil {
		return err
	}
	r := &release{root: filepath.Dir(strings.TrimSpace(module)), out: *out, version: words.Arg(0), targets: targets}
	if *licenses != "" {
		text, err := r.licenses(ctx)
		if err != nil {
			return err
		}
		return os.WriteFile(*licenses, text, 0o644)
	}
	return r.make(ctx)
}

// make builds and packs all targets, and writes their checksums.
func (r *release) make(ctx context.Context) error {
	if err := r.checkClean(ctx); err != nil {
		return err
	}
	if err := os.MkdirAll(r.out, 0o755); err != nil {
		return err
	}
	scratch, err := os.MkdirTemp("", "usher-release")
	if err != nil {
		return err
	}
	defer os.RemoveAll(scratch)
	shared, err := r.sharedFiles(ctx, scratch)
	if err != nil {
		return err
	}
	var sums []string
	for _, t := range r.targets {
		name, err := r.pack(ctx, t, scratch, shared)
		if err != nil {
			return fmt.Errorf("%s: %w", t, err)
		}
		packed, err := os.ReadFile(filepath.Join(r.out, name))
		if err != nil {
			return err
		}
		sums = append(sums, fmt.Sprintf("%x  %s\n", sha256.Sum256(packed), name))
		fmt.Print(sums[len(sums)-1])
	}
	slices.SortFunc(sums, func(a, b string) int { return strings.Compare(a[sha256.Size*2:], b[sha256.Size*2:]) })
	return os.WriteFile(filepath.Join(r.out, "SHA256SUMS"), []byte(strings.Join(sums, "")), 0o644)
}

// checkClean refuses to give a version to files that no commit has.
func (r *release) checkClean(ctx context.Context) error {
	if r.version == "" {
		return nil
	}
	changed, err := output(ctx, r.root, nil, "git", "status", "--porcelain")
	if err != nil {
		return err
	}
	if changed != "" {
		return fmt.Errorf("files differ from the commit: commit them, or leave out %s\n%s", r.version, changed)
	}
	return nil
}
