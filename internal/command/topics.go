package command

import (
	"fmt"
	"strings"

	"usher/balancer"
)

// topics are the pages of usher help WORD.
func topics() map[string]string {
	return map[string]string{"schedulers": schedulersHelp(), "backends": backendsHelp, "health": healthHelp}
}

// schedulersHelp lists what the balancer has.
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
The default is rr, or wrr where backends differ in weight. ipvs asks for exactly what the kernel's scheduler of that
name does; without it usher does what is sensible for a proxy (the table is in the documentation of package balancer).

  --hash-key addr|addr-port|dst|dst-port[/BITS[/BITS6]]
                               what mh, sh, ring and hrw hash: the client's address (default), or what it asked for;
                               /24 or /24/64 is how many bits of the address count
  --hash-balance 125           no backend gets more than 125 % of its fair share; the clients beyond go to the next one
  --persist 300s[/24[/64]]     a client (of a /24) goes back to its backend until it was away for 300s;
                               ,quiesced=leave also if that has weight 0 or drains, ,overloaded=leave if it is over its
                               upper threshold: then it chooses anew (IPVS stays)
`

const backendsHelp = `Backends: --backend [NAME=]ADDR[@WEIGHT][,OPTION...]

  @WEIGHT            share of new flows under schedulers that weigh; 0: nobody new
  ,backup            used while no other backend is up, and for clients that all others have failed
  ,max=N             never more flows than this; with all backends full, clients wait in the queue or are refused
  ,upper=N ,lower=N  thresholds as in IPVS: no new flows from N on, until there are fewer than lower (3/4 of upper)
  ,check=PORT        where it is checked instead: another port, or IP:PORT
  ,agent=PORT        where its agent is, in the same way: see --agent

What becomes of them, [NAME=]VALUE as all options of services:

  --queue LENGTH,TIME          clients wait, first come first served, while every backend has its max
  --slow-start TIME            a backend that has come up gets its weight bit by bit
  --max-age TIME[,jitter=10%]  ends flows that last longer, so that long ones spread again
  --on-down HOW[,TIME]         the flows of a backend that fails its checks, or whose agent says down: keep (default of
                               tcp), fin or reset them (default of udp), with TIME after that time
  --on-drain HOW[,TIME]        the same for one that drains or is in maintenance; default: keep
  --on-remove HOW[,TIME]       the same for one that is removed, because its name has another address
  --eject N[,time=10s][,share=50%]
                               N failures in a row take a backend out for a while, and for longer each time, up to 5m;
                               at most a share of them at once, and never the last
  --agent PORT[,send=TEXT][,interval=2s][,timeout=1s]
                               asks a port of each backend's address what the backend wants. The answer is a line of
                               words, as for HAProxy's agent-check: 75% (of its weight), maxconn:30, drain (no new
                               clients), maint (no new flows, of nobody), ready (ends both), down, up. What is left
                               out stays, also when the agent has gone
  --panic SHARE                with a smaller share of backends up, those that are down are used too
`

const healthHelp = `Health checks: --health [NAME=]SPEC, where SPEC is one of

  off                          backends are taken to be up
  tcp                          connects and closes; the default of tcp services
  tcp:send=TEXT,expect=TEXT    a conversation: any number of both, in the order in which they happen
  tcps[:send=TEXT,expect=...]  a TLS handshake, and a conversation if there is one
  http:/PATH, https:/PATH      ,method=GET ,host=NAME ,status=200-399 ,expect=TEXT (in the body)
  grpc[:SERVICE], grpcs        grpc.health.v1
  exec:PROGRAM ARG ...         exit status 0 is good; USHER_BACKEND is the backend's address
  udp                          fails if the datagram is refused
  udp:send=TEXT,expect=TEXT    wants a reply
  dns:NAME                     wants any answer to a question

then, each after a comma:

  interval=2s   timeout=1s   rise=2   fall=3
  interval-down=, interval-change=     the interval while down, and while changing; default: interval
  port=N                               checks another port of the backend
  of https, grpcs and tcps: sni=NAME   ca=FILE   verify=off
  TEXT may have \r \n \t \xNN \\ \, and hex:DIGITS stands for bytes; in expect= of a conversation | stands
  between texts of which one must come, and ^ before those that must come next

for example

  redis       --health 'tcp:send=PING\r\n,expect=^+PONG\r\n'
  SMTP        --health 'tcp:expect=^220,send=QUIT\r\n,expect=221'
  PostgreSQL  --health 'tcp:send=hex:0000000804d2162f,expect=^S|N'
`
