package kube

import (
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"go.uber.org/zap"

	"usher/internal/app"
	"usher/internal/command"
	"usher/internal/kube/folder"
)

// The command lines of the README and of the help are valid.
func TestExamples(t *testing.T) {
	t.Parallel()
	c := Command()
	c.Open = func(words command.SourceWords, w io.Writer) (app.Source, error) {
		s, err := open(words, w)
		if s != nil {
			s = valid{}
		}
		return s, err
	}
	for name, text := range map[string]string{"README": readText(t), "help": strings.ReplaceAll(help, "\\\n", "")} {
		lines := regexp.MustCompile("(?m)^ *usher (kube .*)|`usher (kube [^`]*-[^`]*)`").FindAllStringSubmatch(text, -1)
		if len(lines) < 3 {
			t.Errorf("%s: %d examples, want those of a folder, of a kubeconfig and of manifests", name, len(lines))
		}
		for _, line := range lines {
			example, _, _ := strings.Cut(line[1]+line[2], "#")
			example, _, isPiped := strings.Cut(example, "|")
			words := append(strings.Fields(example), "--control", "off")
			if !isPiped && !strings.Contains(example, "manifests") && !strings.Contains(example, "kubeconfig") {
				words = append(words, "--manifests", "FOLDER")
			}
			var stdout, stderr bytes.Buffer
			status := command.Main(t.Context(), append([]string{"usher"}, words...), &stdout, &stderr, c)
			isRun := status == 1 && strings.HasSuffix(stderr.String(), valid{}.Name()+"\n")
			isPrinted := status == 0 && strings.Contains(stdout.String(), "kind: DaemonSet")
			if isRun == isPrinted {
				t.Errorf("%s: usher %s: status %d, %s", name, words, status, &stderr)
			}
		}
	}
}

// valid is the source of words that are valid. It ends at once.
type valid struct{}

func (valid) Name() string                                      { return "valid" }
func (valid) Settings() ([]byte, error)                         { return nil, nil }
func (valid) Run(context.Context, app.SourceHost, func()) error { return errors.New(valid{}.Name()) }

// The manifest of the help is served, with its options.
func TestManifestOfHelp(t *testing.T) {
	t.Parallel()
	text, ip, at := between(help, "reaches port 9001:\n\n", "\n\n"), anyClusterIP(), backend(t, "tcp", "a")
	text = strings.ReplaceAll(text, "\n  ", "\n")
	text = strings.Replace(strings.TrimPrefix(text, "  "), "10.96.0.10", ip, 1)
	text = strings.Replace(text, "9001", strconv.Itoa(int(at.Port())), 1)
	w, dir := newWorld(t), t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "web.yaml"), []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	from, err := folder.Open(dir, zap.NewNop())
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	if err := from.Run(ctx, w.store, cancel); err != nil && !errors.Is(err, context.Canceled) {
		t.Fatal(err)
	}
	w.start(t)
	services := w.book.services()
	if len(services) != 1 || len(services[0].Listeners) != 1 || services[0].Name != "default/web" || services[0].Scheduler.String() != "lc" || services[0].Wait == 0 {
		t.Fatalf("services %+v", services)
	}
	await(t, "tcp", services[0].Listeners[0].String(), is("a"))
}

// readText returns the README.
func readText(t *testing.T) string {
	t.Helper()
	b, err := os.ReadFile("../../README.md")
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// between returns the text between two marks.
func between(text, before, behind string) string {
	_, text, _ = strings.Cut(text, before)
	text, _, _ = strings.Cut(text, behind)
	return text
}
