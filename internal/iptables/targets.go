package iptables

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"usher/proxy/rules"
)

// newTarget returns a target of targetNames, which sets it in a rule.
func newTarget(name string, r *rules.Rule) *extension {
	x := &extension{}
	switch name {
	case "ACCEPT":
		r.Target = rules.Accept
	case "DROP":
		r.Target = rules.Drop
	case "RETURN":
		r.Target = rules.Return
	case "REJECT":
		r.Target = rules.Reject
		x.flags = []flag{{names: []string{"--reject-with"}, set: func(v string, _ bool) *Error { return parseRejectWith(r, v) }}}
		x.check = checkReject
	case "LOG":
		r.Target, r.LogLevel = rules.Log, defaultLevel
		x.flags = []flag{
			{names: []string{"--log-prefix"}, set: func(v string, _ bool) *Error { return parseLogPrefix(r, v) }},
			{names: []string{"--log-level"}, set: func(v string, _ bool) *Error { return parseLogLevel(r, v) }},
		}
	}
	return x
}

// rejectDefault is what a rule without --reject-with says.
const (
	rejectDefault = "icmp-port-unreachable"
	rejectReset   = "tcp-reset"
)

// rejectWords are the values of --reject-with, each with its short form.
var rejectWords = [][2]string{
	{"icmp-net-unreachable", "net-unreach"},
	{"icmp-host-unreachable", "host-unreach"},
	{"icmp-proto-unreachable", "proto-unreach"},
	{rejectDefault, "port-unreach"},
	{"icmp-net-prohibited", "net-prohib"},
	{"icmp-host-prohibited", "host-prohib"},
	{"icmp-admin-prohibited", "admin-prohib"},
	{rejectReset, "tcp-rst"},
	{"icmp6-no-route", "no-route"},
	{"icmp6-adm-prohibited", "adm-prohibited"},
	{"icmp6-addr-unreachable", "addr-unreach"},
	{"icmp6-port-unreachable", ""},
	{"icmp6-policy-fail", "policy-fail"},
	{"icmp6-reject-route", "reject-route"},
}

// parseRejectWith reads how a client is refused: a TCP client is reset, and a datagram ignored, whatever the word says.
func parseRejectWith(r *rules.Rule, text string) *Error {
	i := slices.IndexFunc(rejectWords, func(w [2]string) bool { return text == w[0] || text != "" && text == w[1] })
	if i < 0 {
		return errorf("unknown reject type \"%s\"", text).adviseOneOf(text, rejectNames())
	}
	if r.RejectWith = rejectWords[i][0]; r.RejectWith == rejectDefault {
		r.RejectWith = ""
	}
	return nil
}

func rejectNames() []string {
	names := make([]string, len(rejectWords))
	for i, w := range rejectWords {
		names[i] = w[0]
	}
	return names
}

func checkReject(r *rules.Rule) *Error {
	if r.RejectWith == rejectReset && (r.Protocol != rules.TCP || r.NotProtocol) {
		return errorf("REJECT: %s is for -p tcp", rejectReset).advise("without --reject-with a TCP client is reset, too").withStatus(statusRefused)
	}
	return nil
}

const (
	// maxLogPrefix is the longest prefix of a log line, in bytes.
	maxLogPrefix = 29
	// defaultLevel is warning, as syslog counts.
	defaultLevel = 4
)

func parseLogPrefix(r *rules.Rule, text string) *Error {
	switch {
	case text == "":
		return errorf("Argument must have a minimum length of 1 characters")
	case len(text) > maxLogPrefix:
		return errorf("Maximum prefix length %d for --log-prefix", maxLogPrefix)
	}
	r.LogPrefix = text
	return nil
}

// logLevels are iptables' words for syslog's levels, from 0.
var logLevels = []string{"emerg", "alert", "crit", "error", "warning", "notice", "info", "debug"}

func parseLogLevel(r *rules.Rule, text string) *Error {
	if level, err := parseNumber(text, 0, uint64(len(logLevels)-1)); err == nil {
		r.LogLevel = uint8(level)
		return nil
	}
	level := slices.Index(logLevels, text)
	if level < 0 {
		switch text {
		case "panic":
			level = 0
		case "err":
			level = 3
		case "warn":
			level = 4
		default:
			return errorf("log level \"%s\" unknown", text).adviseOneOf(text, logLevels)
		}
	}
	r.LogLevel = uint8(level)
	return nil
}

// saveTarget writes -j with the options of the target.
func saveTarget(b *strings.Builder, r *rules.Rule) {
	name := TargetName(r)
	if name == "" {
		return
	}
	b.WriteString(" -j " + name)
	switch r.Target {
	case rules.Reject:
		b.WriteString(" --reject-with " + rejectWith(r))
	case rules.Log:
		if r.LogPrefix != "" {
			b.WriteString(" --log-prefix " + quote(r.LogPrefix))
		}
		if r.LogLevel != defaultLevel {
			b.WriteString(" --log-level " + strconv.Itoa(int(r.LogLevel)))
		}
	}
}

// listTarget writes the options of the target for a listing.
func listTarget(b *strings.Builder, r *rules.Rule) {
	switch r.Target {
	case rules.Reject:
		b.WriteString(" reject-with " + rejectWith(r))
	case rules.Log:
		fmt.Fprintf(b, " LOG flags 0 level %d", r.LogLevel)
		if r.LogPrefix != "" {
			b.WriteString(` prefix "` + r.LogPrefix + `"`)
		}
	}
}

func rejectWith(r *rules.Rule) string {
	if r.RejectWith == "" {
		return rejectDefault
	}
	return r.RejectWith
}

// TargetName returns the word behind -j; a rule that only counts has none.
func TargetName(r *rules.Rule) string {
	switch r.Target {
	case rules.Accept:
		return "ACCEPT"
	case rules.Drop:
		return "DROP"
	case rules.Reject:
		return "REJECT"
	case rules.Return:
		return "RETURN"
	case rules.Log:
		return "LOG"
	case rules.Jump:
		return r.Chain
	}
	return ""
}
