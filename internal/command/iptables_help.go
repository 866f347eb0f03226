package command

const iptablesHelp = `Rules in iptables' words: who may come in, for all services

  usher 8080=9001 --rule '-s 10.0.0.0/8 -p tcp --dport 8080 -j ACCEPT' --rule '-j LOG --log-prefix "no: "' --policy DROP

A rule is one word of the shell, and one string of the list "rules" of a file, whose policy is the key "policy". It is
appended to INPUT, which every new connection and every datagram without a flow enters; the first rule that matches and
has a deciding target ends it, and the policy if there is none (ACCEPT unless given). A flow that was let in is not
judged again: usher flows --denied shows those that today's rules would refuse.

  -A CHAIN, -I CHAIN [N]       appends to a chain, or inserts at a place of it; -A INPUT may be left out
  -N CHAIN                     makes a chain, before rules are in it or jump to it
  [!] -s ADDR[/BITS][,...], [!] -d ...
                               the client, and the address that it asked for; a list makes a rule of each. Addresses of
                               both families stand in one list: 0.0.0.0/0 is any of IPv4, ::/0 any of IPv6
  [!] -i NAME[+]               the interface; + at the end: all whose names begin so
  [!] -p tcp|udp|all           then [!] --sport, --dport PORT, FIRST:LAST, FIRST: or :LAST
  -m multiport                 [!] --sports, --dports, --ports LIST     up to 15; a range counts as two
  -m connlimit                 --connlimit-above|-upto N  --connlimit-mask BITS  --connlimit-saddr|-daddr
  -m hashlimit                 --hashlimit-upto|-above RATE  -burst N  -mode srcip,srcport,dstip,dstport  -name NAME ...
  -m limit                     --limit RATE (10/sec, 5/min, 3/hour, 1/day)  --limit-burst N
  -m recent                    [!] --set|--rcheck|--update|--remove  --seconds N  --hitcount N  --name NAME  --mask MASK
  -m statistic                 --mode random --probability P, --mode nth --every N --packet N
  -m conntrack                 --ctstate NEW is true of every new flow; ESTABLISHED and RELATED are let in anyway, and
                               INVALID never occurs: rules for those have no effect. --syn is true of every connection
  -m comment                   --comment TEXT
  -j ACCEPT|DROP|REJECT|LOG|RETURN|CHAIN
                               REJECT resets a client of tcp, and DROP holds it unanswered; either ignores a datagram.
                               RETURN goes back to where the chain was called; LOG, or no target, goes on

usher add rule, set rules and rm rules change those of the API, and usher reload those of the file, in one step. Behind
a PROXY header, -s is the client that it names, and -d the address of usher that the peer asked for. Counters, rates and
memories go on through usher upgrade.

What needs the kernel (FORWARD, nat, icmp, marks, owners, headers of packets) is refused with the reason. Rules of the
command line come before those of the file, and these before those of the API. A chain, or the policy, belongs to one
of them. The kernel's own rules come first, and judge the clients of all programs.
`
