package command

import (
	"io"
	"os/exec"
	"strings"
	"testing"

	"github.com/urfave/cli/v2"

	"usher/internal/version"
)

// The manual page has all commands, flags and topics. mandoc has nothing to say about it.
func TestManual(t *testing.T) {
	t.Parallel()
	root := newRoot(io.Discard, io.Discard)
	page := manual(root, "v1.2.3", manDate(version.Info{Time: "2026-11-30T10:04:57Z"}))
	plain := strings.NewReplacer(`\-`, "-", `\(aq`, "'", `\(dq`, `"`).Replace(page)
	wants := []string{`.TH USHER 1 2026-11-30 "usher v1.2.3" "User Commands"`}
	for _, c := range root.Subcommands {
		wants = append(wants, strings.TrimSpace("usher "+c.Name+" "+c.ArgsUsage)+`"`)
	}
	for _, f := range allFlagsOf(root) {
		wants = append(wants, "--"+f.Names()[0])
	}
	for _, want := range wants {
		if !strings.Contains(plain, want) {
			t.Errorf("the page lacks %q", want)
		}
	}
	for _, topic := range manTopics() {
		if topics()[topic] == "" {
			t.Errorf("there is no topic %s", topic)
		}
	}
	mandoc, err := exec.LookPath("mandoc")
	if err != nil {
		t.Skip("there is no mandoc")
	}
	cmd := exec.Command(mandoc, "-Tlint")
	cmd.Stdin = strings.NewReader(page)
	if out, err := cmd.CombinedOutput(); err != nil || len(out) > 0 {
		t.Errorf("mandoc: %v\n%s", err, out)
	}
}

// A flag with the same meaning in several commands stands once, before them.
func TestSharedFlags(t *testing.T) {
	t.Parallel()
	flag := func(usage string) cli.Flag { return &cli.StringFlag{Name: "rate", Usage: usage} }
	root := &cli.Command{Subcommands: []*cli.Command{
		{Flags: []cli.Flag{flag("N\tflows a second")}},
		{Flags: []cli.Flag{flag("N\tbytes a second")}},
		{Flags: []cli.Flag{flag("N\tflows a second")}},
	}}
	shared := sharedFlags(root)
	if len(shared) != 1 || !isShared(shared, flag("N\tflows a second")) || isShared(shared, flag("N\tbytes a second")) {
		t.Errorf("shared: %v", shared)
	}
}
