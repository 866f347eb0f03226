package command

import (
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/urfave/cli/v2"
)

// hint is the answer to no words at all.
const hint = `nothing to do
  usher 8080=9001,9002   listen on port 8080, two local backends
  usher demo             backends, a service and something to look at
  usher --help           all the rest`

// rootHead, the list of commands and rootTail are one screen.
const rootHead = `usher is a layer-4 load balancer for TCP and UDP, in one binary that runs as you.

Usage
  usher [flags] LISTEN=BACKEND[,BACKEND...] ...
  usher [flags] --listen [NAME=]ADDR --backend [NAME=]ADDR[@WEIGHT] ...
  usher COMMAND ...     (usher help COMMAND)
`

const rootTail = `
Examples
  usher 8080=9001,9002                          two local backends behind 127.0.0.1:8080
  usher :80=10.0.0.1,10.0.0.2:8080 -s lc        all addresses; a backend without a port gets the client's
  usher udp:5353=1.1.1.1:53,8.8.8.8:53          udp, here a name server; --udp-replies 1 ends a flow with its answer
  usher -l web=:8080 -b web=10.0.0.1:80@3 -b web=10.0.0.2:80 -s web=mh -l db=5432 -b db=db.local:5432 --health db=off
Addresses (usher help listeners, usher help backends)
  8080 (of 127.0.0.1)   :8080 (all, IPv4 and IPv6)   [::]:8080 (IPv6 alone)   10.0.0.1:80   [fd00::1]:80   10000-10100
  udp:5353   unix:///run/app.sock[,mode=660]   unix:@app   db.local:5432, srv:_http._tcp.x   '{{ GetPrivateIP }}:8080'
Flags of services, repeatable. VALUE is for all services, NAME=VALUE for one; 8080=9001 makes one with the name 8080
  -l, --listen ADDR              where clients connect
  -b, --backend ADDR[@WEIGHT]    where usher sends them; ,backup ,max=N ... may follow (usher help backends)
  -s, --scheduler ALG[,FLAG]     rr, wrr, lc, wlc, p2c, ewma, mh ... (usher help schedulers); --hash-key addr/24,
       --hash-balance 125 and --persist 300s/24 keep clients together
  --health SPEC                  off, tcp, http:/path, grpc, exec: ... (usher help health); default tcp, of udp auto
  --fail open|closed             while no backend is up: try those that are down (default), or refuse clients
  about backends, all off by default (usher help backends): --panic 50%   --eject 5   --slow-start 30s   --source ADDR
       --max-age 1h   --agent 9100   --on-down keep|fin|reset, --on-drain, --on-remove   --on-empty close|drop|refuse
  of tcp and unix: --connect-timeout 5s   --idle-timeout off   --half-close-timeout 5m   --queue off (or 100,5s)
       --wait off (how long clients wait while no backend is up)   --abort-on-close   --reclaim-idle off
  who may come in, all off by default (usher help access): --allow CIDR,...   --deny CIDR,...   --on-deny drop
       --max-client-conns 10   --client-rate 10/s,burst=20   --rate 1000/s   --sni-timeout 5s (help sni, help proxy)
       --accept-proxy CIDR,...   --accept-proxy-only   --accept-proxy-timeout 5s   --send-proxy v1|v2   --send-proxy-id
  of udp: --udp-idle-timeout 60s   --udp-unreplied-timeout 30s   --udp-replies 0 (usher help udp)
       --max-flows 0   --max-client-flows N|off (of one address, default half)   --ops[=NAME=true] (no flows)
Flags of the process
  -c, --config FILE              more services and options, from usher.yaml (usher help config); SIGHUP reads it again
  --drain-timeout 30s            on a terminal 5s; how long flows may go on after Ctrl-C or SIGTERM (usher help stop)
  --max-conns N, --workers N     default: from descriptors, from CPUs; --reserve [NAME=]N keeps some (usher help limits)
  --rule RULE, --policy DROP   (usher help iptables)     --max-dropped 1000, --drop-timeout 30s   (usher help access)
  --engine auto|epoll|portable   default auto; --access-log logs each flow, --log-access[=NAME=true] those of a service
  --log-format console|json      default: console on a terminal, json elsewhere; --log-level LEVEL (usher help logs)
  --name, --control, --admin, --admin-token-file, --watch-config, --proc (usher help control)  -v, --version  -h, --help
`

const serveHelp = `It runs as usher does without a command, but needs no service: usher add and the config file bring them.
Its flags are those of usher --help.
`

const demoHelp = `usher runs as a process of its own. Around it the demo runs what a user brings along: three small HTTP servers, clients
that come and go, and 20 long connections. Everything is on 127.0.0.1 alone, and all of it ends with the demo.

  1 2 3   kill a backend, as kill -9 does: requests that it has in hand are lost, and their clients ask again. The key
          again, or 10s, bring it back. While all are dead, clients wait (--wait 15s).
  r       adds a fourth backend to the config file and reloads it, or takes it away again
  u       upgrades usher to the program that now stands at its path: the same process, every connection stays (Linux)
  q       ends the demo, as Ctrl-C does

Where there is no terminal, this happens by itself, a step every 5s. A client has failed when it got no reply in 20s, or
when its long connection ended while the backend lived. "asked again" and "opened again" count what a dead backend cost.

Flags
  -s, --scheduler ALG              rr (default), lc, mh ... (usher help schedulers)
  --engine auto|epoll|portable     --workers N     --log-level debug|info|warn|error (default warn)
`

const checkHelp = `  usher check -c usher.yaml

The words and flags are those of usher itself. Names are not looked up, and nothing is bound. Exit status: 0 usher could
begin, 1 the file or the plan is refused, 2 wrong words.
`

const configHelp = `  usher config                     the plan of the running usher: of its file, its command line and its API together
  usher config -c usher.yaml       that of a file, without starting it
  usher config 8080=9001 -s lc     that of a command line: a config file to begin with

usher -c FILE runs the same plan from what is printed.
`

const upgradeHelp = `Another binary goes on: the file that now stands where the running one was, or
--binary PATH. A child tries it on the state first. Then the process becomes that
binary. Its PID, listeners, flows and what was set by hand stay; the log says how
long clients had to wait. If the new binary cannot go on, the old one does.

Options of the process stay as they are. usher events connects again. Upgrades
need Linux and the engine epoll.
`

const stopHelp = `SIGTERM and Ctrl-C do the same, and so does SIGHUP without a config file, as from
a terminal that closes (nohup prevents it). usher closes its listeners. Flows may
go on until --drain-timeout: 30s, or 5s if usher runs on a terminal. A second
SIGTERM or Ctrl-C ends them at once.
`

const lsHelp = `Without --name, the services of all running ushers of this user are listed.

  STATUS of a service      up: all of its backends are in use; degraded: some; down: none
  STATUS of a backend      up, down, drain, maint or unknown; SINCE is how long it has been so, REASON why
  OVERRIDE                 what was set by hand (usher drain, maint, set backend), until usher resume
  FAILED                   flows that were not served; of a backend its failed connects and flows
  REFUSED                  clients that were not let in (usher help access), with -o wide; of one service by reason
  UP, DOWN                 bytes from clients to backends, and back
  CONNECT                  the smoothed time that a connect to the backend takes

With -o wide there are rates, for which usher ls looks twice, a second apart, or after each --watch; and a line about
the process with its CPU seconds.
`

const flowsHelp = `A flow is one TCP connection, or all that one client address sends to one UDP listener. Rows come as they are
found, in no order. --sort orders them, and keeps as many as --top says.

  RATE                     the flow's bytes per second, both ways, over its whole age
  RTT                      to the client, as the kernel measures it (with -o wide, json or yaml)

  usher flows --client 10.0.0.0/8 --min-idle 1h --kill
  usher flows --service web --sort bytes --top 20 --watch
  usher flows --denied --kill           after a change of the rules, or of --allow and --deny

--denied judges by addresses, ports, protocols and how many flows live. Rules with a rate or a memory (limit, hashlimit,
recent, statistic) are passed over, and the limits of services say nothing of flows that live.
`

const rulesHelp = `The columns are those of iptables. A rule's PKTS are the flows that it matched, each of them once, and the datagrams
that were refused. BYTES are of these datagrams, and of the flows that the rule decided, both ways. -o wide has all
digits, -o json the rules as iptables -S prints them, and their owners.

  usher rules
  usher rules INPUT --watch
  usher flows --denied --kill      ends the flows that would not be let in any more
`

const addRuleHelp = `  usher add rule '-s 10.0.0.0/8 -p tcp --dport 8080 -j DROP'

Each rule is one word, in quotes. usher help iptables explains them.
`

const setRulesHelp = `  usher set rules --policy DROP '-s 10.0.0.0/8 -j ACCEPT' '-i lo -j ACCEPT'
  usher set rules '-N web' '-A web -s 192.0.2.0/24 -j REJECT' '-p tcp --dport 8080 -j web'

Each rule is one word, in quotes (usher help iptables). They replace all rules of the API, and come after those of
the command line and of the file. Rules that stay keep their counters. Running flows stay: usher flows --denied shows
those that the rules would refuse now.
`

const eventsHelp = `  status                   of a service (up, degraded, down) or a backend (up, down, drain, maint, unknown)
  added, changed, removed  a service, or a backend of one
  ejected, readmitted      a backend, by --eject
  weight                   of a backend
  override                 what is set by hand
  rules                    the rules have changed; TO is their number, and the policy
  reload                   of the config file; TO is done or refused
  upgrade                  of the program; TO is done or refused
  lost                     how many events are missing here, because they were not read in time
`

// serviceFlagsHelp says where the flags of services are.
const serviceFlagsHelp = `Flags of services are those of usher --help. usher help listeners, backends, schedulers, health, udp,
access, proxy and sni explain them.
`

const addServiceHelp = `  usher add service 8081=9001,9002
  usher add service web -l :8081 -b 10.0.0.1:80 -b 10.0.0.2:80@3 --scheduler wlc

` + serviceFlagsHelp + `A value without NAME= is for this service.
`

const addBackendHelp = `  usher add backend web 10.0.0.3:80@2,max=100

The options of a backend are those of usher help backends.
`

const setServiceHelp = `  usher set service web --scheduler mh --idle-timeout 1h

` + serviceFlagsHelp + `--listen and --backend replace all listeners and backends.
A service belongs to the source that it came from: one of a file is changed in the file.
`

const setBackendHelp = `  usher set backend web 10.0.0.1:80@3
  usher set backend web 10.0.0.1:80,max=100

If usher add has not made the service, the weight is set by hand, as by usher drain, and usher resume takes it back.
`

const rebalanceHelp = `Backends that have more flows than the share of their weight lose the surplus, the longest idle first. Their clients
connect again, and go where the scheduler sends new flows. Ctrl-C stops it where it is.

With -o json there is a line for each step.
`

const completionHelp = `  bash      source <(usher completion bash)          in ~/.bashrc
  zsh       source <(usher completion zsh)           in ~/.zshrc, behind compinit
  fish      usher completion fish | source           in ~/.config/fish/config.fish

Commands, flags and their values are completed, and the services and backends of the running usher.
`

const readyHelp = `  usher ready              the running usher serves, and does not drain
  usher ready web          and the service web has a backend in use

It prints ready and has exit status 0, or says why not and has 1: for scripts, the HEALTHCHECK of a container, and exec
probes of Kubernetes. An answer must come within 5s. GET /readyz is the same over HTTP (usher help control).
`

const manHelp = `  usher man >~/.local/share/man/man1/usher.1

The page has all commands, flags and topics in one text.
`

// help prints a page.
func (p *program) help(c *cli.Context) error {
	words := c.Args().Slice()
	if len(words) == 1 {
		if page, ok := topics()[words[0]]; ok {
			_, err := io.WriteString(p.stdout, page)
			return err
		}
	}
	var l line
	l.command = p.root
	if l.find(words, nil); len(l.path) < len(words) {
		return usageError{noHelp(strings.Join(words, " "), p.root)}
	}
	if slices.Equal(l.path, []string{"help"}) {
		l.path, l.command = nil, p.root
	}
	_, err := io.WriteString(p.stdout, helpPage(l.path, l.command))
	return err
}

// helpPage is the page of a command: what it does, its words, its flags.
func helpPage(path []string, c *cli.Command) string {
	if len(path) == 0 {
		return rootHead + commandsHelp(c) + topicsLine() + rootTail
	}
	var b strings.Builder
	name := "usher " + strings.Join(path, " ")
	fmt.Fprintf(&b, "%s: %s\n\nUsage\n", name, c.Usage)
	for _, sub := range c.Subcommands {
		writeOption(&b, commandWidth, strings.TrimSpace(name+" "+sub.Name+" "+sub.ArgsUsage), sub.Usage)
	}
	if len(c.Subcommands) == 0 {
		fmt.Fprintf(&b, "  %s\n", strings.TrimSpace(name+" [flags] "+c.ArgsUsage))
	}
	if c.Description != "" {
		fmt.Fprintf(&b, "\n%s", c.Description)
	}
	head, flags := "\nFlags\n", c.Flags
	if len(c.Subcommands) > 0 {
		flags = c.Subcommands[0].Flags // topical ones apart, all commands of a group have the same
	}
	for _, f := range flags {
		if isTopical(f) {
			continue
		}
		form, text := usageOf(f)
		b.WriteString(head)
		head = ""
		option := "--" + f.Names()[0] + form
		for _, short := range f.Names()[1:] {
			option = "-" + short + ", " + option
		}
		writeOption(&b, commandWidth, option, text)
	}
	return b.String()
}

// commandsHelp lists the commands below the root by their groups.
func commandsHelp(root *cli.Command) string {
	var b strings.Builder
	group := ""
	for _, c := range root.Subcommands {
		if c.Category != group {
			group = c.Category
			fmt.Fprintf(&b, "\n       %-14s %s", group, c.Name)
			continue
		}
		b.WriteString("   " + c.Name)
	}
	return b.String()[1:] + "\n"
}

// topicsLine lists the pages that are about no command.
func topicsLine() string {
	return "  usher help " + strings.Join(manTopics(), "|") + "\n"
}

// usageOf splits the usage of a flag, "FORM\ttext", into its parts. A form that is not empty follows a blank, or = if it
// may be left out.
func usageOf(f cli.Flag) (form, text string) {
	usage := f.(cli.DocGenerationFlag).GetUsage()
	form, text, found := strings.Cut(usage, "\t")
	switch {
	case !found:
		return "", usage
	case strings.HasPrefix(form, "["):
		return form, text
	}
	return " " + form, text
}
