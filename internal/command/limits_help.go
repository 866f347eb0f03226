package command

const limitsHelp = `Limits: how much usher takes, who makes room, and what it cannot do

Flows. A flow has two descriptors, so their limit bounds flows. usher raises it as far as it may, derives --max-conns
from it, and prints both at start. ulimit -n raises the limit, in a unit of systemd LimitNOFILE=. A udp flow has a local
port as well: some 26,000 by default (15/16 of net.ipv4.ip_local_port_range).

Room. Half of --max-conns is divided among the services as reserves, which no other service can take; --reserve sets the
one of a service. The rest is shared. The local ports of udp services are shared in the same way. One client address has
at most half of a udp service's flows (--max-client-flows). Without room for a new client, usher ends a flow, in this
order:

  1. a udp flow that has waited for its first reply for 1s
  2. the udp flow that was idle longest, for 5s at least
  3. with --reclaim-idle TIME, the connection that was idle longest, for TIME at least

Clients that are turned away are counted, and logged every 10s by reason, with the option to change.

Pipes. Bulk moves through pipes of the kernel. An ordinary user has 64 MiB of them (fs.pipe-user-pages-soft). What goes
beyond is copied, which costs more CPU time.

What usher cannot do:

  - A backend sees usher's address, unless --send-proxy tells it the client's.
  - The kernel accepts a connection before usher sees it. Only a packet filter hides a port.
  - Urgent data (MSG_OOB) is dropped.
  - The health check of a backend with a range of ports checks its first port.
  - Clients at link-local addresses of IPv6 are told apart by address, not by link.
  - After an upgrade --rate and --client-rate begin anew. --max-client-conns counts the connections that came since the
    service had it.

Outside of Linux there is the portable engine alone. It does not know what a peer has acknowledged: timeouts count what
was written, and a side that fails after its half-close ends the flow at once. A peer that vanished while data was on
its way is noticed when the kernel stops sending it again, on Linux after a minute.
`
