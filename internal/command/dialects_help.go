package command

const dialectCommandHelp = `usher help dialects says what these programs are here, and which running usher they ask.
`

const dialectsHelp = `Dialects: usher speaks ipvsadm, without root. Scripts type what they always typed, and see what they saw

  usher ipvsadm -A -t 127.0.0.1:8080 -s wrr
  usher ipvsadm -a -t 127.0.0.1:8080 -r 10.0.0.1:80 -m -w 3
  usher ipvsadm -Ln --stats         usher ipvsadm-save -n >FILE         usher ipvsadm-restore <FILE
  ln -s usher ipvsadm               the binary answers to the name as well

The words, the output and the exit status are those of ipvsadm 1.31; words of usher do not stand among them. The only
running usher is asked. Where several run, USHER_NAME=NAME or USHER_CONTROL=PATH chooses it, or usher --name NAME
ipvsadm ...

ipvsadm lists the services of all owners, and changes those of the owner ipvsadm alone; usher ls shows them as
tcp:10.0.0.1:80. They go on through usher upgrade, and a restart begins without any, as a boot does.

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
`
