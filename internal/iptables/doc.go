// Package iptables is the language of iptables 1.8.9 and the tables that its commands change.
//
//	a line ─ ParseRule ─▶ Command              a rule of the front door: -A, -I, -N and -P
//	lines  ─ Build ─────▶ rules.List           all its chains, with the jumps between them checked
//	rules.Rule ─ Format ─▶ a line              what iptables -S prints; ParseRule reads the same rule from it
//
//	argv ─ ParseArgs ─▶ Command ─ Do ─▶ Tables   one command on a clone of the tables, with what it prints
//	text ─ Restore ─▶ Tables ─ Save ─▶ text      each table at its COMMIT, or not at all
//	Rule ─ Front ─▶ rules.Rule                   a rule of the table filter, for the front door
//
// One parser reads both: options as getopt_long reads them, in grammar.forDoor without what a proxy cannot judge. Each
// match extension has a file: its flags, its line and its listing. What exists in a kernel alone is in refused.go, with
// the reason; CheckMeaning refuses it in a running usher. Messages, columns and statuses are iptables' own.
//
// A Table is in its first state until a command uses it, and so is a built-in chain: iptables-save and -Z tell that.
// Tables are copied when they change: a clone costs the same for any number of rules, and a change of a chain copies the
// pointers of its rules.
//
// Rules see new flows of TCP and UDP, over IPv4 and IPv6 alike. So one list has the addresses of both families. In a line
// of the front door 0.0.0.0/0 is a condition: any address of IPv4. In tables it is none, as in iptables; rules without
// an address, and policies, are for both families, and -s takes addresses of IPv6 as well.
package iptables
