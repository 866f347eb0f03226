// Package migrate reads what other balancers are configured with, and makes a usher.yaml of it.
//
//	text ─ Detect ─▶ Kind ─ Import ─▶ Result ─ YAML ─▶ usher.yaml with a comment for each line that is not in it
//
//	haproxy, nginx   a reader of statements, then services of them
//	ipvsadm          package ipvsadm reads the lines
//	iptables         package iptables reads the tables, iptables/nat makes services of them
//
// Each statement of a text ends as done or with a note: a ledger keeps count, and what no reader has touched gets its
// note from it. So no line is lost in silence. Nothing here opens a file or looks up a name.
package migrate

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"unicode/utf8"

	"usher/internal/config"
)

// Kind is the language of a text.
type Kind string

const (
	HAProxy  Kind = "haproxy"
	Nginx    Kind = "nginx"
	IPVSAdm  Kind = "ipvsadm"
	IPTables Kind = "iptables"
)

// Kinds returns all of them, in the order of the help.
func Kinds() []Kind { return []Kind{IPVSAdm, IPTables, HAProxy, Nginx} }

// IsKnown reports whether there is such a kind.
func (k Kind) IsKnown() bool { return slices.Contains(Kinds(), k) }

// MaxText bounds a text, in bytes.
const MaxText = 64 << 20

// Result is a plan, and what the text says beyond it.
type Result struct {
	Kind  Kind
	Plan  *config.Config
	Notes []Note // in the order of their lines
	lines int    // of the text that say something
}

// Note says of a statement of the text that the plan lacks it, or has it in another way.
type Note struct {
	Line    int    // of its beginning, from 1
	Text    string // as it stands there
	Reason  string
	Lost    bool   // the plan lacks it
	Service string // that it is about; empty: the whole
}

// Lost is the number of lines of which the plan lacks something.
func (r *Result) Lost() int { return r.noted(true) }

// noted counts lines with notes of a kind: one may have several.
func (r *Result) noted(lost bool) (lines int) {
	last := 0
	for i := range r.Notes {
		if n := &r.Notes[i]; n.Lost == lost && n.Line != last {
			lines++
			last = n.Line
		}
	}
	return lines
}

// Import reads a text of a kind. An error means that it is no such text at all.
func Import(kind Kind, text string) (*Result, error) {
	switch {
	case len(text) > MaxText:
		return nil, fmt.Errorf("the file is larger than %d MiB", MaxText>>20)
	case !utf8.ValidString(text) || strings.IndexByte(text, 0) >= 0:
		return nil, errors.New("the file is not UTF-8 text")
	}
	read, ok := readers()[kind]
	if !ok {
		return nil, fmt.Errorf("unknown kind %q%s", kind, config.OrHave(string(kind), KindNames()))
	}
	b := newBuilder()
	if err := read(b, strings.ReplaceAll(text, "\r\n", "\n")); err != nil {
		return nil, err
	}
	return b.result(kind)
}

// readers are the functions that read a text into a builder, by its kind.
func readers() map[Kind]func(*builder, string) error {
	return map[Kind]func(*builder, string) error{
		HAProxy: readHAProxy, Nginx: readNginx, IPVSAdm: readIPVSAdm, IPTables: readIPTables,
	}
}

// KindNames returns the names of all kinds.
func KindNames() (all []string) {
	for _, k := range Kinds() {
		all = append(all, string(k))
	}
	return all
}

// Detect finds the kind of a text from the words that its lines begin with.
func Detect(text string) (Kind, error) {
	votes := make(map[Kind]int)
	for line := range strings.Lines(text) {
		line = strings.TrimSpace(line)
		if line == "" || line[0] == '#' && !strings.HasPrefix(line, fileMark) {
			continue
		}
		votes[kindOf(line, strings.Fields(line))]++
	}
	delete(votes, "")
	best := Kind("")
	for _, k := range Kinds() {
		if votes[k] > votes[best] {
			best = k
		}
	}
	if best == "" {
		return "", errors.New("the text is of no kind that is known: --from says which it is (" + strings.Join(KindNames(), ", ") + ")")
	}
	return best, nil
}

// kindOf returns the kind that a line is typical of, or "".
func kindOf(line string, words []string) Kind {
	first, second := words[0], ""
	if len(words) > 1 {
		second = words[1]
	}
	switch {
	case isHAProxySection(first) && !strings.ContainsAny(line, "{};"):
		return HAProxy
	case strings.HasSuffix(line, ";"), strings.HasSuffix(line, "{"), line == "}", strings.HasSuffix(line, "}") && strings.Contains(line, ";"),
		strings.HasPrefix(line, fileMark):
		return Nginx
	case line[0] == '*' && len(words) == 1, line == "COMMIT", line[0] == ':' && len(words) == 3:
		return IPTables
	case (first == "-A" || first == "-a") && isIPVSKey(second), first == "--set":
		return IPVSAdm
	case first == "-A" && second != "":
		return IPTables
	}
	return ""
}

// isIPVSKey reports whether a word says that the address of a virtual service follows.
func isIPVSKey(word string) bool {
	switch word {
	case "-t", "-u", "-f", "--tcp-service", "--udp-service", "--fwmark-service":
		return true
	}
	return false
}
