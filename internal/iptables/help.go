package iptables

// Help is what -h prints.
const Help = `iptables ` + Version + `

Usage: iptables -[ACD] chain rule-specification [options]
       iptables -I chain [rulenum] rule-specification [options]
       iptables -R chain rulenum rule-specification [options]
       iptables -D chain rulenum [options]
       iptables -[LS] [chain [rulenum]] [options]
       iptables -[FZ] [chain] [options]
       iptables -[NX] chain
       iptables -E old-chain-name new-chain-name
       iptables -P chain target [options]
       iptables -h (print this help information)

usher has the tables filter, nat and mangle: rules of INPUT in filter judge new flows, rules with DNAT or REDIRECT in
nat make services, and -j MARK in mangle names the addresses of a firewall mark. What needs the kernel is refused with
the reason.
`
