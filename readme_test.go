package main

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// readmeBlock is what is known of a block of code of the README.
type readmeBlock struct {
	notRun  string                          // why nothing holds the block but a person
	check   func(t *testing.T, text string) // holds the block without running it
	stage   func(*readmeStage)              // makes what the commands find; see readme_linux_test.go
	rewrite *strings.Replacer               // what cannot be typed in a test as it is in the README
	want    map[string]string               // the output of a command by its first words; it is run until it prints that
	endless string                          // the first words of a command that goes on until Ctrl-C
}

// otherTerminal divides a block: what stands before it ends with the usher that the rest asks.
const otherTerminal = "# in another terminal\n"

// readmeBlocks has every block of the README, by its first line.
func readmeBlocks() map[string]readmeBlock {
	return map[string]readmeBlock{
		"go run . demo": {notRun: "go test runs this test, and testdata/script/demo.txtar the demo"},
		"backend-1  127.0.0.1:45273  down   0 active   0/s  103 total": {check: checkScreen},
		"usher 8080=9001,9002": {
			stage: func(s *readmeStage) { s.serveHTTP("127.0.0.1:9001", "127.0.0.1:9002") },
			want:  map[string]string{"curl": `backend 127\.0\.0\.1:900[12]`, "usher ls": `127\.0\.0\.1:9001 .* up `},
		},
		"usher 6432=127.0.0.1:5432 --wait 30s \\": {
			stage: func(s *readmeStage) { s.servePostgres("127.0.0.1:5432") },
			want:  map[string]string{"usher ls": `127\.0\.0\.1:5432 .* up `},
		},
		"usher udp:5353=1.1.1.1:53,8.8.8.8:53 --udp-replies 1": {
			stage: func(s *readmeStage) { s.serveDNS("1.1.1.1", "8.8.8.8") },
			want:  map[string]string{"dig": `example\.com\.\s+60\s+IN\s+A\s+192\.0\.2\.1`},
		},
		"usher -l 'web=:8443,sni=www.example.com' -b web=10.0.0.1:443 \\": {
			stage: func(s *readmeStage) {
				s.serveTLS("10.0.0.1:443", "www.example.com")
				s.serveTLS("10.0.0.2:443", "*.api.example.com")
			},
			want: map[string]string{
				"curl --connect-to ::127.0.0.1:8443 https://www": `backend 10\.0\.0\.1:443`,
				"curl --connect-to ::127.0.0.1:8443 https://v2":  `backend 10\.0\.0\.2:443`,
			},
		},
		"usher kube --kubeconfig ~/.kube/config --dns 127.0.0.1:5300": {
			stage: func(s *readmeStage) { s.serveCluster() },
			want:  map[string]string{"usher ls": `default/web:http .* up `, "dig": `web\.default\.svc\.cluster\.local\.\s.*\s127\.96\.0\.10`},
		},
		"drain-timeout: 10s                # options have the names of their flags":                               {check: checkConfig},
		"go install .                                                    # from a clone, to $(go env GOPATH)/bin": {check: checkInstall},
		"sudo setcap cap_net_bind_service=+ep /usr/local/bin/usher       # for this binary": {
			notRun: "changes what the machine allows, which no test may",
		},
		"usher doctor                                # what this machine gives, and the line that changes it": {
			stage:   func(s *readmeStage) { s.serveHTTP("10.0.0.1:80", "10.0.0.2:80"); s.writeConfig() },
			want:    map[string]string{"usher ls": `10\.0\.0\.1:80 .* up `, "usher flows": `CLIENT`},
			endless: "usher events",
		},
		"usher serve --name lab                      # without a service at first": {
			stage: func(s *readmeStage) { s.serveHTTP("127.0.0.1:9001") },
		},
		"docker build -t usher .": {notRun: "there is no engine here; internal/deploy/container runs what the Dockerfile says"},
		"usher import /etc/haproxy/haproxy.cfg > usher.yaml": {
			stage:   func(s *readmeStage) { s.copyFile("internal/migrate/testdata/haproxy/postgres.cfg", "haproxy.cfg") },
			rewrite: strings.NewReplacer("/etc/haproxy/", ""),
		},
	}
}

// Each block is run as it is typed, checked, or known not to be run. Lines that start usher are valid wherever the test
// runs.
func TestReadmeBlocks(t *testing.T) {
	t.Parallel()
	blocks, known := readmeCode(t), readmeBlocks()
	for first := range known {
		if !slices.ContainsFunc(blocks, func(text string) bool { return firstLine(text) == first }) {
			t.Errorf("README.md has no such block any more: %s", first)
		}
	}
	for _, text := range blocks {
		block, isKnown := known[firstLine(text)]
		switch {
		case !isKnown:
			t.Errorf("nothing holds this block of README.md: give it a row of readmeBlocks\n%s", text)
		case block.check != nil:
			block.check(t, text)
		case block.stage != nil:
			checkStart(t, text)
		case block.notRun == "":
			t.Errorf("the row of readmeBlocks says nothing: %s", firstLine(text))
		}
	}
}

// readmeCode returns the blocks of code.
func readmeCode(t *testing.T) []string {
	t.Helper()
	var blocks []string
	for _, m := range regexp.MustCompile("(?ms)^ *```[a-z]+\n(.*?)^ *```$").FindAllStringSubmatch(readFile(t, "README.md"), -1) {
		blocks = append(blocks, m[1])
	}
	return blocks
}

func firstLine(text string) string {
	line, _, _ := strings.Cut(text, "\n")
	return strings.TrimSpace(line)
}

func readFile(t *testing.T, path string) string {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// checkStart gives the words of lines that run services to usher check.
func checkStart(t *testing.T, text string) {
	t.Helper()
	for line := range strings.Lines(strings.ReplaceAll(text, "\\\n", "")) {
		if words, isStart := strings.CutPrefix(line, "usher "); isStart && regexp.MustCompile(`^[^ ]*=|^-l`).MatchString(words) {
			if out, err := exec.Command("sh", "-c", "usher check "+words).CombinedOutput(); err != nil {
				t.Errorf("usher check %s: %v\n%s", words, err, out)
			}
		}
	}
}

// checkConfig gives a block to usher check as a file.
func checkConfig(t *testing.T, text string) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "usher.yaml")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command("usher", "check", "-c", path).CombinedOutput(); err != nil {
		t.Errorf("%v\n%s", err, out)
	}
}

// checkScreen compares the words of the demo's screen with those that package demo draws.
func checkScreen(t *testing.T, text string) {
	t.Helper()
	source := readFile(t, "internal/demo/watch.go") + readFile(t, "internal/demo/input.go") + readFile(t, "internal/demo/render.go")
	for _, words := range []string{
		" requests, failed clients: ", ", asked again: ", " connections kept, the oldest ", ", opened again: ",
		"1 2 3 kill or bring back   r reload   u upgrade   q quit",
	} {
		if !strings.Contains(text, words) || !strings.Contains(source, words) {
			t.Errorf("README.md or the demo lacks %q", words)
		}
	}
}

// checkInstall runs the first line, and compares the second with what .ci/run builds, as it takes minutes.
func checkInstall(t *testing.T, text string) {
	t.Helper()
	install, build, _ := strings.Cut(text, "\n")
	cmd := exec.Command("sh", "-c", install)
	cmd.Env = append(os.Environ(), "GOBIN="+t.TempDir())
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Errorf("%s: %v\n%s", install, err, out)
	}
	build, _, _ = strings.Cut(build, " -o ")
	if runs := readFile(t, ".ci/run"); !strings.Contains(runs, build+" -o ") || !strings.Contains(runs, "28000000") {
		t.Errorf(".ci/run does not build as README says, or bounds another size: %s", build)
	}
}

// The README is for five minutes.
func TestReadmeIsShort(t *testing.T) {
	t.Parallel()
	if n := strings.Count(readFile(t, "README.md"), "\n"); n > 300 {
		t.Errorf("README.md has %d lines, more than 300: the reference is usher help", n)
	}
}

// Figures and rows are those of the results.
func TestReadmeFigures(t *testing.T) {
	t.Parallel()
	text := strings.Join(strings.Fields(readFile(t, "README.md")), " ")
	tcp := func(row, column string) string { return cell(t, "tcp.md", row, column) }
	udp := func(row, column string) string { return cell(t, "udp.md", row, column) }
	if p, err := strconv.ParseFloat(tcp("crr", "p"), 64); err != nil || p < 0.05 {
		t.Errorf("the costs of a connection differ (p %v, %v), README.md says they do not", p, err)
	}
	for _, want := range []string{
		fmt.Sprintf("A connection costs %s µs of CPU time (HAProxy %s, nginx %s; that is no real difference), a Gbit down %s ms (%s and %s),",
			tcp("crr", "usher"), tcp("crr", "haproxy"), tcp("crr", "nginx"),
			tcp("bulk-down", "usher"), tcp("bulk-down", "haproxy"), tcp("bulk-down", "nginx")),
		fmt.Sprintf("a datagram and its reply %s µs (nginx %s),", udp("udp-128", "usher"), udp("udp-128", "nginx")),
		fmt.Sprintf("an idle connection %s KiB of memory (%s and %s).", tcp("idle", "usher"), tcp("idle", "haproxy"), tcp("idle", "nginx")),
		"past 10,000 rules costs " + withoutSpread(cell(t, "rules.md", "usher", "10,000", "times none")) + " times as much",
		"An upgrade with 9,500 connections pauses them for " + withoutSpread(cell(t, "upgrade.md", "9,500", "pause ms")) + " ms.",
	} {
		if !strings.Contains(text, want) {
			t.Errorf("README.md lacks %q, which bench/results say", want)
		}
	}
	for _, row := range regexp.MustCompile(`(?m)^\| (\S.*?) \| (yes|\d+ of \d+) .*$`).FindAllStringSubmatch(strings.ReplaceAll(readFile(t, "README.md"), "**passed**", "passed"), -1) {
		for i, of := range []string{"usher epoll", "usher portable", "HAProxy", "nginx"} {
			want := regexp.MustCompile(` \[\d+\]$`).ReplaceAllString(cell(t, "conformance.md", row[1], of), "")
			if got := strings.TrimSpace(strings.Split(row[0], "|")[i+2]); got != want {
				t.Errorf("%s: %s, and the results say %s", row[0], got, want)
			}
		}
	}
}

// cell returns a cell of a table of bench/results: of the first row that begins with row, below the heading that begins
// with column. With a first heading, it is of the table that begins with that.
func cell(t *testing.T, file, row, column string, first ...string) string {
	t.Helper()
	var headings []string
	for line := range strings.Lines(readFile(t, filepath.Join("bench/results", file))) {
		cells := strings.Split(strings.Trim(strings.TrimSpace(line), "|"), "|")
		for i := range cells {
			cells[i] = strings.TrimSpace(cells[i])
		}
		if !strings.HasPrefix(line, "|") {
			headings = nil
		} else if headings == nil {
			headings = cells
		} else if i := slices.IndexFunc(headings, func(h string) bool { return strings.HasPrefix(h, column) }); cells[0] == row && i > 0 &&
			(len(first) == 0 || headings[0] == first[0]) {
			return cells[i]
		}
	}
	t.Fatalf("%s has no %q of %q", file, column, row)
	return ""
}

// withoutSpread cuts what stands behind a median.
func withoutSpread(cell string) string {
	median, _, _ := strings.Cut(cell, " ")
	return median
}

// Links lead to files and headings that exist.
func TestReadmeLinks(t *testing.T) {
	t.Parallel()
	for _, m := range regexp.MustCompile(`\]\(([^)]+)\)`).FindAllStringSubmatch(readFile(t, "README.md"), -1) {
		path, heading, _ := strings.Cut(m[1], "#")
		if strings.Contains(path, "://") {
			continue
		}
		if path == "" {
			path = "README.md"
		}
		if _, err := os.Stat(path); err != nil {
			t.Errorf("%s: %v", m[1], err)
		} else if heading != "" && !slices.Contains(anchors(readFile(t, path)), heading) {
			t.Errorf("%s has no heading %s", path, heading)
		}
	}
}

// anchors are the names by which links lead to headings.
func anchors(markdown string) []string {
	var all []string
	for _, m := range regexp.MustCompile(`(?m)^#+ (.*)$`).FindAllStringSubmatch(markdown, -1) {
		all = append(all, strings.ReplaceAll(strings.ToLower(m[1]), " ", "-"))
	}
	return all
}

// What the README says of platforms is what .ci/run builds.
func TestReadmePlatforms(t *testing.T) {
	t.Parallel()
	targets := regexp.MustCompile(`for target in (.*); do`).FindStringSubmatch(readFile(t, ".ci/run"))
	if targets == nil {
		t.Fatal(".ci/run builds for no other system")
	}
	names := map[string]string{"linux": "Linux", "darwin": "macOS", "windows": "Windows", "freebsd": "FreeBSD"}
	for _, target := range strings.Fields(targets[1]) {
		system, processor, _ := strings.Cut(target, "/")
		if want := names[system] + " " + processor; !strings.Contains(readFile(t, "README.md"), want) {
			t.Errorf("README.md lacks %s, which .ci/run builds for", want)
		}
	}
	if runtime.GOOS == "linux" && !strings.Contains(readFile(t, "go.mod"), "go 1.26") {
		t.Error("README.md wants Go 1.26, go.mod another one")
	}
}
