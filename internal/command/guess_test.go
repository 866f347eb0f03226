package command

import (
	"bytes"
	"io"
	"strings"
	"testing"
)

// Mistakes of users of other programs, and slips: one line each, with the likely meaning.
func TestGuesses(t *testing.T) {
	t.Parallel()
	for args, want := range map[string]string{
		// Words that are not LISTEN=BACKEND.
		"8080:9001":                `"8080:9001" is not LISTEN=BACKEND[,BACKEND...] (did you mean 8080=9001?)`,
		"127.0.0.1:8080:9001":      `"127.0.0.1:8080:9001" is not LISTEN=BACKEND[,BACKEND...] (did you mean 127.0.0.1:8080=9001?)`,
		"8080:10.0.0.1:9001":       `"8080:10.0.0.1:9001" is not LISTEN=BACKEND[,BACKEND...] (did you mean 8080=10.0.0.1:9001?)`,
		"8080->9001":               `"8080->9001" is not LISTEN=BACKEND[,BACKEND...] (did you mean 8080=9001?)`,
		"8080=9001 9002":           `"9002" is not LISTEN=BACKEND[,BACKEND...] (did you mean 8080=9001,9002?)`,
		"8080=9001, 9002":          `"8080=9001," is not LISTEN=BACKEND[,BACKEND...] (did you mean 8080=9001,9002?)`,
		"8080 9001":                `"8080" is not LISTEN=BACKEND[,BACKEND...] (did you mean 8080=9001?)`,
		"8080 = 9001":              `"8080" is not LISTEN=BACKEND[,BACKEND...] (did you mean 8080=9001?)`,
		"8080= 9001":               `"8080=" is not LISTEN=BACKEND[,BACKEND...] (did you mean 8080=9001?)`,
		"8080 =9001":               `"8080" is not LISTEN=BACKEND[,BACKEND...] (did you mean 8080=9001?)`,
		"8080=9001,8081=9002":      `8080=9001,8081=9002: a blank stands between services (did you mean 8080=9001 8081=9002?)`,
		"8080":                     `"8080" is not LISTEN=BACKEND[,BACKEND...], as in 8080=9001,9002`,
		"10.0.0.1:8080":            `"10.0.0.1:8080" is not LISTEN=BACKEND[,BACKEND...], as in 8080=9001,9002`,
		"8080=9001 -b 9002":        `--backend 9002: service "default" has no listener (did you mean --backend 8080=9002?)`,
		"-s 8080=9001":             `--scheduler lacks its value and has taken 8080=9001 for it (did you mean 8080=9001 --scheduler VALUE?)`,
		"--health 8080=9001,9002":  `--health lacks its value and has taken 8080=9001,9002 for it (did you mean 8080=9001,9002 --health VALUE?)`,
		"8080=9001 --access-log x": `"x" is not LISTEN=BACKEND[,BACKEND...] (did you mean 8080=9001,x?)`,

		// Addresses.
		"8080=http://127.0.0.1:9001":   `8080=http://127.0.0.1:9001: unknown protocol "http": it is spoken over tcp, which passes as it is (did you mean "127.0.0.1:9001"?)`,
		"8080=https://a.example/x?y":   `8080=https://a.example/x?y: unknown protocol "https": it is spoken over tcp, which passes as it is (did you mean "a.example:443"?)`,
		"http://:8080=9001":            `http://:8080=9001: unknown protocol "http": it is spoken over tcp, which passes as it is (did you mean ":8080"?)`,
		"8080=/tmp/x.sock":             `8080=/tmp/x.sock: "/tmp/x.sock" is a path (did you mean "unix:///tmp/x.sock"?)`,
		"/tmp/x.sock=9001":             `/tmp/x.sock=9001: "/tmp/x.sock" is a path (did you mean "unix:///tmp/x.sock"?)`,
		"8080=./x.sock":                `8080=./x.sock: "./x.sock" is a path: write a unix socket with its absolute one, as in unix:///run/x.sock`,
		"5353/udp=53":                  `5353/udp=53: "5353/udp": the protocol comes first (did you mean "udp:5353"?)`,
		"53:udp=53":                    `53:udp=53: "53:udp": the protocol comes first (did you mean "udp:53"?)`,
		"8080=9001/tcp":                `8080=9001/tcp: "9001/tcp": the protocol comes first (did you mean "tcp:9001"?)`,
		"8080=quic://10.0.0.1:80":      `8080=quic://10.0.0.1:80: unknown protocol "quic" (have tcp, udp, unix)`,
		"8080=tcp4://10.0.0.1:80":      `8080=tcp4://10.0.0.1:80: unknown protocol "tcp4" (did you mean "tcp"? have tcp, udp, unix)`,
		"unix:///x.sock,mod=660=9001":  `unix:///x.sock,mod=660=9001: unknown option "mod" (did you mean "mode"? have mode, user, group, sni, alpn)`,
		"8080=unix:///x.sock,mode=660": `8080=unix:///x.sock,mode=660: option mode is one of a listener, whose file usher makes`,

		// Flags.
		"8080=9001 --access-log /tmp/x":   `--access-log takes no file, not "/tmp/x": its lines go to stderr (did you mean --access-log 2>/tmp/x?)`,
		"8080=9001 --access-log=a.log":    `--access-log takes no file, not "a.log": its lines go to stderr (did you mean --access-log 2>a.log?)`,
		"8080=9001 --timeout 5s":          `unknown flag --timeout (did you mean --connect-timeout, --idle-timeout or --drain-timeout? see usher --help)`,
		"8080=9001 --timeout":             `unknown flag --timeout (did you mean --connect-timeout, --idle-timeout or --drain-timeout? see usher --help)`,
		"8080=9001 --retries 3":           `unknown flag --retries (every backend is tried within --connect-timeout; see usher --help)`,
		"8080=9001 --acl x":               `unknown flag --acl (did you mean --allow, --deny or --rule? see usher --help)`,
		"8080=9001 --sni x":               `unknown flag --sni (sni is part of an address, as in --listen web=:443,sni=www.example.com; see usher --help)`,
		"8080=9001 --sticky":              `unknown flag --sticky (did you mean --persist 300s? see usher --help)`,
		"8080=9001 --verbose":             `unknown flag --verbose (did you mean --log-level debug? see usher --help)`,
		"8080=9001 --port=80":             `unknown flag --port (did you mean --listen? see usher --help)`,
		"8080=9001 --drain 5s":            `unknown flag --drain (did you mean --drain-timeout? see usher --help)`,
		"8080=9001 --health-check tcp":    `unknown flag --health-check (did you mean --health? see usher --help)`,
		"8080=9001 --qwertz":              `unknown flag --qwertz (see usher --help)`,
		"8080=9001 --weigh 3":             `unknown flag --weigh (see usher --help)`,
		"8080=9001 --max 3":               `unknown flag --max (see usher --help)`,
		"8080=9001 --drain-timeout -1s":   `--drain-timeout -1s: -1s is negative (did you mean 1s, or 0?)`,
		"8080=9001 --idle-timeout -1s":    `--idle-timeout -1s: -1s is negative (did you mean 1s, or 0?)`,
		"8080=9001 --connect-timeout=-5s": `--connect-timeout -5s: -5s is negative (did you mean 5s?)`,
		"8080=9001 --health tcp --health http:/": `--health http:/: --health tcp is given already, and a service has one check ` +
			`(--health NAME=SPEC is for one service)`,
		"8080=9001 --health 8080=tcp --health 8080=off": `--health 8080=off: --health 8080=tcp is given already, and a service has one check ` +
			`(--health NAME=SPEC is for one service)`,

		// Commands.
		"lss":                   `"lss" is neither a command nor LISTEN=BACKEND (did you mean usher ls?)`,
		"status":                `"status" is neither a command nor LISTEN=BACKEND (did you mean usher ls?)`,
		"run":                   `"run" is neither a command nor LISTEN=BACKEND (did you mean usher serve?)`,
		"validate":              `"validate" is neither a command nor LISTEN=BACKEND (did you mean usher check?)`,
		"quit":                  `"quit" is neither a command nor LISTEN=BACKEND (did you mean usher stop?)`,
		"delete":                `"delete" is neither a command nor LISTEN=BACKEND (did you mean usher rm?)`,
		"logs":                  `"logs" is neither a command nor LISTEN=BACKEND (the log is on stderr of the running usher)`,
		"frobnicate":            `"frobnicate" is neither a command nor LISTEN=BACKEND (have ` + strings.Join(names(newRoot(io.Discard, io.Discard)), ", ") + `)`,
		"usher.yaml":            `"usher.yaml" is not LISTEN=BACKEND (did you mean usher -c usher.yaml?)`,
		"check --ops etc/x.yml": `"etc/x.yml" is not LISTEN=BACKEND (did you mean usher check -c etc/x.yml?)`,
		"config guess.go":       `"guess.go" is not LISTEN=BACKEND (did you mean usher config -c guess.go?)`,
		"help upd":              `no help on "upd" (did you mean "udp"? have ` + topicNames() + `)`,
		"help status":           `no help on "status" (have ` + topicNames() + `)`,
		"help ls x":             `no help on "ls x" (have ` + topicNames() + `)`,

		// Words and flags of commands.
		"ls a b":                      `ls does not take "b": usher ls [SERVICE]`,
		"drain web":                   `drain lacks ADDR: usher drain SERVICE ADDR`,
		"rm service":                  `rm service lacks SERVICE: usher rm service SERVICE`,
		"reload now":                  `reload takes no words, not "now"`,
		"add":                         `add lacks its object: usher add service|backend|rule`,
		"add servce web":              `add: unknown object "servce" (did you mean "service"? have service, backend, rule)`,
		"ls --listen 80":              `usher ls has no flag --listen`,
		"ls --watc":                   `unknown flag --watc (did you mean --watch? see usher ls --help)`,
		"ls -o xml":                   `--output xml: unknown value "xml" (have table, wide, json, yaml)`,
		"ls --watch=5":                `--watch 5: "5" is no time such as 2s (at least 100ms)`,
		"--name web ls --output":      `flag --output lacks its value`,
		"flows --kill":                `--kill needs a filter, such as --client ADDR, or --all`,
		"flows --kill --all --watch":  `--kill ends flows once: leave out --watch`,
		"flows --client here":         `--client here: "here" is no address, prefix or address:port`,
		"flows --all":                 `--all is for --kill: without it all flows are listed`,
		"drain web 9001 --timeout 5":  `--timeout 5: "5" is no time such as 30s, 10m or 2h`,
		"completion csh":              `completion: unknown shell "csh" (did you mean "zsh"? have bash, zsh, fish)`,
		"set service web":             `set service lacks what changes: one flag at least, such as --scheduler ALG`,
		"add service web":             `nothing to listen on: give LISTEN=BACKEND, as in 8080=9001,9002, or --listen and --backend`,
		"add service web -l 80":       `service "web" listens on 127.0.0.1:80 but has no backend (add --backend ADDR)`,
		"add service 80=1 -s rrr":     `--scheduler rrr: unknown scheduler "rrr" (did you mean "rr"? have rr, wrr, lc, wlc, sed, nq, fo, ovf, twos, p2c, ewma, lblc, lblcr, mh, sh, dh, ring, hrw)`,
		"add service w -l 80 -b x=99": `--backend x=99: service "x" has no listener (have w)`,
		"add service a//b -l 80 -b 1": `"a//b" is not a name: letters, digits, dots, underscores and dashes, a letter or digit first, and / or : between two such`,
		"add service -l a=80 -l b=81 -b a=1 -b b=2": `one service at a time, not a and b`,
		"add service web 80=9001 --workers 2":       `usher add service has no flag --workers`,
	} {
		var stdout, stderr bytes.Buffer
		status := Main(t.Context(), append([]string{"usher"}, strings.Fields(args)...), &stdout, &stderr)
		if status != usageFailed || stdout.Len() > 0 || stderr.String() != "usher: "+want+"\n" {
			t.Errorf("usher %s: status %d, stdout %q, stderr\n%swant\nusher: %s", args, status, &stdout, &stderr, want)
		}
	}
}

// A check of all services and one of udp services do not conflict.
func TestChecksOfTwoNetworks(t *testing.T) {
	t.Parallel()
	var stdout, stderr bytes.Buffer
	Main(t.Context(), strings.Fields("usher 8080=9001 udp:53=54 --health tcp --health dns:a.example --workers 0"), &stdout, &stderr)
	if want := "usher: --workers 0: 0 is out of range (1 to 1024)\n"; stderr.String() != want {
		t.Errorf("got %q, want %q", &stderr, want)
	}
}
