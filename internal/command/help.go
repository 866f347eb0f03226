package command

import "runtime/debug"

// hint is what somebody sees who gives no words at all.
const hint = `nothing to do
  usher 8080=9001,9002   listen on port 8080, two local backends
  usher demo             backends, a service and something to look at
  usher --help           all the rest`

// help is one screen. It is a template for the library, so templates of addresses must be quoted.
const help = `usher seats every connection: a layer-4 load balancer in one binary that runs as you.

Usage
  usher [flags] LISTEN=BACKEND[,BACKEND...] ...
  usher [flags] --listen [NAME=]ADDR --backend [NAME=]ADDR[@WEIGHT] ...
  usher demo

Examples
  usher 8080=9001,9002                          two local backends behind 127.0.0.1:8080
  usher :80=10.0.0.1,10.0.0.2:8080 -s lc        all addresses; a backend without a port gets the client's
  usher udp:5353=1.1.1.1:53,8.8.8.8:53          udp, here a name server; --udp-replies 1 ends a flow with its answer
  usher -l web=:8080 -b web=10.0.0.1:80@3 -b web=10.0.0.2:80 -s web=mh -l db=5432 -b db=db.local:5432 --health db=off

Addresses
  8080 (of 127.0.0.1)   :8080 (all, IPv4 and IPv6)   10.0.0.1:80   [fd00::1]:80   db.local:5432 (as backend: every A
  and AAAA record)   udp:5353 (the same of udp)   unix:///run/app.sock   10000-10100
  {{ "'{{ GetPrivateIP }}:8080'" }} (go-sockaddr template)

Flags of services, repeatable; NAME=VALUE is for one (LISTEN=BACKEND makes one named as its port), VALUE alone for all
  -l, --listen ADDR              where clients connect
  -b, --backend ADDR[@WEIGHT]    where they are sent; ,backup ,max=N ... may follow (usher help backends)
  -s, --scheduler ALG[,FLAG]     rr, wrr, lc, wlc, p2c, ewma, mh ... (usher help schedulers); --hash-key addr/24,
       --hash-balance 125 and --persist 300s/24 say what goes together
  --health SPEC                  off, tcp, http:/path, grpc, exec: ... (usher help health); default tcp, of udp off
  --fail open|closed             with all backends down: try them anyway (default), or refuse clients
  and what becomes of backends, all off by default (usher help backends): --panic 50%   --eject 5   --slow-start 30s
       --max-age 1h   --agent 9100   --on-down keep|fin|reset   --on-drain keep|...   --on-remove keep|...
  of tcp and unix: --connect-timeout 5s   --idle-timeout off   --half-close-timeout 5m   --queue off (or 100,5s)
       --wait off (or for how long a client is held while there is no backend for it)
  of udp: --udp-idle-timeout 60s   --udp-unreplied-timeout 30s   --udp-replies 0 (how many end a flow; 0: not counted)
       --max-flows 0   --max-client-flows 0 (of one address)   --ops[=NAME=true] (each datagram has its own backend)

Flags of the process
  --drain-timeout 30s            default; how long flows may go on after SIGTERM, 0 cuts them at once
  --max-conns N, --workers N     default: from the limit of descriptors, from the CPUs
  --engine auto|epoll|portable   default auto
  --log-format console|json      default: console on a terminal, json elsewhere
  --log-level LEVEL              debug, info (default), warn, error
  --access-log                   a line a flow: a connection, or a client of udp
  -v, --version   -h, --help
`

const demoHelp = `usher demo starts three small HTTP backends and a service in front of them, on 127.0.0.1 alone. Ctrl-C ends it.

Flags
  -s, --scheduler ALG              rr (default), lc, mh ... (usher help schedulers)
  --engine auto|epoll|portable     --workers N     --log-level debug|info|warn|error (default warn)
`

// version is what the build knows about itself: a module version, or the commit of a checkout.
func version() string {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return "unknown"
	}
	if v := info.Main.Version; v != "" && v != "(devel)" {
		return v
	}
	for _, s := range info.Settings {
		if s.Key == "vcs.revision" && len(s.Value) >= 12 {
			return "devel-" + s.Value[:12]
		}
	}
	return "devel"
}
