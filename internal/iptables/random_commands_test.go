package iptables

import (
	"fmt"
	"math/rand/v2"
)

// randomCommand is a command on a table, which may fail.
func randomCommand(r *rand.Rand, table string) string {
	pick := func(of ...string) string { return of[r.IntN(len(of))] }
	builtin := builtinChains(table)
	chain := func() string {
		if oneIn(r, 2) {
			return builtin[r.IntN(len(builtin))]
		}
		return pick("a", "b", "web", "KUBE-SVC-ERIFXISQEP7F7OF4", "NOPE")
	}
	number := func() string { return fmt.Sprint(1 + r.IntN(4)) }
	options := pick("", "", "", " -v", " -w", " -w 5", " -n", " -4")
	prefix := "-t " + table + " "
	switch r.IntN(16) {
	case 0, 1, 2, 3, 4:
		c := chain()
		return prefix + pick("-A "+c, "-A "+c, "-I "+c, "-I "+c+" "+number()) + " " + randomLine(r, table, c) + pick("", "", " -v", " -c 5 123456")
	case 5:
		c := chain()
		return prefix + pick("-D ", "-C ", "-D ") + c + " " + randomLine(r, table, c)
	case 6:
		return prefix + "-D " + chain() + " " + number() + options
	case 7:
		c := chain()
		return prefix + "-R " + c + " " + number() + " " + randomLine(r, table, c)
	case 8, 9:
		return prefix + "-N " + pick("a", "b", "web", "KUBE-SVC-ERIFXISQEP7F7OF4") + options
	case 10:
		return prefix + pick("-X", "-X "+chain(), "-E a c", "-E b "+chain(), "-E c a") + options
	case 11:
		return prefix + pick("-F", "-F "+chain(), "-Z", "-Z "+chain(), "-Z "+chain()+" "+number()) + options
	case 12:
		return prefix + "-P " + chain() + " " + pick("ACCEPT", "DROP", "RETURN") + options
	case 13:
		return prefix + pick("-S", "-S "+chain(), "-S "+chain()+" "+number(), "-S -v", "-S -Z")
	}
	return prefix + pick("-L", "-L "+chain(), "-L "+chain()+" "+number(), "-L -Z") + pick("", " -n", " -nv", " -nvx --line-numbers", " -v", " -n --line-numbers")
}

// randomLine are the conditions and the target of a rule for a chain.
func randomLine(r *rand.Rand, table, chain string) string {
	pick := func(of ...string) string { return of[r.IntN(len(of))] }
	maybe := func(n int, words string) string {
		if oneIn(r, n) {
			return words
		}
		return ""
	}
	protocol := pick("", "tcp", "udp", "tcp")
	line := maybe(3, pick("-s 10.0.0.0/8 ", "! -s 192.168.1.1 ", "-s 1.2.3.4,2.3.4.5 ", "-s 0.0.0.0/0 ")) +
		maybe(4, pick("-d 10.1.2.3 ", "! -d 10.0.0.0/9 ", "-d 10.1/16 ")) + maybe(6, pick("-i eth0 ", "! -i docker+ ")) + maybe(9, "-o eth1 ") +
		maybe(9, pick("-f ", "! -f "))
	if protocol != "" {
		line += "-p " + protocol + " "
		line += maybe(3, pick("--dport 80 ", "! --dport 1000:2000 ", "--sport :1023 ", "-m "+protocol+" --dport 8443: "))
		line += maybe(6, pick("-m multiport --dports 80,443,8000:8010 ", "-m multiport ! --sports 1:5 "))
	} else {
		line += maybe(9, pick("-p icmp --icmp-type 8 ", "-p icmp ! --icmp-type echo-reply ", "-p sctp ", "! -p 47 "))
	}
	line += maybe(5, pick("-m comment --comment \"a b\" ", "-m conntrack --ctstate NEW,ESTABLISHED ", "-m state ! --state INVALID ",
		"-m limit --limit 5/min ", "-m statistic --mode random --probability 0.25 ", "-m mark --mark 0x4000/0x4000 ", "-m mark ! --mark 7 ",
		"-m addrtype --dst-type LOCAL ", "-m addrtype ! --src-type LOCAL,UNICAST ", "-m recent --name x --rcheck --seconds 10800 --reap ",
		"-m statistic --mode nth --every 3 --packet 1 ", "-m connlimit --connlimit-above 5 "))
	targets := []string{"ACCEPT", "RETURN", "DROP", "LOG", "LOG --log-prefix \"x: \" --log-level 3 --log-uid", "a", "b", "web", "NOPE"}
	switch {
	case table == "filter":
		targets = append(targets, "REJECT", "REJECT --reject-with icmp-host-prohibited", "REJECT --reject-with tcp-reset")
	case table == "nat" && (chain == "PREROUTING" || chain == "OUTPUT"):
		targets = append(targets, "DNAT --to-destination 10.2.3.4", "DNAT --to-destination 10.2.3.4:8080 --random",
			"DNAT --to-destination 1.2.3.4-1.2.3.9:80-90 --persistent", "REDIRECT", "REDIRECT --to-ports 81")
	case table == "nat" && chain == "POSTROUTING":
		targets = append(targets, "SNAT --to-source 1.2.3.4", "SNAT --to-source 1.2.3.4:1000-2000", "MASQUERADE", "MASQUERADE --random-fully")
	case table == "mangle":
		targets = append(targets, "MARK --set-mark 5", "MARK --or-mark 0x4000", "MARK --and-mark 0xff", "MARK --set-xmark 0x4000/0x4000")
	}
	return line + maybe(1, pick("-j ", "-j ", "-j ", "-j ")+pick(targets...))
}
