package command

const dialectCommandHelp = `Words are those of the program: add -h to list them. Flags of usher stand before its name: usher --name NAME ...
usher help dialects says how usher differs, and which running usher is asked.
`

const dialectsHelp = `Dialects: usher speaks ipvsadm, iptables and conntrack, without root. Scripts type what they always typed

  usher ipvsadm -A -t 127.0.0.1:8080 -s wrr
  usher ipvsadm -a -t 127.0.0.1:8080 -r 10.0.0.1:80 -m -w 3
  usher ipvsadm -Ln --stats         usher ipvsadm-save -n >FILE         usher ipvsadm-restore <FILE
  usher iptables -t nat -A PREROUTING -d 127.0.0.1 -p tcp --dport 8443 -j DNAT --to-destination 10.0.0.1:443
  usher conntrack -L -o extended    usher conntrack -D -s 192.0.2.7       usher conntrack -E
  ln -s usher ipvsadm               the binary answers to the name as well

Words, output and exit status are those of ipvsadm 1.31, iptables 1.8.9 and conntrack 1.4.7. The only running usher is
asked. Of several, USHER_NAME=NAME or USHER_CONTROL=PATH chooses one, or usher --name NAME ipvsadm ... Services and
rules survive usher upgrade. A restart begins without any, as a boot does: save before, restore after.

A service listens on its address, which must be one of this machine. Ports below 1024 need privilege.

ipvsadm lists the services of all owners, and changes those of the owner ipvsadm alone; usher ls shows them as
tcp:10.0.0.1:80.

  -m                the only way to a server: usher connects to it from its own address (full NAT). -g, the default of
                    ipvsadm, and -i are refused
  -s ALG            schedules exactly as the kernel does, newest server first, ties included
  -p, -M, -x, -y    persistence with its templates, and thresholds, as in the kernel
  --set T F U       idle-timeout, half-close-timeout and udp-idle-timeout of all services of ipvsadm
  -t ADDR:80-90     a range of ports; port 0 (all ports) is refused
  -f MARK           serves the addresses that rules with -j MARK name
  -C, -d            a removed server's connections go on until they end; its udp flows end at once
  -R                is one change, which goes on behind a line that is refused

There are no health checks, as in IPVS: a server that refuses a connection is passed over for that client. No server, or
none in use: clients are refused at once. Counters are of payload bytes, and of flows; -Z leaves metrics alone.

iptables shows and changes the rules of the owner iptables. INPUT of the table filter judges clients (usher help
iptables); DNAT and REDIRECT are services; MARK names addresses for -f. What usher cannot do is refused with the reason,
and left out by iptables-restore, which says so line by line; with --strict it refuses all.

conntrack shows the flows of all owners: the client's addresses first, then what the backend sees. A closed connection
has no entry: there is no TIME_WAIT. -D and -F end flows. -I and -U are refused, and the table expect is empty. The
files of --proc DIR have the same figures in the kernel's formats (usher help control).
`
