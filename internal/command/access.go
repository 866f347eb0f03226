package command

const accessHelp = `Access: who may come in, how often, and as whom

A client passes these, in this order. In the access log and the metrics a refused client has the word in brackets:

  1. a PROXY protocol header from a peer that sends them (usher help proxy) names the client [bad-proxy-header]
  2. the rules, in the syntax of iptables (usher help iptables) [denied]
  3. --allow, --deny: the longest prefix that the client is in decides. Clients in none are let in, unless there is an
     --allow [denied]
  4. --max-client-conns [client-limit], of udp --max-client-flows; --client-rate, --rate [rate-limited]
  5. the server name, where services share an address (usher help sni) [no-sni]; then 3 and 4 of the service that has it

A refused client of tcp is reset. It has seen its connection accepted, since the kernel does that before usher is asked.
A refused datagram is ignored. A rule may also drop a client: it gets no answer, and is closed after --drop-timeout, or
when room is short. It knows that a port is there; only a packet filter can hide that. Clients of unix sockets have no
address and pass 1 to 4. Running flows stay; usher flows --denied shows those that 2 and 3 would refuse now. The access
log has at most one line a second for each service and reason of refusal.

Options, [NAME=]VALUE as all options of services; CIDR,... are prefixes or addresses, off is none:

`

const accessProcessHelp = `
Options of the process:

`

const sniHelp = `Server names: services share an address, and the name in the first message of TLS (ClientHello) chooses the service

  usher -l 'web=:443,sni=www.example.com' -b web=10.0.0.1:443 -l 'api=:443,sni=*.api.example.com' -b api=10.0.0.2:443 \
        -l 'grpc=:443,alpn=h2' -b grpc=10.0.0.3:443 -l rest=:443 -b rest=10.0.0.4:443

  ,sni=NAME      clients that ask for this name; *.NAME stands for all names below NAME, of any depth
  ,alpn=PROTO    clients that offer this protocol; with sni both must match

They follow any address of tcp or unix. The name itself wins over a wildcard, a longer wildcard over a shorter one, and
any name over alpn alone. Of two listeners for one name, the one whose protocol the client offers wins. A listener
without both takes all other clients. If there is none, they are reset [no-sni], and so is a client whose hello is late.
Lists and limits of a service judge a client once its hello has come. Until then it takes a place of --max-conns, which
--sni-timeout and rules bound: --rule '-p tcp --dport 443 -m connlimit --connlimit-above 20 -j REJECT'

Nothing is decrypted: the hello passes unchanged to the backend, which has the certificate. Until the hello has come, a
client counts for the listener without both, or for the first one, and has the timeouts of that service. Services at one
address have the same --accept-proxy and --accept-proxy-only. Where the server speaks first, as in SMTP, FTP, MySQL, or
before STARTTLS, clients send no hello first: such a service needs an address of its own.

Options, [NAME=]VALUE as all options of services:

`

const proxyHelp = `PROXY protocol: a header before the first byte names the client, as HAProxy, nginx and load balancers of clouds send it

  usher 8080=9001 --accept-proxy 10.0.0.5,10.0.0.6      behind two other balancers
  usher 8080=9001 --send-proxy v2                       in front of a server that shall know its clients

The address in the header is the client everywhere: in rules, limits, hashes, persistence, the access log (which has the
peer as well) and usher flows. From the peers of --accept-proxy the header is required, v1 or v2; a wrong, late or
missing one ends that client [bad-proxy-header]. Health checks of usher from such a peer must send it, too; a header
without addresses (v1 UNKNOWN, v2 LOCAL) leaves the peer as the client. A peer can name any client: list trusted ones.

A backend must expect what --send-proxy sends, or it takes the header for data of the client. With --health ...,proxy
checks send one as well.

Datagrams have v2 alone. The first one of a flow from a listed peer needs the header, later ones may have it. A backend
gets it with the first one, and with the next ones until it replies, since datagrams get lost; with ,every on each one.

Options, [NAME=]VALUE as all options of services (a switch: --send-proxy-id=NAME=true); CIDR,... are prefixes or
addresses, off is none:

`
