package iptables

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"usher/proxy/rules"
)

// newTarget returns a target of targetNames or tableTargetNames.
func (p *parser) newTarget(name string) *extension {
	switch name {
	case "REJECT":
		return newReject(p.grammar)
	case "LOG":
		return newLog(p.grammar)
	case "DNAT":
		return newDNAT()
	case "SNAT":
		return newSNAT()
	case "REDIRECT":
		return newRedirect()
	case "MASQUERADE":
		return newMasquerade()
	case "MARK":
		return newMark()
	}
	return &extension{}
}

func newReject(g grammar) *extension {
	o := &Reject{With: rejectDefault}
	return &extension{options: o,
		flags: []flag{{names: []string{"--reject-with"}, set: func(v string, _ bool) *Error { return parseRejectWith(o, v) }}},
		check: func(r *Rule) *Error {
			if g == forTables {
				return nil // the kernel refuses it once the chain is known
			}
			return checkReject(r, o)
		}}
}

func newLog(g grammar) *extension {
	o := &Log{Level: defaultLevel}
	x := &extension{options: o, flags: []flag{
		{names: []string{"--log-prefix"}, set: func(v string, _ bool) *Error { return parseLogPrefix(o, v) }},
		{names: []string{"--log-level"}, set: func(v string, _ bool) *Error { return parseLogLevel(o, v) }},
	}}
	if g == forDoor {
		return x
	}
	for i, name := range logFlags {
		x.flags = append(x.flags, flag{names: []string{name}, takes: nothing, set: func(string, bool) *Error {
			o.Flags |= 1 << i
			return nil
		}})
	}
	return x
}

// logFlags are the switches of -j LOG, by their bit.
var logFlags = [...]string{"--log-tcp-sequence", "--log-tcp-options", "--log-ip-options", "--log-uid", "--log-macdecode"}

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
func parseRejectWith(o *Reject, text string) *Error {
	i := slices.IndexFunc(rejectWords, func(w [2]string) bool { return text == w[0] || text != "" && text == w[1] })
	if i < 0 {
		return errorf("unknown reject type \"%s\"", text).adviseOneOf(text, rejectNames())
	}
	o.With = rejectWords[i][0]
	return nil
}

func rejectNames() []string {
	names := make([]string, len(rejectWords))
	for i, w := range rejectWords {
		names[i] = w[0]
	}
	return names
}

func checkReject(r *Rule, o *Reject) *Error {
	if o.With == rejectReset && (r.Protocol != rules.TCP || r.NotProtocol) {
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

func parseLogPrefix(o *Log, text string) *Error {
	switch {
	case text == "":
		return errorf("Argument must have a minimum length of 1 characters").withBlank()
	case len(text) > maxLogPrefix:
		return errorf("Maximum prefix length %d for --log-prefix", maxLogPrefix)
	}
	o.Prefix = text
	return nil
}

// logLevels are iptables' words for syslog's levels, from 0.
var logLevels = []string{"emerg", "alert", "crit", "error", "warning", "notice", "info", "debug"}

// listedLevels are those of a listing.
var listedLevels = [...]string{"emerg", "alert", "crit", "err", "warn", "notice", "info", "debug"}

func parseLogLevel(o *Log, text string) *Error {
	if level, err := parseNumber(text, 0, uint64(len(logLevels)-1)); err == nil {
		o.Level = uint8(level)
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
			return errorf("log level \"%s\" unknown", text).withBlank().adviseOneOf(text, logLevels)
		}
	}
	o.Level = uint8(level)
	return nil
}

// saveTarget writes -j or -g with the options of the target.
func saveTarget(b *strings.Builder, r *Rule) {
	if r.Target == "" {
		return
	}
	option := " -j "
	if r.IsGoto {
		option = " -g "
	}
	b.WriteString(option + r.Target)
	switch o := r.Options.(type) {
	case *Reject:
		b.WriteString(" --reject-with " + o.With)
	case *Log:
		saveLog(b, o)
	case *NAT:
		saveNAT(b, r.Target, o)
	case *Mark:
		fmt.Fprintf(b, " --set-xmark 0x%x/0x%x", o.Value, o.Mask)
	case *Other:
		b.WriteString(o.Text)
	}
}

func saveLog(b *strings.Builder, o *Log) {
	if o.Prefix != "" {
		b.WriteString(" --log-prefix " + quote(o.Prefix))
	}
	if o.Level != defaultLevel {
		b.WriteString(" --log-level " + strconv.Itoa(int(o.Level)))
	}
	for i, name := range logFlags {
		if o.Flags&(1<<i) != 0 {
			b.WriteString(" " + name)
		}
	}
}

// listTarget writes the options of the target for a listing.
func listTarget(b *strings.Builder, r *Rule, l *ListingOptions) {
	switch o := r.Options.(type) {
	case *Reject:
		b.WriteString(" reject-with " + o.With)
	case *Log:
		listLog(b, o, l)
	case *NAT:
		listNAT(b, r.Target, o)
	case *Mark:
		listMark(b, o)
	case *Other:
		b.WriteString(" " + o.Name + o.Text)
	}
}

func listLog(b *strings.Builder, o *Log, l *ListingOptions) {
	if l.Numeric {
		fmt.Fprintf(b, " LOG flags %d level %d", o.Flags, o.Level)
	} else {
		b.WriteString(" LOG level " + listedLevels[o.Level])
		for i, name := range logFlags {
			if o.Flags&(1<<i) != 0 {
				b.WriteString(" " + strings.TrimPrefix(name, "--log-"))
			}
		}
	}
	if o.Prefix != "" {
		b.WriteString(` prefix "` + o.Prefix + `"`)
	}
}
