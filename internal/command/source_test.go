package command

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"

	"usher/internal/app"
)

// fakeSource is a command "fake" whose source ends at once, with its words as the error.
func fakeSource() Source {
	return Source{
		Name: "fake", Usage: "runs usher with services that are made up", Help: "It is for tests.\n",
		Flags: []SourceFlag{
			{Name: "from", Form: "FILE", Help: "where they stand"},
			{Name: "mode", Form: "fast|slow", Help: "how they come"},
			{Name: "print", Help: "prints a word", IsSwitch: true},
		},
		Open: func(words SourceWords, w io.Writer) (app.Source, error) {
			if words.Values["print"] == "true" {
				_, err := io.WriteString(w, "word\n")
				return nil, err
			}
			if words.Values["from"] == "" {
				return nil, errors.New("fake lacks --from FILE")
			}
			return endedSource{fmt.Errorf("from %s, options %v", words.Values["from"], words.Options)}, nil
		},
	}
}

type endedSource struct{ err error }

func (endedSource) Name() string                                        { return "fake" }
func (endedSource) Settings() ([]byte, error)                           { return nil, nil }
func (s endedSource) Run(context.Context, app.SourceHost, func()) error { return s.err }

func TestSourceCommand(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		line           string
		status         int
		stdout, stderr string // parts of it
	}{
		{"fake --from x --scheduler lc --control off", 1, "", "usher: from x, options [{scheduler lc}]\n"},
		{"fake", 2, "", "usher: fake lacks --from FILE\n"},
		{"fake --print", 0, "word\n", ""},
		{"fake --fron x", 2, "", "unknown flag --fron (did you mean --from?"},
		{"fake --listen 80", 2, "", "usher fake has no flag --listen"},
		{"fake 8080=9001", 2, "", `fake takes no words, not "8080=9001"`},
		{"fake --from x --scheduler lx", 2, "", `--scheduler lx: unknown scheduler "lx"`},
		{"fake --from x --scheduler web=lc", 2, "", "web= names a service, and these are known later"},
		{"fake --from x --workers none", 2, "", "--workers"},
		{"fak", 2, "", "did you mean usher fake?"},
		{"help fake", 0, "usher fake: runs usher with services that are made up\n\nUsage\n  usher fake [flags]\n\nIt is for tests.\n\nFlags\n  --from FILE ", ""},
		{"--help", 0, "serve   demo   fake\n", ""},
		{"__complete fake --m", 0, "--mode\thow they come\n", ""},
		{"__complete fake --mode s", 0, "slow\t\n", ""},
		{"__complete fake --from ", 0, filesWanted + "\n", ""},
	} {
		var stdout, stderr bytes.Buffer
		words := strings.Split(test.line, " ")
		status := Main(t.Context(), append([]string{"usher"}, words...), &stdout, &stderr, fakeSource())
		if status != test.status || !strings.Contains(stdout.String(), test.stdout) || !strings.Contains(stderr.String(), test.stderr) ||
			test.stderr == "" && stderr.Len() > 0 {
			t.Errorf("usher %s: status %d, stdout %q, stderr %q", test.line, status, &stdout, &stderr)
		}
	}
}
