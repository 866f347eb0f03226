package command

import (
	"cmp"
	"fmt"
	"os"
	"slices"
	"strings"

	"github.com/urfave/cli/v2"

	"usher/internal/config"
)

// otherFlags maps flags of other programs to the usher flags with that effect.
var otherFlags = map[string]string{
	"timeout":        "did you mean --connect-timeout, --idle-timeout or --drain-timeout?",
	"retries":        "every backend is tried within --connect-timeout;",
	"retry":          "every backend is tried within --connect-timeout;",
	"sticky":         "did you mean --persist 300s?",
	"stick":          "did you mean --persist 300s?",
	"affinity":       "did you mean --persist 300s?",
	"verbose":        "did you mean --log-level debug?",
	"debug":          "did you mean --log-level debug?",
	"quiet":          "did you mean --log-level warn?",
	"silent":         "did you mean --log-level warn?",
	"algorithm":      "did you mean --scheduler?",
	"balance":        "did you mean --scheduler?",
	"lb":             "did you mean --scheduler?",
	"bind":           "did you mean --listen?",
	"port":           "did you mean --listen?",
	"target":         "did you mean --backend?",
	"server":         "did you mean --backend?",
	"upstream":       "did you mean --backend?",
	"weight":         "did you mean --backend ADDR@WEIGHT?",
	"check":          "did you mean --health?",
	"healthcheck":    "did you mean --health?",
	"allowlist":      "did you mean --allow or --rule?",
	"whitelist":      "did you mean --allow or --rule?",
	"denylist":       "did you mean --deny or --rule?",
	"blacklist":      "did you mean --deny or --rule?",
	"acl":            "did you mean --allow, --deny or --rule?",
	"iptables":       "did you mean --rule?",
	"rate-limit":     "did you mean --client-rate or --rate?",
	"proxy-protocol": "did you mean --accept-proxy of clients, or --send-proxy to backends?",
	"proxy":          "did you mean --accept-proxy of clients, or --send-proxy to backends?",
	"sni":            "sni is part of an address, as in --listen web=:443,sni=www.example.com;",
	"alpn":           "alpn is part of an address, as in --listen web=:443,alpn=h2;",
	"udp":            "udp is part of an address, as in udp:53=5353;",
	"tcp":            "every address without udp is tcp;",
	"daemon":         "usher stays in the foreground: a service manager or & keeps it running;",
}

// unknownFlag is the error of an unknown flag. It names another one only if that is close, and where all are listed.
func unknownFlag(word, name, page string, known []cli.Flag) error {
	hint, ok := otherFlags[strings.ToLower(name)]
	if !ok || !hasFlagsOf(hint, known) {
		hint = nearFlag(name, known)
	}
	if hint != "" {
		hint += " "
	}
	return fmt.Errorf("unknown flag %s (%ssee usher %s)", word, hint, page)
}

// hasFlagsOf reports whether the flags that a hint names are known here.
func hasFlagsOf(hint string, known []cli.Flag) bool {
	for word := range strings.FieldsSeq(hint) {
		name, isFlag := strings.CutPrefix(strings.TrimRight(word, ",?;"), "--")
		isThat := func(f cli.Flag) bool { return slices.Contains(f.Names(), name) }
		if isFlag && !slices.ContainsFunc(known, isThat) {
			return false
		}
	}
	return true
}

// nearFlag returns a question for the flag that name most likely meant, or "".
func nearFlag(name string, known []cli.Flag) string {
	var names []string
	for _, f := range known {
		names = append(names, f.Names()[0])
	}
	if near := config.Nearest(name, names); near != "" {
		return fmt.Sprintf("did you mean --%s?", near)
	}
	return ""
}

// checkSwitch checks the value of a switch and the word behind it. Other programs take a file there for their access
// log.
func checkSwitch(name, value string, hasValue bool, behind []string) error {
	if !hasValue && len(behind) > 0 && isFile(behind[0]) {
		value = behind[0]
	}
	switch {
	case isFile(value) && name == "access-log":
		return fmt.Errorf("--access-log takes no file, not %q: its lines go to stderr (did you mean --access-log 2>%s?)", value, value)
	case hasValue && !isBool(value):
		return fmt.Errorf("--%s: %q is neither true nor false", name, value)
	}
	return nil
}

// isFile reports whether a word looks like the name of a file.
func isFile(word string) bool {
	return !strings.Contains(word, "=") && (strings.Contains(word, "/") || strings.HasSuffix(word, ".log"))
}

// otherCommands maps commands of other programs to what has their effect.
var otherCommands = map[string]string{
	"logs": "the log is on stderr of the running usher",
}

// sameCommands maps commands of other programs to usher's own.
var sameCommands = map[string]string{
	"status": "ls", "stats": "ls", "list": "ls", "show": "ls", "get": "ls", "ps": "ls",
	"connections": "flows", "sessions": "flows",
	"quit": "stop", "exit": "stop", "shutdown": "stop", "kill": "stop",
	"start": "serve", "run": "serve", "restart": "upgrade",
	"delete": "rm", "remove": "rm", "del": "rm", "edit": "set", "create": "add",
	"disable": "drain", "undrain": "resume", "enable": "resume",
	"test": "check", "validate": "check", "lint": "check", "watch": "events",
}

// unknownCommand is the error of a first word that cannot be LISTEN=BACKEND, nil if it may be.
func unknownCommand(word string, root *cli.Command) error {
	if strings.Trim(word, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0-_") != "" || strings.Trim(word, "0123456789-") == "" {
		return nil
	}
	have, near := names(root), nearCommand(word, root)
	hint, ok := otherCommands[word]
	switch {
	case ok:
	case near != "":
		hint = fmt.Sprintf("did you mean usher %s?", near)
	default:
		hint = "have " + strings.Join(have, ", ")
	}
	return fmt.Errorf("%q is neither a command nor LISTEN=BACKEND (%s)", word, hint)
}

// nearCommand returns the command that a word most likely meant, or "".
func nearCommand(word string, root *cli.Command) string {
	return cmp.Or(sameCommands[word], config.Nearest(word, names(root)))
}

// checkFile finds a config file where only LISTEN=BACKEND can stand.
func (l *line) checkFile() error {
	if lookup(l.command.Flags, "config") == nil {
		return nil
	}
	for _, word := range l.words {
		if !isConfig(word) && (!isRegular(word) || len(l.path) == 0 && nearCommand(word, l.command) != "") {
			continue
		}
		return fmt.Errorf("%q is not LISTEN=BACKEND (did you mean %s -c %s?)", word, strings.Join(append([]string{"usher"}, l.path...), " "), word)
	}
	return nil
}

// isConfig reports whether a word looks like the name of a config file.
func isConfig(word string) bool {
	return !strings.Contains(word, "=") && (strings.HasSuffix(word, ".yaml") || strings.HasSuffix(word, ".yml"))
}

// isRegular reports whether a word is the path of a file.
func isRegular(word string) bool {
	info, err := os.Stat(word)
	return err == nil && info.Mode().IsRegular()
}

// noHelp is the error of a topic without a page.
func noHelp(topic string, root *cli.Command) error {
	have := names(root)
	for t := range topics() {
		have = append(have, t)
	}
	slices.Sort(have)
	have = slices.Compact(have) // config and iptables are both
	return fmt.Errorf("no help on %q%s", topic, config.OrHave(topic, have))
}
