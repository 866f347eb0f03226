// Package iptables is the language of iptables' filter table: its words are read into package rules, and written back.
//
//	a line ─ ParseRule ─▶ Command        one command of the language, for -A, -I, -N and -P
//	lines  ─ Build ─────▶ rules.List     all chains of a list, with the jumps between them checked
//	rules.Rule ─ Format ─▶ a line        what iptables -S prints; ParseRule reads the same rule from it
//	Listing.Write                        what iptables -L -n prints, with names of protocols
//
// Each match extension has a file: its flags, its line and its listing. What exists in a kernel alone is in refused.go,
// with the reason. Messages are iptables' own where it has one; an Error adds advice.
//
// Rules see new flows of TCP and UDP, over IPv4 and IPv6 alike. So one list has the addresses of both families, and
// 0.0.0.0/0 is a condition: any address of IPv4.
package iptables
