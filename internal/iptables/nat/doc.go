// Package nat makes services of the tables nat and mangle of iptables. It is a pure function of the tables and of the
// addresses of this machine.
//
//	tables ─ compile ─▶ graphs ─ discover ─▶ keys ─ study ─▶ cases ─ assemble ─▶ Result
//
// A key is a protocol, an address and ports that some way through the chains translates. A case is what happens to a group
// of clients of a key: studying evaluates the chains as the kernel walks them, with probabilities instead of chance. What
// first match, RETURN, shadowing and nested chains mean follows from that walk.
//
// The walk begins in PREROUTING. A client of this machine walks OUTPUT first, and PREROUTING where OUTPUT says nothing: a
// socket is there for all who reach it. A client whom the tables do not translate is refused where usher has the address.
//
// usher is the source of its own connections, which is what MASQUERADE does. SNAT chooses among this machine's addresses.
// Marks of packets, and chains that only set them, do nothing here but for -m mark's services of ipvsadm.
package nat
