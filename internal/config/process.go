package config

import (
	"errors"
	"fmt"
	"strings"
	"time"
)

// Process holds what is set once for all services.
type Process struct {
	DrainTimeout time.Duration // 0: cut what is left at once; see Drain
	MaxConns     int           // 0: derived from the descriptor limit
	MaxDropped   int           // clients that rules drop and that are held at once
	DropTimeout  time.Duration // how long each of them is held
	Workers      int           // 0: derived from the CPUs
	Engine       string        // auto, epoll or portable
	LogFormat    string        // console, json, or "": console on a terminal, JSON otherwise
	LogLevel     string        // debug, info, warn or error
	AccessLog    bool

	Name           string // of this instance; empty: that of its first service
	Control        string // the path of the control socket, or ControlOff; empty: the usual place
	Admin          Addr   // where metrics and the read side of the API are served; zero: nowhere
	AdminTokenFile string // has the token that writes at Admin need; empty: nobody may write there
	Proc           string // the folder for files as below /proc; empty: none
	WatchConfig    bool   // reloads the config file when it changes
}

// ControlOff is the value of Process.Control without a control socket.
const ControlOff = "off"

// DefaultProcess is a process with every option at its default.
func DefaultProcess() Process {
	return Process{DrainTimeout: drainDefault, MaxDropped: 1000, DropTimeout: 30 * time.Second, Engine: "auto", LogLevel: "info"}
}

// drainDefault stands for a drain timeout that is not set.
const drainDefault = -1

// Drain is how long flows may go on after a signal: shorter at a terminal, where a person waits.
func (p *Process) Drain(terminal bool) time.Duration {
	switch {
	case p.DrainTimeout != drainDefault:
		return p.DrainTimeout
	case terminal:
		return 5 * time.Second
	}
	return 30 * time.Second
}

// Diff returns the options in which two processes differ, in the order of the help.
func (p *Process) Diff(other *Process) []Field { return diff(processOptions, p, other) }

// Text returns the value of an option as its parser reads it; empty: there is no such option.
func (p *Process) Text(name Field) string { return text(processOptions, name, p) }

// Check finds errors that no single option of the process shows. The error is an *Error.
func (p *Process) Check() error {
	switch {
	case p.AccessLog && (p.LogLevel == "warn" || p.LogLevel == "error"):
		return &Error{Field: "access-log", format: "%s writes nothing with %s %s: its lines are of level info",
			args: []any{Field("access-log"), Field("log-level"), p.LogLevel}}
	case p.AdminTokenFile != "" && p.Admin == Addr{}:
		return &Error{Field: "admin-token-file", format: "%s has no effect without %s, whose writes it is for",
			args: []any{Field("admin-token-file"), Field("admin")}}
	}
	return nil
}

const (
	// NameLetters are the characters of a name. A letter or digit is the first.
	NameLetters = nameLetters + "."
	// MaxName bounds the name of an instance.
	MaxName = 128
	// maxServiceName bounds the name of a service.
	maxServiceName = 253
)

// CheckName refuses what cannot be the name of an instance, which is that of a file, nor of a service before the = of a
// flag, where / and : are of an address.
func CheckName(name string) error {
	switch {
	case name == "":
		return errors.New("a name is empty")
	case len(name) > MaxName:
		return fmt.Errorf("a name has at most %d letters, not %d", MaxName, len(name))
	case !isName(name):
		return fmt.Errorf("%q is not a name: %s", name, nameRule)
	}
	return nil
}

const nameRule = "letters, digits, dots, underscores and dashes, a letter or digit first"

// CheckServiceName refuses what cannot be the name of a service: names with / or : between them, as in
// NAMESPACE/NAME:PORT.
func CheckServiceName(name string) error {
	switch {
	case name == "":
		return errors.New("a name is empty")
	case len(name) > maxServiceName:
		return fmt.Errorf("the name of a service has at most %d letters, not %d", maxServiceName, len(name))
	}
	for part := range strings.SplitSeq(strings.ReplaceAll(name, ":", "/"), "/") {
		if !isName(part) {
			if part != name {
				return fmt.Errorf("%q is not a name: %s, and / or : between two such", name, nameRule)
			}
			return fmt.Errorf("%q is not a name: %s", name, nameRule)
		}
	}
	return nil
}

// isName reports whether a word is letters of names with a letter or digit first.
func isName(word string) bool {
	return word != "" && strings.Trim(word, NameLetters) == "" && strings.IndexByte("-_.", word[0]) < 0
}

func parseName(word string) (string, error) { return word, CheckName(word) }

// parsePath reads the path of a file. The kernel decides what else it may be.
func parsePath(word string) (string, error) {
	switch {
	case word == "":
		return "", errors.New("the path is empty")
	case strings.ContainsFunc(word, func(r rune) bool { return r < ' ' }):
		return "", fmt.Errorf("the path %q holds a control character", word)
	}
	return word, nil
}

// parseAdmin reads a TCP address with one port; off and no word mean none.
func parseAdmin(word string) (Addr, error) {
	if word == "off" {
		return Addr{}, nil
	}
	a, err := ParseListener(word)
	switch {
	case err != nil:
		return Addr{}, errors.Unwrap(err)
	case a.Network != TCP || a.Ports > 1 || a.clientOptions() != "":
		return Addr{}, fmt.Errorf("%q is not one TCP address, such as 9090 (of 127.0.0.1) or 10.0.0.1:9090", word)
	}
	return a, nil
}

func formatAdmin(a Addr) string {
	if a == (Addr{}) {
		return "off"
	}
	return a.String()
}
