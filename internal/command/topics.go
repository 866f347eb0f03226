package command

import (
	"fmt"
	"strings"

	"usher/balancer"
	"usher/internal/config"
)

// topics are the pages of usher help WORD. Their texts about options are in the table of package config.
func topics() map[string]string {
	return map[string]string{
		"sni":   sniHelp + optionsHelp(config.ServiceOptions(), "sni"),
		"proxy": proxyHelp + optionsHelp(config.ServiceOptions(), "proxy"),
		"access": accessHelp + optionsHelp(config.ServiceOptions(), "access") + accessProcessHelp +
			optionsHelp(config.ProcessOptions(), "access"),
		"schedulers": schedulersHelp() + optionsHelp(config.ServiceOptions(), "schedulers"),
		"backends":   backendsHelp + optionsHelp(config.ServiceOptions(), "backends"),
		"config":     configFileHelp,
		"dialects":   dialectsHelp,
		"control":    controlHelp + optionsHelp(config.ProcessOptions(), "control"),
		"health":     healthHelp,
		"iptables":   iptablesHelp,
		"limits":     limitsHelp,
		"logs":       logsHelp,
		"listeners":  listenersHelp + optionsHelp(config.ServiceOptions(), "listeners"),
		"udp":        udpHelp + optionsHelp(config.ServiceOptions(), "udp") + udpTail,
	}
}

// optionsHelp lists the options of a topic.
func optionsHelp[S any](options []config.Option[S], topic string) string {
	var b strings.Builder
	for _, o := range options {
		if o.Topic == topic {
			writeOption(&b, topicWidth, strings.TrimRight(fmt.Sprintf("--%s %s", o.Name, o.Form), " "), o.Help)
		}
	}
	return b.String()
}

// Widths of the lists of options.
const (
	topicWidth   = 120
	commandWidth = 80
)

// writeOption writes an option and what it does, in a column of their own.
func writeOption(b *strings.Builder, width int, option, text string) {
	const column = 31
	line := "  " + option
	if len(line)+2 > column {
		b.WriteString(line + "\n")
		line = ""
	}
	line += strings.Repeat(" ", column-len(line))
	for i, word := range strings.Fields(text) {
		switch {
		case i == 0:
		case len(line)+1+len(word) > width:
			b.WriteString(line + "\n")
			line = strings.Repeat(" ", column)
		default:
			line += " "
		}
		line += word
	}
	b.WriteString(line + "\n")
}

// schedulersHelp lists the balancer's schedulers.
func schedulersHelp() string {
	var b strings.Builder
	b.WriteString("Schedulers choose the backend of a new flow: --scheduler ALG[,FLAG...]\n\n")
	for _, a := range balancer.Algorithms() {
		line := fmt.Sprintf("  %-6s %s", a.Name, a.Summary)
		if len(a.Flags) > 0 {
			line += " (flags: " + strings.Join(a.Flags, ", ") + ")"
		}
		b.WriteString(line + "\n")
	}
	b.WriteString(schedulersTail)
	return b.String()
}

const schedulersTail = `
The default is rr, or wrr where backends differ in weight. With the flag ipvs, as in wrr,ipvs, a scheduler chooses
exactly as the kernel's of that name. Without it, it chooses as suits a proxy; go doc ./balancer has the differences.
Two ushers with the same backends choose the same one for each client with mh, sh, dh, ring and hrw.

`

const listenersHelp = `Listeners: --listen [NAME=]ADDR, or ADDR=BACKEND[,BACKEND...]

  8080                         port 8080 of 127.0.0.1
  :8080, 0.0.0.0:8080, [::]:8080
                               all addresses of both families, of IPv4, of IPv6
  10.0.0.1:8080, [fd00::1]:8080, localhost:8080
                               one address; a name stands for all of its addresses that this machine has
  10000-10100                  a range; a backend without a port gets the port that the client asked for
  udp:5353, udp://:5353        the same for udp (usher help udp)
  unix:///run/app.sock[,mode=660][,user=NAME][,group=NAME]
                               a socket file; the mode is octal, user and group are names or numbers. A file that no
                               process listens on is replaced
  unix:@app                    a name in the abstract namespace of Linux, which has no file
  :80,from=10.0.0.0/8+::1      of tcp and udp: the clients of these prefixes. Services share an address so; the longest
                               prefix decides, and a listener without the option takes the other clients
  :443,sni=www.example.com     of tcp and unix: the clients with that server name (usher help sni)

An address that systemd has passed a socket for (LISTEN_FDS) is not bound: usher accepts from that socket. Each such
socket needs a listener of the same address.

How connections end. One side may finish, and the other goes on: a half-close passes as a half-close. A reset passes as
a reset. A slow reader gets all bytes, also when their sender has closed or failed. A timeout means that no byte was
passed on, and none was acknowledged. Keepalive finds a peer that has vanished.

Options for clients of tcp and unix, [NAME=]VALUE as all options of services:

`

const backendsHelp = `Backends: --backend [NAME=]ADDR[@WEIGHT][,OPTION...], or LISTEN=ADDR[@WEIGHT][,OPTION...][,ADDR...]

  NAME:PORT          every A and AAAA record; looked up again when the TTL ends (1s to 5m; 10s without one)
  srv:NAME           the SRV records: host, port, weight (times @WEIGHT), and priority (all but the first are backups)
  @WEIGHT            share of new flows under schedulers that weigh; 0: no new flows
  ,backup            used while no other backend is up, and where all others fail a client
  ,max=N             never more flows than this; with all backends full, clients wait in the queue or are refused
  ,upper=N ,lower=N  thresholds as in IPVS: no new flows from N on, until there are fewer than lower (3/4 of upper)
  ,check=PORT        address of its checks: another port, or IP:PORT
  ,agent=PORT        address of its agent, in the same way: see --agent
  ,source=ADDR       local address of connections to it: see --source

A refused connect moves on to the next backend at once, a silent one after 250ms, 500ms, 1s and 2s. --connect-timeout
bounds all attempts for a client. A name without an answer keeps its addresses; usher then asks another name server
first.

Options, [NAME=]VALUE as all options of services:

`

const healthHelp = `Health checks: --health [NAME=]SPEC, where SPEC is one of

  off                          backends count as up without checks
  tcp                          connects and closes; the default of tcp services
  tcp:send=TEXT,expect=TEXT    a conversation: any number of both, in the order in which they happen
  tcps[:send=TEXT,expect=...]  a TLS handshake, and a conversation if there is one
  http:/PATH, https:/PATH      ,method=GET ,host=NAME ,status=200-399 ,expect=TEXT (in the body)
  grpc[:SERVICE], grpcs        grpc.health.v1
  exec:PROGRAM ARG ...         exit status 0 is good; USHER_BACKEND is the backend's address. Quotes are as in a shell,
                               but usher runs none
  udp                          fails if an empty datagram is refused: no process listens
  auto                         the default of udp services: udp for backends on loopback, where the kernel answers and
                               nothing is sent, and for others once they have refused a flow
  udp:send=TEXT,expect=TEXT    needs that reply
  dns:NAME                     needs any answer to a query

then, each after a comma:

  interval=2s   timeout=1s   rise=2   fall=3
  interval-down=, interval-change=     the interval while down, and while changing; default: interval
  port=N                               checks another port of the backend
  proxy                                sends a header of the PROXY protocol first, which names no client (LOCAL)
  of https, grpcs and tcps: sni=NAME   ca=FILE   verify=off
  TEXT may have \r \n \t \xNN \\ \, and hex:DIGITS stands for bytes; in expect= of a conversation | stands
  between texts of which one must come, and ^ before those that must come next

for example

  redis       --health 'tcp:send=PING\r\n,expect=^+PONG\r\n'
  SMTP        --health 'tcp:expect=^220,send=QUIT\r\n,expect=221'
  PostgreSQL  --health 'tcp:send=hex:00000017000300007573657200706f7374677265730000,expect=^R'
              (user postgres; while it starts up it answers with an error)

The check tcp connects every 2s, and sends no byte. On Linux it resets the connection before the handshake is
complete, so that the backend's process never sees one.

usher accepts clients when all backends have a first result, or after 2s. Where no backend that is up accepts a client,
those that are down are tried; with --fail closed the client is refused.
With --wait 30s and a check that is more than a connect, clients wait until a backend is up, whatever --fail says.
A backend that has refused a client then needs another check that passes: it may listen before it is ready.
`

const udpHelp = `UDP: usher udp:5353=1.1.1.1:53,8.8.8.8:53, or --listen [NAME=]udp://ADDR

A flow is all that one client address sends to one listener. It keeps its backend, and replies leave from the address
that the client asked. It ends when it is idle, or when it has had its replies. Options, [NAME=]VALUE as all options of
services:

`

const udpTail = `  --health udp:send=TEXT,expect=TEXT, dns:NAME ...   (usher help health)

Datagrams have 0 to 65,507 bytes, and pass whole and in order. usher counts and logs those that it drops. With --ops a
datagram counts as a flow of its backend until its reply, or for 1s to 2s.

A backend that refuses (ICMP unreachable) loses its flows at once, and usher sends the refused datagrams to another one.
The backend gets no flows for 1s, and for up to 10s if it refuses again, unless it or its check answers before.

In a full service, flows without a reply and flows that are idle for long end in favour of new clients (usher help
limits).

On Linux a successor can bind the address as soon as usher drains. Up to 512 flows a worker go on until they are silent
for 1s. A successor that does not set SO_REUSEADDR has to wait; usher, nginx and dnsmasq set it. On other systems every
successor has to wait.
`

const configFileHelp = `The config file: usher -c usher.yaml

  drain-timeout: 10s                  # options of the process, by the names of their flags
  services:
    web:
      listen: [8080, "[::]:8080"]     # addresses as in usher help listeners; a single one needs no list
      backends:
        - 10.0.0.1:80@3               # words as in usher help backends, or their parts:
        - {address: 10.0.0.2:80, weight: 2, max: 100, backup: true}
      scheduler: wlc                  # options of services, by the names of their flags
      health: http:/ready,interval=2s
    dns: {listen: "udp:5353", backends: ["1.1.1.1:53", "8.8.8.8:53"], udp-replies: 1}
  rules: ["-s 10.0.0.0/8 -j ACCEPT"]  # in iptables' words (usher help iptables)
  policy: DROP                        # for clients that no rule decides

Between braces an address needs quotes, as a template always does: "{{ GetPrivateIP }}:8080". Unknown keys are refused.

  usher check -c usher.yaml             says what is wrong, with its place, and starts nothing
  usher config LISTEN=BACKEND ...       prints a command line as a file, -c FILE a file
  usher config                          prints the plan of the running usher; --name or --control say of which
  usher reload, SIGHUP, --watch-config  read the file again

Services of the command line run beside those of the file; an option of the process given there stands above the file's.

A reload changes nothing if any part of the file is wrong, or an address cannot be had. Else listeners that stay keep
their sockets, and clients in them; flows keep the timeouts that they began with; flows of backends that are gone end as
--on-remove says. Of the process's options drain-timeout and log-level follow the file; the others need a restart, which
the log says (an upgrade keeps them as they are). What was set by hand stays (usher help control).
`

const controlHelp = `Control: a running usher is seen and changed through a unix socket, by the user who runs it

  usher ls, flows, events               what it does (each has -o json, and a page: usher help ls)
  usher add, set, rm                    services and backends that come and go while it runs
  usher drain, maint, resume            a backend without new clients, without new flows, as it was
  usher reload, upgrade, stop           as SIGHUP, SIGUSR2 and SIGTERM, but with an answer

Commands find the only running usher by themselves; with several, --name chooses. Exit status: 0 done, 1 refused by the
running usher, or none runs, 2 wrong words.

Owners. A service belongs to where it came from: flags, file, api (usher add), kube, ipvsadm or iptables. It can only be
changed there. Three things are set by hand and stand above that: drain, maint, and the weight by usher set backend.
They survive a reload, and usher ls SERVICE shows them until usher resume, or for --timeout.

SIGHUP reads the config file again, SIGUSR2 upgrades, SIGTERM and Ctrl-C stop (usher help upgrade, usher help stop).
systemd learns when usher is ready (types notify-reload, and notify before version 253), and may pass sockets that usher
takes in place of binding their addresses (LISTEN_FDS).

The API is HTTP and JSON under /v1, which /v1/openapi.yaml describes. --admin ADDR serves it as well, to be read:

  curl --unix-socket $XDG_RUNTIME_DIR/usher/web.sock http://usher/v1/services
  curl http://127.0.0.1:9090/metrics        for Prometheus; usher_config_last_reload_successful 0: a reload failed
  curl http://127.0.0.1:9090/healthz        200 while the process lives
  curl http://127.0.0.1:9090/readyz         200 once it has started, 503 before and while it drains; with
                                            ?service=NAME also 503 while no backend of that is in use

Options of the process:

`
