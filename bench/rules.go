package main

import (
	"fmt"
	"net/netip"
	"strings"
)

// rulesConfig says how large the study is.
type rulesConfig struct {
	sizes  []int // numbers of rules
	lists  []int // likewise, of decisions by themselves
	chains int   // that the largest list is divided into
}

var rulesStudy = rulesConfig{sizes: []int{1, 100, 10_000}, lists: []int{1, 10, 100, 1000, 10_000}, chains: 100}

func (c rulesConfig) largest() int { return c.sizes[len(c.sizes)-1] }

// What is compared.
const (
	byUsher  = "usher"
	byFile   = "HAProxy, ACL file"
	byLines  = "HAProxy, lines"
	byNFT    = "iptables, nf_tables"
	byLegacy = "iptables, legacy"
	decision = "usher: the decision"
	listWalk = "a walk of the list"
)

// The forms of a list.
const (
	noneFits = ""               // no rule fits the clients
	lastFits = "last rule fits" // and lets them in
	inChains = "in chains"      // no rule fits
)

// deniedPrefix and deniedPort are conditions of the i-th rule, which fit no client.
func deniedPrefix(i int) netip.Prefix {
	return netip.PrefixFrom(ipv4(10<<24+uint32(i)<<8), 24)
}

func deniedPort(i int) uint16 { return 9000 + uint16(i%100) }

// ruleLines are n rules in iptables' words. In chains, INPUT jumps to each of them for
// every client. Where the last one matches, it accepts all clients of the loopback network.
func ruleLines(n int, form string, chains int) []string {
	var lines []string
	chain := "INPUT"
	for i := range n {
		if form == inChains && i%(n/chains) == 0 {
			chain = fmt.Sprintf("chain-%02d", i/(n/chains))
			lines = append(lines, "-N "+chain, "-A INPUT -j "+chain)
		}
		line := fmt.Sprintf("-A %s -s %s -p tcp --dport %d -j REJECT", chain, deniedPrefix(i), deniedPort(i))
		if form == lastFits && i == n-1 {
			line = "-A INPUT -s 127.0.0.0/8 -p tcp -j ACCEPT"
		}
		lines = append(lines, line)
	}
	return lines
}

// ruleFile is a file of usher's that has rules alone.
func ruleFile(lines []string) string {
	var b strings.Builder
	b.WriteString("rules:\n")
	for _, line := range lines {
		fmt.Fprintf(&b, "  - %q\n", line)
	}
	return b.String()
}

// restoreText is what iptables-restore reads. Packets of connections that were let in are so at
// once, as with usher; only new ones meet the list.
func restoreText(lines []string) string {
	var chains, rest strings.Builder
	rest.WriteString("-A INPUT -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT\n")
	for _, line := range lines {
		if name, isChain := strings.CutPrefix(line, "-N "); isChain {
			fmt.Fprintf(&chains, ":%s - [0:0]\n", name)
			continue
		}
		rest.WriteString(line + "\n")
	}
	return "*filter\n:INPUT ACCEPT [0:0]\n" + chains.String() + rest.String() + "COMMIT\n"
}

// aclFile is the prefixes of n rules, for an ACL of HAProxy, which keeps them in a tree.
func aclFile(n int) string {
	var b strings.Builder
	for i := range n {
		fmt.Fprintln(&b, deniedPrefix(i))
	}
	return b.String()
}

// aclLines are n rules of HAProxy, which looks at them one after the other.
func aclLines(n int) []string {
	lines := make([]string, n)
	for i := range lines {
		lines[i] = fmt.Sprintf("tcp-request connection reject if { src %s } { dst_port %d }", deniedPrefix(i), deniedPort(i))
	}
	return lines
}
