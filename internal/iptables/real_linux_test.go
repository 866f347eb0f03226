package iptables

import (
	"bytes"
	"errors"
	"os"
	"os/exec"
	"regexp"
	"strings"
	"syscall"
	"testing"
)

// realVersion is the one whose words the files of testdata have; others differ a little.
const realVersion = "iptables v1.8.9 (nf_tables)"

// namespace runs the real iptables in a network namespace of its own, in one shell. Its script reads lines and answers
// each; the caller owns the process.
func namespace(t *testing.T, script string) *exec.Cmd {
	t.Helper()
	version, err := exec.Command("iptables", "--version").Output()
	if err != nil || !strings.HasPrefix(string(version), realVersion) {
		t.Skipf("this is compared with %s, not %q, %v", realVersion, version, err)
	}
	cmd := exec.Command("sh", "-c", script)
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET, Pdeathsig: syscall.SIGKILL}
	if id := os.Getuid(); id != 0 {
		cmd.SysProcAttr.Cloneflags |= syscall.CLONE_NEWUSER
		cmd.SysProcAttr.UidMappings = []syscall.SysProcIDMap{{HostID: id, Size: 1}}
		cmd.SysProcAttr.GidMappings = []syscall.SysProcIDMap{{HostID: os.Getgid(), Size: 1}}
	}
	return cmd
}

// askReal gives each line to the real iptables, whose INPUT is empty and whose only user chain is web. An answer is its
// exit status and what it says, or the rules.
func askReal(t *testing.T, lines []string) []string {
	t.Helper()
	const script = `
iptables -w -L -n >/dev/null || exit 99
iptables -N web
while IFS= read -r line; do
	iptables -F INPUT
	if said=$(eval "iptables $line" 2>&1); then
		iptables -S INPUT | grep ^-A
		iptables -L INPUT -n -v --line-numbers | tail -n +3
	else
		echo "status $?"
		printf '%s\n' "$said"
	fi
	echo =====
done`
	cmd := namespace(t, script)
	cmd.Stdin = strings.NewReader(strings.Join(lines, "\n") + "\n")
	var out, said bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &said
	if err := cmd.Run(); err != nil {
		if e, ok := errors.AsType[*exec.ExitError](err); !ok || e.ExitCode() == 99 {
			t.Skipf("no iptables in a network namespace: %v %s", err, said.String())
		}
		t.Fatalf("%v: %s", err, said.String())
	}
	answers := strings.Split(strings.TrimSuffix(out.String(), "=====\n"), "=====\n")
	if len(answers) != len(lines) {
		t.Fatalf("%d answers to %d lines: %s", len(answers), len(lines), said.String())
	}
	return answers
}

// listedProtocol is the protocol in a listing of iptables 1.8.9, where other versions have its name.
var listedProtocol = regexp.MustCompile(`(?m)^(\d+ +\S+ +\S+ .{9,}? [ !])(0 |6 |17)  ( *-- )`)

func withProtocolNames(listing string) string {
	names := map[string]string{"0 ": "all", "6 ": "tcp", "17": "udp"}
	return listedProtocol.ReplaceAllStringFunc(listing, func(row string) string {
		parts := listedProtocol.FindStringSubmatch(row)
		return parts[1] + names[parts[2]] + " " + parts[3]
	})
}

// TestRealIptables: the real program writes the same rules, and refuses the same lines with the same words.
func TestRealIptables(t *testing.T) {
	t.Parallel()
	accepted, refused := examples(t, "accepted.txt"), examples(t, "refused.txt")
	var lines []string
	for _, e := range append(accepted, refused...) {
		lines = append(lines, e.line)
	}
	answers := askReal(t, lines)
	for i, e := range accepted {
		if got := strings.TrimSuffix(withProtocolNames(answers[i]), "\n"); got != e.want {
			t.Errorf("%s:\niptables\n%s\nusher\n%s", e.line, got, e.want)
		}
	}
	for i, e := range refused {
		answer := answers[len(accepted)+i]
		_, err := Build([]string{"-N web", e.line})
		if message, status := realError(answer); !strings.HasPrefix(message, err.(*Error).Message) || status != err.(*Error).Status {
			t.Errorf("%s:\niptables %d: %s\nusher    %d: %v", e.line, status, message, err.(*Error).Status, err)
		}
	}
}

var (
	programName = regexp.MustCompile(`^(iptables v\S+ \([a-z_]+\): |iptables: )`)
	realStatus  = regexp.MustCompile(`^status (\d+)\n`)
)

// realError takes the message and the status from an answer.
func realError(answer string) (message string, status int) {
	found := realStatus.FindStringSubmatch(answer)
	if found == nil {
		return answer, 0
	}
	message = programName.ReplaceAllString(answer[len(found[0]):], "")
	for _, digit := range found[1] {
		status = 10*status + int(digit-'0')
	}
	return strings.TrimSpace(message), status
}
